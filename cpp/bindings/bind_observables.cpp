// The table of observables.
#include "featcore/observables.hpp"
#include "pybind11.hpp"

namespace featcore::bindings {

void bind_observables(py::module_& m) {
  m.def("observables", [] {
    py::list table;
    for (const ObservableEntry<double>& entry : observable_table<double>())
      table.append(py::make_tuple(entry.name, entry.dims, entry.per_split, entry.needs_signs));
    return table;
  });
}

}  // namespace featcore::bindings
