// The span of samples: an orthonormal basis, where it is smaller than the space.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/spectrum.hpp"
#include "featcore/weights.hpp"

namespace featcore {

// Whether the rows of x, (n, d), may be linearly dependent (n < d), or fail to span the space: a
// quick look at the smaller Gram matrix, which knows singular values to half of the digits only.
template <class T>
bool may_lack_rank(Index n, Index d, const T* x, const Team& team) {
  const NetworkView<T> rows{n, d, x, nullptr};
  const double top = static_cast<double>(ConstRows<T>(x, n, d).cwiseAbs().maxCoeff());
  if (!(top > 0)) return true;
  const ColMatrix<double> gram = detail::gram_matrix(rows, d <= n, top, team);
  constexpr double kSuspicious = 1e-11;
  const Eigen::LLT<ColMatrix<double>> factor(gram);
  if (factor.info() != Eigen::Success) return true;
  const double least = factor.matrixLLT().diagonal().minCoeff();
  return least * least < kSuspicious * gram.diagonal().maxCoeff();
}

// Whether coordinates in the span of the samples serve as well as those given. They are known to
// rounding of |w| |x|, where a product of w and x is to that of its largest term: the same unless a
// large input drowns the others, which a weight of zero may hide. Some inputs may be small, as a
// few pixels at the border always are.
template <class T>
bool inputs_are_alike(Index n, Index d, const T* x) {
  const Vector<double> largest =
      ConstRows<T>(x, n, d).cwiseAbs().colwise().maxCoeff().transpose().template cast<double>();
  std::vector<double> sizes;
  for (Index k = 0; k < d; ++k) {
    if (!(largest(k) > 0)) continue;  // an input that no sample has
    double sum = 0;
    for (Index i = 0; i < n; ++i) {
      const double part = static_cast<double>(x[i * d + k]) / largest(k);
      sum += part * part;
    }
    sizes.push_back(largest(k) * std::sqrt(sum));
  }
  if (sizes.empty()) return true;
  constexpr double kSpread = 1024;
  const auto small = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 10);
  std::nth_element(sizes.begin(), small, sizes.end());
  return *std::max_element(small, sizes.end()) <= kSpread * *small;
}

// Orthonormal rows that span those of x, (rank, d), or nothing if there are more than `most`.
// Gram-Schmidt with pivots, each vector orthogonalised twice. Rows count by their direction,
// however short: what is left out is rounding of each row, not of the longest, and of double also
// where T is float, whose numbers are what they are: 1e-7 of a row is no rounding, unless `nothing`
// says so. A zero x gives one arbitrary vector.
template <class T>
std::vector<T> span_basis(Index n, Index d, const T* x, Index most, const Team& whole_team,
                          double nothing = 64 * std::numeric_limits<double>::epsilon()) {
  constexpr Index kRows = 32;
  const Team team = whole_team.for_work(4.0 * static_cast<double>(n) * static_cast<double>(d));
  RowMatrix<double> rest = ConstRows<T>(x, n, d).template cast<double>();
  std::vector<double> norms(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    const double length = detail::norm(x + i * d, d);
    if (length > 0) rest.row(i) = rest.row(i) / length;
    norms[static_cast<std::size_t>(i)] = length > 0 ? 1 : 0;
  }
  RowMatrix<double> basis(0, d);
  Index rank = 0;
  while (true) {
    const auto pivot = std::max_element(norms.begin(), norms.end());
    if (!(*pivot > nothing) || rank == d) break;
    if (rank == most) return {};
    if (basis.rows() == rank)
      basis.conservativeResize(std::min({d, n, std::max<Index>(16, 2 * rank)}), Eigen::NoChange);
    Eigen::RowVectorXd q = rest.row(pivot - norms.begin()) / *pivot;
    const auto known = basis.topRows(rank);
    q -= (q * known.transpose()) * known;
    q.normalize();
    basis.row(rank++) = q;
    team.for_each(ceil_div(n, kRows), [&](Index block, const Worker&) {
      for (Index i = block * kRows; i < std::min(n, (block + 1) * kRows); ++i) {
        rest.row(i) -= rest.row(i).dot(q) * q;
        norms[static_cast<std::size_t>(i)] = rest.row(i).norm();
      }
    });
    norms[static_cast<std::size_t>(pivot - norms.begin())] = 0;
  }
  if (rank == 0) {
    basis = RowMatrix<double>::Identity(1, d);
    rank = 1;
  }
  std::vector<T> result(static_cast<std::size_t>(rank * d));
  Rows<T>(result.data(), rank, d) = basis.topRows(rank).template cast<T>();
  return result;
}

}  // namespace featcore
