#include "featcore/kernel_tiles.hpp"
#include "instances.hpp"

namespace featcore {
template class Kernel<double>;
template class Kernel<float>;
}  // namespace featcore
