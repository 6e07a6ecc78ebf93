// How this extension was built, and how fast the machine is under it.
#include <stdexcept>
#include <string>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/throughput.hpp"
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
  m.def("cpu_levels", [] {
    py::list levels;
    levels.append("baseline");
#if defined(__x86_64__) && defined(__GNUC__)
    // libgcc asks the operating system too: whether it saves the registers
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v3) levels.append("v3");
    if (v4) levels.append("v4");
#endif
    return levels;
  });
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
  m.def(
      "fma_rate",
      [](const std::string& dtype, int num_threads, double seconds) {
        if (dtype == "float32") return fma_rate<float>(num_threads, seconds);
        if (dtype == "float64") return fma_rate<double>(num_threads, seconds);
        throw std::invalid_argument("dtype must be float32 or float64");
      },
      py::arg("dtype"), py::arg("num_threads"), py::arg("seconds"),
      py::call_guard<py::gil_scoped_release>());  // safe: no Python object is touched
}

}  // namespace featcore::bindings
