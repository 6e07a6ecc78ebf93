// Weights that lie on the hyperplanes of samples, carried over to other coordinates: rounding would
// put them on either side, where what is exact in the coordinates given leaves them between.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/span.hpp"
#include "featcore/weights.hpp"

namespace featcore {

namespace detail {

// Takes from w what rounding left of it along the samples `tied`.
template <class T>
void put_back(const std::vector<Index>& tied, Index rank, const T* inside,
              const std::vector<double>& lengths, double near, T* w) {
  if (tied.empty() || std::all_of(w, w + rank, [](T value) { return value == T(0); })) return;
  const auto count = static_cast<Index>(tied.size());
  std::vector<double> rows(static_cast<std::size_t>(count * rank));
  for (Index p = 0; p < count; ++p) {
    const Index i = tied[static_cast<std::size_t>(p)];
    for (Index k = 0; k < rank; ++k)
      rows[static_cast<std::size_t>(p * rank + k)] =
          static_cast<double>(inside[i * rank + k]) / lengths[static_cast<std::size_t>(i)];
  }
  Monitor quiet;  // this is the work of one thread of many
  // Rounding of the coordinates makes no direction of its own.
  const std::vector<double> basis =
      span_basis(count, rank, rows.data(), rank, Team(1, quiet), near);
  if (static_cast<Index>(basis.size()) == rank * rank) {
    std::fill_n(w, rank, T(0));
    return;
  }
  std::vector<double> moved(w, w + rank);
  for (auto q = basis.begin(); q != basis.end(); q += rank) {
    const double along = std::inner_product(moved.begin(), moved.end(), q, 0.0);
    for (Index k = 0; k < rank; ++k) moved[static_cast<std::size_t>(k)] -= along * q[k];
  }
  std::transform(moved.begin(), moved.end(), w, [](double value) { return static_cast<T>(value); });
}

}  // namespace detail

// W, (m, rank), are the weights of `net` in coordinates in which the samples of `split` are
// `inside`, (n, rank). Where <w_j, x_i> = 0 to the last bit, w_j is put back on that hyperplane;
// where that holds for samples that span the coordinates, it is 0.
template <class T>
void keep_ties(const NetworkView<T>& net, const SplitView<T>& split, Index rank, const T* inside,
               const Team& team, T* W) {
  const Index n = split.n;
  const Index d = net.d;
  std::vector<double> lengths(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i)
    lengths[static_cast<std::size_t>(i)] = detail::norm(split.x + i * d, d);
  const auto dot = [](const T* p, const T* q, Index count) {
    double sum = 0;
    for (Index k = 0; k < count; ++k) sum += static_cast<double>(p[k]) * static_cast<double>(q[k]);
    return sum;
  };
  // Roundings of z that are worth an exact look.
  constexpr double kNear = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
  constexpr Index kRows = 16;
  constexpr Index kColumns = 256;
  const Team sized =
      team.for_work(2.0 * static_cast<double>(net.m) * static_cast<double>(n * rank));
  sized.for_each(ceil_div(net.m, kRows), [&](Index block, const Worker& worker) {
    const Index first = block * kRows;
    const Index count = std::min(kRows, net.m - first);
    std::vector<std::vector<Index>> ties(static_cast<std::size_t>(count));
    const ConstRows<T> weights(W + first * rank, count, rank);
    RowMatrix<T> z;
    double near[kRows];
    for (Index l = 0; l < count; ++l) near[l] = kNear * detail::norm(net.W + (first + l) * d, d);
    for (Index i = 0; i < n; i += kColumns) {
      if (worker.stop(2.0 * static_cast<double>(count * kColumns * rank))) return;
      const Index width = std::min(kColumns, n - i);
      z.noalias() = weights * ConstRows<T>(inside + i * rank, width, rank).transpose();
      for (Index l = 0; l < count; ++l) {
        const T* w = net.W + (first + l) * d;
        for (Index c = 0; c < width; ++c) {
          const double length = lengths[static_cast<std::size_t>(i + c)];
          if (length > 0 && std::abs(static_cast<double>(z(l, c))) <= near[l] * length &&
              dot(w, split.x + (i + c) * d, d) == 0)
            ties[static_cast<std::size_t>(l)].push_back(i + c);
        }
      }
    }
    for (Index l = 0; l < count; ++l)
      detail::put_back(ties[static_cast<std::size_t>(l)], rank, inside, lengths, kNear,
                       W + (first + l) * rank);
  });
}

}  // namespace featcore
