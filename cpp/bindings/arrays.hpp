// Pointers out of arrays. Python has made every array contiguous and of one dtype, where its user
// could see it; here nothing is converted, and shapes are checked once more.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/types.hpp"
#include "pybind11.hpp"

namespace featcore::bindings {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

template <class T>
const T* vector_data(const Array<T>& array, Index size, const char* name) {
  require(array.ndim() == 1 && array.shape(0) == size, std::string(name) + " has the wrong shape");
  return array.data();
}

// Null for None.
template <class T>
const T* optional_vector(const py::handle& object, Index size, const char* name) {
  if (object.is_none()) return nullptr;
  if (!py::isinstance<Array<T>>(object))
    throw py::type_error(std::string(name) + " has the wrong type");
  return vector_data(py::reinterpret_borrow<Array<T>>(object), size, name);
}

template <class T>
NetworkView<T> network_view(const Array<T>& W, const Array<T>& a) {
  require(W.ndim() == 2 && W.shape(0) > 0 && W.shape(1) > 0, "W must be a non-empty matrix");
  return {W.shape(0), W.shape(1), W.data(), vector_data(a, W.shape(0), "a")};
}

// A tuple (name, slope, offset, Hermite coefficients), and the memory that the activation points
// to.
class ActivationSpec {
 public:
  explicit ActivationSpec(const py::tuple& spec) {
    require(spec.size() == 4, "an activation is (name, slope, offset, coefficients)");
    const auto name = spec[0].cast<std::string>();
    const double slope = spec[1].cast<double>();
    const double offset = spec[2].cast<double>();
    coefficients_ = spec[3].cast<std::vector<double>>();
    for (const double number : coefficients_)
      require(std::isfinite(number), "the coefficients of an activation must be finite");
    require(std::isfinite(slope) && std::isfinite(offset),
            "slope and offset of an activation must be finite");
    sigma_ = name == "hermite" ? hermite_activation(coefficients_.data(),
                                                    static_cast<Index>(coefficients_.size()))
                               : activation_by_name(name, slope);
    sigma_.offset = offset;
  }
  ActivationSpec(const ActivationSpec&) = delete;
  ActivationSpec& operator=(const ActivationSpec&) = delete;
  ~ActivationSpec() = default;

  Activation sigma() const { return sigma_; }

 private:
  std::vector<double> coefficients_;
  Activation sigma_;
};

// The caller's list with its items as tuples, in a list of our own: a callback that changes the
// caller's cannot take the arrays away while they are read.
inline py::list held(const py::list& items) {
  py::list own;
  for (const py::handle item : items)
    own.append(py::tuple(py::reinterpret_borrow<py::object>(item)));
  return own;
}

// A tuple (x, y, clean_y or None, weights or None); the caller keeps the arrays alive.
template <class T>
SplitView<T> split_view(const py::tuple& split, Index d) {
  require(split.size() == 4, "a split is (x, y, clean_y, weights)");
  const py::object first = split[0];
  if (!py::isinstance<Array<T>>(first)) throw py::type_error("x has the wrong type");
  const auto x = py::reinterpret_borrow<Array<T>>(first);
  require(x.ndim() == 2 && x.shape(0) > 0 && x.shape(1) == d, "x has the wrong shape");
  const Index n = x.shape(0);
  const T* y = optional_vector<T>(split[1], n, "y");
  require(y != nullptr, "y is required");
  return {n,
          d,
          x.data(),
          y,
          optional_vector<T>(split[2], n, "clean_y"),
          optional_vector<T>(split[3], n, "weights")};
}

template <class T>
std::vector<SplitView<T>> split_views(const py::list& splits, Index d) {
  std::vector<SplitView<T>> views;
  for (const py::handle split : splits) views.push_back(split_view<T>(split.cast<py::tuple>(), d));
  require(!views.empty(), "at least one split is required");
  return views;
}

}  // namespace featcore::bindings
