// Kernels are compiled once a module, in kernels.cpp.
#pragma once

#include "featcore/kernel.hpp"

namespace featcore {
extern template class Kernel<double>;
extern template class Kernel<float>;
}  // namespace featcore
