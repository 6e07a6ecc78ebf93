// The state of a form as Python keeps it: a dict of matrices.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "featcore/form.hpp"

namespace featcore::bindings {

// A form's state from a dict of arrays, and back.
template <class T>
FormState<T> form_state(const py::dict& dict) {
  FormState<T> state;
  for (const auto& [name, value] : dict) {
    if (!py::isinstance<Array<T>>(value)) throw py::type_error("a state array has the wrong type");
    const auto array = py::reinterpret_borrow<Array<T>>(value);
    require(array.ndim() == 2, "a state array must be a matrix");
    state.push_back({name.template cast<std::string>(),
                     array.shape(0),
                     array.shape(1),
                     {array.data(), array.data() + array.size()}});
  }
  return state;
}

template <class T>
py::dict form_dict(FormState<T>&& state) {
  py::dict dict;
  for (FormArray<T>& array : state) {
    dict[py::str(array.name)] = Array<T>({array.rows, array.columns}, array.values.data());
    array.values = std::vector<T>();
  }
  return dict;
}

}  // namespace featcore::bindings
