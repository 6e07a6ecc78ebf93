// A B^T for rows of A and B, shared out over blocks of A whose cut does not depend on the threads.
#pragma once

#include <algorithm>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

namespace detail {

// `needed(block end)` columns of the rows before it.
template <class T, class Needed>
void row_products(Index p, const T* A, Index q, const T* B, Index depth, const Team& whole_team,
                  T* out, Needed&& needed) {
  constexpr Index kRows = 64;
  constexpr Index kPromptWork = 100'000'000;  // between two looks for a stop
  const Index columns = std::clamp<Index>(kPromptWork / (kRows * depth), 1, q);
  const double work = 2.0 * static_cast<double>(p) * static_cast<double>(q * depth);
  whole_team.for_work(work).for_each(ceil_div(p, kRows), [&](Index block, const Worker& worker) {
    const Index first = block * kRows;
    const Index rows = std::min(kRows, p - first);
    // In memory of our own throughout: for small products Eigen's order depends on the address.
    const RowMatrix<T> left = ConstRows<T>(A + first * depth, rows, depth);
    RowMatrix<T> right;
    RowMatrix<T> part;
    Rows<T> result(out + first * q, rows, q);
    const Index end = needed(first + rows);
    for (Index k = 0; k < end && !worker.stop(); k += columns) {
      const Index width = std::min(columns, end - k);
      right = ConstRows<T>(B + k * depth, width, depth);
      part.noalias() = left * right.transpose();
      result.middleCols(k, width) = part;
    }
  });
}

}  // namespace detail

// A is (p, depth), B (q, depth), out (p, q).
template <class T>
void row_products(Index p, const T* A, Index q, const T* B, Index depth, const Team& team, T* out) {
  detail::row_products(p, A, q, B, depth, team, out, [q](Index) { return q; });
}

// A A^T, (p, p): half of the products, and their mirror image.
template <class T>
void row_gram(Index p, const T* A, Index depth, const Team& team, T* out) {
  detail::row_products(p, A, p, A, depth, team, out, [](Index end) { return end; });
  for (Index i = 0; i < p; ++i)
    for (Index k = 0; k < i; ++k) out[k * p + i] = out[i * p + k];
}

}  // namespace featcore
