// Templates that several files use and that take long to compile are compiled once, in this folder:
// a Python module has its own, and C++ tests share theirs. Of forms and frames others see
// declarations only (form.hpp, flow_frame.hpp).
#pragma once

#include <vector>

#include "featcore/kernel.hpp"
#include "featcore/observables.hpp"

namespace featcore {
extern template class Kernel<double>;
extern template class Kernel<float>;
extern template const std::vector<ObservableEntry<double>>& observable_table();
extern template const std::vector<ObservableEntry<float>>& observable_table();
}  // namespace featcore
