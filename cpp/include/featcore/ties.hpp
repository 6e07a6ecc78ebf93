// Weights that lie on the hyperplanes of samples, carried over to other coordinates: rounding would
// put them on either side, where what is exact in the coordinates given leaves them between.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/weights.hpp"

namespace featcore {

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
  team.for_work(4.0 * static_cast<double>(net.m) * static_cast<double>(n * rank))
      .for_each(ceil_div(net.m, kRows), [&](Index block, const Worker& worker) {
        std::vector<Index> tied;
        for (Index j = block * kRows; j < std::min(net.m, (block + 1) * kRows); ++j) {
          if (worker.stop(2.0 * static_cast<double>(n * rank))) return;
          T* w = W + j * rank;
          const double near = kNear * detail::norm(net.W + j * d, d);
          tied.clear();
          for (Index i = 0; i < n; ++i) {
            const double length = lengths[static_cast<std::size_t>(i)];
            if (length > 0 && std::abs(dot(w, inside + i * rank, rank)) <= near * length &&
                dot(net.W + j * d, split.x + i * d, d) == 0)
              tied.push_back(i);
          }
          if (tied.empty()) continue;
          const auto count = static_cast<Index>(tied.size());
          ColMatrix<double> rows(count, rank);
          for (Index p = 0; p < count; ++p) {
            const Index i = tied[static_cast<std::size_t>(p)];
            for (Index k = 0; k < rank; ++k)
              rows(p, k) =
                  static_cast<double>(inside[i * rank + k]) / lengths[static_cast<std::size_t>(i)];
          }
          Eigen::CompleteOrthogonalDecomposition<ColMatrix<double>> solver;
          // Rounding of the coordinates makes no direction of its own.
          solver.setThreshold(kNear);
          solver.compute(rows);
          if (solver.rank() == rank) {
            std::fill_n(w, rank, T(0));
            continue;
          }
          Vector<double> moved(rank);
          for (Index k = 0; k < rank; ++k) moved(k) = static_cast<double>(w[k]);
          moved -= solver.solve(rows * moved);
          for (Index k = 0; k < rank; ++k) w[k] = static_cast<T>(moved(k));
        }
      });
}

}  // namespace featcore
