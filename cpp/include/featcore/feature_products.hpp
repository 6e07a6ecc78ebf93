// Products of features with a few vectors in double, from features of either dtype: no copy of them
// is made, and threads are ours.
#pragma once

#include <algorithm>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

namespace detail {

constexpr Index kRowsAnItem = 64;
constexpr Index kColumnsAnItem = 256;

}  // namespace detail

// out = C F^T, (k, n): F is (n, m), C is (k, m).
template <class T>
void predictions(Index n, Index m, const T* F, Index k, const double* C, const Team& team,
                 double* out) {
  const DefaultFloats floats;
  constexpr Index kDepth = 1024;
  const ConstRows<double> coefficients(C, k, m);
  Rows<double> result(out, k, n);
  const double work = 2.0 * static_cast<double>(m) * static_cast<double>(k);
  team.for_work(work * static_cast<double>(n))
      .for_each(ceil_div(n, detail::kRowsAnItem), [&](Index item, const Worker& worker) {
        const Index first = item * detail::kRowsAnItem;
        const Index rows = std::min(detail::kRowsAnItem, n - first);
        ColMatrix<double> sum = ColMatrix<double>::Zero(k, rows);
        for (Index begin = 0; begin < m; begin += kDepth) {
          if (worker.stop(work * static_cast<double>(rows))) return;
          const Index depth = std::min(kDepth, m - begin);
          const RowMatrix<double> block =
              ConstRows<T>(F, n, m).block(first, begin, rows, depth).template cast<double>();
          sum.noalias() += coefficients.middleCols(begin, depth) * block.transpose();
        }
        result.middleCols(first, rows) = sum;
      });
}

// out = R F, (k, m): F is (n, m), R is (k, n).
template <class T>
void combinations(Index n, Index m, const T* F, Index k, const double* R, const Team& team,
                  double* out) {
  const DefaultFloats floats;
  constexpr Index kDepth = 256;
  const ConstRows<double> weights(R, k, n);
  Rows<double> result(out, k, m);
  const double work = 2.0 * static_cast<double>(n) * static_cast<double>(k);
  team.for_work(work * static_cast<double>(m))
      .for_each(ceil_div(m, detail::kColumnsAnItem), [&](Index item, const Worker& worker) {
        const Index first = item * detail::kColumnsAnItem;
        const Index columns = std::min(detail::kColumnsAnItem, m - first);
        RowMatrix<double> sum = RowMatrix<double>::Zero(k, columns);
        for (Index begin = 0; begin < n; begin += kDepth) {
          if (worker.stop(work * static_cast<double>(columns))) return;
          const Index depth = std::min(kDepth, n - begin);
          const RowMatrix<double> block =
              ConstRows<T>(F, n, m).block(begin, first, depth, columns).template cast<double>();
          sum.noalias() += weights.middleCols(begin, depth) * block;
        }
        result.middleCols(first, columns) = sum;
      });
}

}  // namespace featcore
