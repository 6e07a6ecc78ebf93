// Products of features with a few vectors in double, from features of either dtype: no copy of them
// is made, and threads are ours.
#pragma once

#include <algorithm>

#include "featcore/dense_products.hpp"
#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

namespace detail {

constexpr Index kRowsAnItem = 64;
constexpr Index kColumnsAnItem = 256;

// Rows of numbers, as the columns that they are to Eigen.
using Given = Eigen::Map<const ColMatrix<double>>;
using Taken = Eigen::Map<ColMatrix<double>>;

// A part of F, (n, m), in double: a sample a column.
template <class T>
ColMatrix<double> block(const T* F, Index m, Index first, Index samples, Index begin,
                        Index features) {
  ColMatrix<double> part(features, samples);
  for (Index i = 0; i < samples; ++i) {
    const T* row = F + (first + i) * m + begin;
    std::copy_n(row, features, part.data() + i * features);
  }
  return part;
}

}  // namespace detail

// out = C F^T, (k, n): F is (n, m), C is (k, m).
template <class T>
void predictions(Index n, Index m, const T* F, Index k, const double* C, const Team& team,
                 double* out) {
  const DefaultFloats floats;
  constexpr Index kDepth = 1024;
  const detail::Given coefficients(C, m, k);
  const double work = 2.0 * static_cast<double>(m) * static_cast<double>(k);
  team.for_work(work * static_cast<double>(n))
      .for_each(ceil_div(n, detail::kRowsAnItem), [&](Index item, const Worker& worker) {
        const Index first = item * detail::kRowsAnItem;
        const Index rows = std::min(detail::kRowsAnItem, n - first);
        ColMatrix<double> sum = ColMatrix<double>::Zero(rows, k);
        for (Index begin = 0; begin < m; begin += kDepth) {
          if (worker.stop(work * static_cast<double>(rows))) return;
          const Index depth = std::min(kDepth, m - begin);
          dense::add_left_turned(1, detail::block(F, m, first, rows, begin, depth),
                                 coefficients.middleRows(begin, depth), sum);
        }
        detail::Taken(out, n, k).middleRows(first, rows) = sum;
      });
}

// out = R F, (k, m): F is (n, m), R is (k, n).
template <class T>
void combinations(Index n, Index m, const T* F, Index k, const double* R, const Team& team,
                  double* out) {
  const DefaultFloats floats;
  constexpr Index kDepth = 256;
  const detail::Given weights(R, n, k);
  const double work = 2.0 * static_cast<double>(n) * static_cast<double>(k);
  team.for_work(work * static_cast<double>(m))
      .for_each(ceil_div(m, detail::kColumnsAnItem), [&](Index item, const Worker& worker) {
        const Index first = item * detail::kColumnsAnItem;
        const Index columns = std::min(detail::kColumnsAnItem, m - first);
        ColMatrix<double> sum = ColMatrix<double>::Zero(columns, k);
        for (Index begin = 0; begin < n; begin += kDepth) {
          if (worker.stop(work * static_cast<double>(columns))) return;
          const Index depth = std::min(kDepth, n - begin);
          dense::add(1, detail::block(F, m, begin, depth, first, columns),
                     weights.middleRows(begin, depth), sum);
        }
        detail::Taken(out, m, k).middleRows(first, columns) = sum;
      });
}

}  // namespace featcore
