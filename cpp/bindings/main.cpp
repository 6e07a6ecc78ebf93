#include "featcore/parallel.hpp"
#include "pybind11.hpp"

namespace featcore::bindings {
void bind_build(py::module_& m);
void bind_descent(py::module_& m);
void bind_flow(py::module_& m);
void bind_gradient(py::module_& m);
void bind_observables(py::module_& m);
void bind_ridge(py::module_& m);
}  // namespace featcore::bindings

// The name is given by CMake: one module an instruction set.
PYBIND11_MODULE(FEATCORE_MODULE, m, py::mod_gil_not_used()) {
  // before anybody can fork: another library may use the same OpenMP threads
  featcore::detail::watch_forks();
  m.doc() =
      "Compiled kernels of featcore. Private: use the Python functions, which check their "
      "arguments.";
  featcore::bindings::bind_build(m);
  featcore::bindings::bind_descent(m);
  featcore::bindings::bind_flow(m);
  featcore::bindings::bind_gradient(m);
  featcore::bindings::bind_observables(m);
  featcore::bindings::bind_ridge(m);
}
