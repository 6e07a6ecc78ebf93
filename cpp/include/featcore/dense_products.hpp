// Products of blocks of matrices in double, by Eigen: three functions, which whoever multiplies
// calls. A product written out is compiled once more wherever it stands, a second each.
#pragma once

#include "featcore/eigen.hpp"

namespace featcore::dense {

// Columns may lie apart.
using Columns = Eigen::Ref<const ColMatrix<double>, 0, Eigen::OuterStride<>>;
using Sums = Eigen::Ref<ColMatrix<double>, 0, Eigen::OuterStride<>>;

// C += s A B
[[gnu::noinline]] inline void add(double s, const Columns& A, const Columns& B, Sums C) {
  C.noalias() += s * A * B;
}

// C += s A' B
[[gnu::noinline]] inline void add_left_turned(double s, const Columns& A, const Columns& B,
                                              Sums C) {
  C.noalias() += s * A.transpose() * B;
}

// C += s A B'
[[gnu::noinline]] inline void add_right_turned(double s, const Columns& A, const Columns& B,
                                               Sums C) {
  C.noalias() += s * A * B.transpose();
}

}  // namespace featcore::dense
