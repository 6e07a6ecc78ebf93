// Templates that several files use and that take long to compile are compiled once a module:
// kernels in kernels.cpp, forms and frames, whose definitions others do not see, in forms.cpp,
// observables in bind_observables.cpp.
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
