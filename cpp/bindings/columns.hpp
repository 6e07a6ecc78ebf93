// Columns of a history, from Python's description of them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "featcore/activation.hpp"
#include "featcore/recorder.hpp"

namespace featcore::bindings {

// Numbers a (row, split) of an observable takes.
template <class T>
Index column_size(const ObservableEntry<T>& entry, const ObservableRequest& request, Index m,
                  Index n) {
  Index size = 1;
  const std::string dims = std::string(entry.dims) + " ";
  for (std::size_t begin = 0, end = 0; (end = dims.find(' ', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string dim = dims.substr(begin, end - begin);
    if (dim == "neuron") size *= m;
    if (dim == "sample") size *= n;
    if (dim == "direction") size *= request.direction_count;
    if (dim == "sign") size *= 2;
    if (dim == "statistic") size *= 4;
    if (dim == "rank") size *= request.count;
  }
  return size;
}

// A list of (name, directions or None, count, absolute, splits, out); `out` has `rows` rows.
template <class T>
std::vector<Column> columns(const py::list& list, const NetworkView<T>& net,
                            const std::vector<SplitView<T>>& splits, Activation activation,
                            Index rows) {
  std::vector<Column> result;
  for (const py::handle item : list) {
    const auto spec = item.cast<py::tuple>();
    require(spec.size() == 6, "a column is (name, directions, count, absolute, splits, out)");
    Column column;
    column.request.name = spec[0].cast<std::string>();
    const ObservableEntry<T>& entry = find_observable<T>(column.request.name);
    require(!entry.needs_signs || activation.by_sign(),
            column.request.name + " needs an activation whose slope is told by a sign");
    const py::object directions = spec[1];
    if (!directions.is_none()) {
      if (!py::isinstance<Array<double>>(directions))
        throw py::type_error("directions have the wrong type");
      const auto array = py::reinterpret_borrow<Array<double>>(directions);
      require(array.ndim() == 2 && array.shape(1) == net.d, "directions have the wrong shape");
      column.request.directions = array.data();
      column.request.direction_count = array.shape(0);
    }
    column.request.count = spec[2].cast<Index>();
    column.request.absolute = spec[3].cast<bool>();
    column.splits = spec[4].cast<std::vector<Index>>();
    require(!column.splits.empty(), "a column needs a split");
    for (const Index k : column.splits)
      require(k >= 0 && k < static_cast<Index>(splits.size()), "a column names an unknown split");
    column.size = column_size(entry, column.request, net.m, splits.front().n);
    require(column.size > 0, column.request.name + " has no entries");
    const py::object out_object = spec[5];
    if (!py::isinstance<Array<double>>(out_object)) throw py::type_error("out has the wrong type");
    auto out = py::reinterpret_borrow<Array<double>>(out_object);
    require(out.size() == rows * static_cast<Index>(column.splits.size()) * column.size,
            "out has the wrong size");
    column.out = out.mutable_data();
    result.push_back(std::move(column));
  }
  return result;
}

}  // namespace featcore::bindings
