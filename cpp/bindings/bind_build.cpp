// How this extension was built.
#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "pybind11.hpp"

#ifndef FEATCORE_VERSION
#error "FEATCORE_VERSION is set by CMakeLists.txt"
#endif
#ifndef FEATCORE_ISA_NAME
#define FEATCORE_ISA_NAME "baseline"
#endif

#define FEATCORE_STRING_(x) #x
#define FEATCORE_STRING(x) FEATCORE_STRING_(x)

namespace featcore::bindings {

void bind_build(py::module_& m) {
  m.attr("__version__") = FEATCORE_VERSION;
  m.def("build_info", [] {
    py::dict info;
    info["version"] = FEATCORE_VERSION;
    info["isa"] = FEATCORE_ISA_NAME;
    info["openmp"] = has_openmp();
    info["eigen"] = FEATCORE_STRING(EIGEN_WORLD_VERSION) "." FEATCORE_STRING(
        EIGEN_MAJOR_VERSION) "." FEATCORE_STRING(EIGEN_MINOR_VERSION);
#if defined(__clang__)
    info["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
    info["compiler"] = "gcc " __VERSION__;
#else
    info["compiler"] = "unknown";
#endif
    info["simd"] = Eigen::SimdInstructionSetsInUse();
    return info;
  });
}

}  // namespace featcore::bindings
