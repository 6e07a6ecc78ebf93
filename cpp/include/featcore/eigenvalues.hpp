// Largest eigenvalues of symmetric matrices.
#pragma once

#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"

namespace featcore {

// The largest `count` eigenvalues of a positive semidefinite matrix, descending. Throws Stopped.
// Defined in eigensolvers.hpp, which takes long to compile.
template <class S>
std::vector<S> largest_eigenvalues(const ColMatrix<S>& matrix, Index count, const Team& team);

}  // namespace featcore
