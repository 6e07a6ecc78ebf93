// Solutions of linear systems of whatever rank: of all that come closest, the shortest.
#pragma once

#include "featcore/eigen.hpp"

namespace featcore {

// Right-hand sides are of two types: Eigen's decomposition takes seconds to compile for each.
class LeastNorm {
 public:
  LeastNorm() = default;
  explicit LeastNorm(const ColMatrix<double>& matrix) { compute(matrix); }
  // Pivots up to `dependent` of the largest count as zero.
  LeastNorm(const ColMatrix<double>& matrix, double dependent) {
    factors_.setThreshold(dependent);
    compute(matrix);
  }

  void compute(const ColMatrix<double>& matrix) { factors_.compute(matrix); }

  ColMatrix<double> solve(const ColMatrix<double>& right) const { return factors_.solve(right); }

  Vector<double> solve_one(const Vector<double>& right) const { return factors_.solve(right); }

  ColMatrix<double> pseudoinverse() const {
    return solve(ColMatrix<double>::Identity(factors_.rows(), factors_.rows()));
  }

 private:
  Eigen::CompleteOrthogonalDecomposition<ColMatrix<double>> factors_;
};

}  // namespace featcore
