#include "featcore/eigensolvers.hpp"

namespace featcore {
template std::vector<double> largest_eigenvalues(const ColMatrix<double>&, Index, const Team&);
}  // namespace featcore
