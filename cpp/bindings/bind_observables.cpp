// The table of observables.
#include "arrays.hpp"
#include "featcore/observables.hpp"
#include "instances.hpp"

namespace featcore::bindings {

namespace {

template <class T>
Array<double> balances(const Array<T>& W, const Array<T>& a) {
  const DefaultFloats floats;
  const NetworkView<T> net = network_view(W, a);
  Array<double> out(net.m);
  for (Index j = 0; j < net.m; ++j) out.mutable_at(j) = balance(net, j);
  return out;
}

}  // namespace

void bind_observables(py::module_& m) {
  m.def("observables", [] {
    py::list table;
    for (const ObservableEntry<double>& entry : observable_table<double>())
      table.append(py::make_tuple(entry.name, entry.dims, entry.per_split, entry.needs_signs));
    return table;
  });
  m.def("balance", &balances<double>, py::arg("W").noconvert(), py::arg("a").noconvert());
  m.def("balance", &balances<float>, py::arg("W").noconvert(), py::arg("a").noconvert());
}

}  // namespace featcore::bindings
