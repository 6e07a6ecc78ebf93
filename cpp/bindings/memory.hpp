// A run that does not fit is refused before it begins, with the number.
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "featcore/types.hpp"
#include "pybind11.hpp"

namespace featcore::bindings {

// More memory is needed than there is.
struct DoesNotFit : std::exception {
  DoesNotFit(std::string form_, double bytes_) : form(std::move(form_)), bytes(bytes_) {}

  std::string form;
  double bytes;
};

// Raises MemoryError.
template <class T>
[[noreturn]] void raise_does_not_fit(const DoesNotFit& much, const NetworkView<T>& net, Index n,
                                     double memory) {
  std::ostringstream text;
  text.precision(3);
  text << "this run needs " << much.bytes / (1 << 30) << " GiB beyond its data (n=" << n
       << ", d=" << net.d << ", m=" << net.m << ", form=" << much.form << ") and "
       << memory / (1 << 30) << " GiB are free; use fewer samples or neurons, float32, or another "
       << "form";
  py::set_error(PyExc_MemoryError, text.str().c_str());
  throw py::error_already_set();
}

}  // namespace featcore::bindings
