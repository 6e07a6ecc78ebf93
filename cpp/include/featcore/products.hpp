// A B^T for rows of A and B, shared out over blocks of A whose cut does not depend on the threads.
#pragma once

#include <algorithm>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// A is (p, depth), B (q, depth), out (p, q).
template <class T>
void row_products(Index p, const T* A, Index q, const T* B, Index depth, const Team& whole_team,
                  T* out) {
  constexpr Index kRows = 64;
  constexpr Index kPromptWork = 100'000'000;  // between two looks for a stop
  const Index columns = std::clamp<Index>(kPromptWork / (kRows * depth), 1, q);
  const double work = 2.0 * static_cast<double>(p) * static_cast<double>(q * depth);
  whole_team.for_work(work).for_each(ceil_div(p, kRows), [&](Index block, const Worker& worker) {
    const Index first = block * kRows;
    const Index rows = std::min(kRows, p - first);
    const ConstRows<T> left(A + first * depth, rows, depth);
    Rows<T> result(out + first * q, rows, q);
    for (Index k = 0; k < q && !worker.stop(); k += columns) {
      const Index width = std::min(columns, q - k);
      result.middleCols(k, width).noalias() =
          left * ConstRows<T>(B + k * depth, width, depth).transpose();
    }
  });
}

}  // namespace featcore
