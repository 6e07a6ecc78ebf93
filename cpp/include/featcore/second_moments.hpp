// F^T F and F F^T in double, from features of either dtype: half of the products, in the vectors of
// the kernels. What is solved with them afterwards needs the digits that float32 sums would lose.
#pragma once

#include <algorithm>
#include <vector>

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// F is (n, m). Writes F^T F, (m, m), if `of_columns`, else F F^T, (n, n).
template <class T>
void second_moments(Index n, Index m, const T* F, bool of_columns, const Team& whole_team,
                    double* out) {
  const DefaultFloats floats;
  using S = Simd<double>;
  constexpr Index kPanel = S::kPanel;
  constexpr Index kTile = Partition<double>::kSamples;
  const Index terms = of_columns ? n : m;  // of a sum
  const Index size = of_columns ? m : n;
  const Index along = of_columns ? m : 1;   // from one term to the next
  const Index across = of_columns ? 1 : m;  // from one row of the result to the next
  const PanelShape<double> shape{size, size};
  const Team team = whole_team.for_work(static_cast<double>(terms) * static_cast<double>(size) *
                                        static_cast<double>(size));
  team.monitor().stage(1, static_cast<double>(terms) * static_cast<double>(size) *
                              static_cast<double>(size) / team.threads());
  Buffer<double> sums(shape.panels() * shape.stride());
  Buffer<double> packed = Buffer<double>::unset(std::min(kTile, terms) * size);
  std::vector<Buffer<double>> scratch(static_cast<std::size_t>(team.threads()));
  // A tile of terms at a time: every panel reads it.
  for (Index first = 0; first < terms; first += kTile) {
    const Index count = std::min(kTile, terms - first);
    const T* tile_of_F = F + first * along;
    constexpr Index kRun = 64 * kMicroBlock;
    team.for_each(ceil_div(size, kRun), [&](Index run, const Worker&) {
      const Index begin = run * kRun;
      micro::blocks(std::min(kRun, size - begin), [&](auto width, Index k) {
        double* block = packed.data() + (begin + k) * count;
        const T* from = tile_of_F + (begin + k) * across;
        for (Index i = 0; i < count; ++i)
          for (Index r = 0; r < width(); ++r)
            block[i * width() + r] = static_cast<double>(from[i * along + r * across]);
      });
    });
    team.for_each(shape.panels(), [&](Index p, const Worker& worker) {
      // Rows from the diagonal on, in the blocks that were packed.
      const Index start = p * kPanel / kMicroBlock * kMicroBlock;
      if (worker.stop(2.0 * static_cast<double>(count * kPanel * (size - start)))) return;
      Buffer<double>& tile = scratch[static_cast<std::size_t>(worker.id)];
      if (tile.size() == 0) tile = Buffer<double>(kTile * kPanel);
      const Index own = shape.neurons(p);
      for (Index i = 0; i < count; ++i) {
        const T* from = tile_of_F + i * along + p * kPanel * across;
        double* row = tile.data() + i * kPanel;
        for (Index l = 0; l < own; ++l) row[l] = static_cast<double>(from[l * across]);
        std::fill(row + own, row + kPanel, 0.0);
      }
      double* h = sums.data() + p * shape.stride();
      micro::with_vectors(shape.vectors(p), [&](auto vectors) {
        constexpr int V = vectors();
        micro::blocks(size - start, [&](auto inputs, Index block) {
          const Index k = start + block;
          micro::sums<double, V, inputs()>(
              packed.data() + k * count, count, h + k * kPanel,
              [&](Index i, typename S::Vector* b) __attribute__((always_inline)) {
                micro::unroll<V>(
                    FEATCORE_EACH(v) { b[v] = S::load(tile.data() + i * kPanel + v * S::kLanes); });
              });
        });
      });
    });
  }
  team.for_each(shape.panels(), [&](Index p, const Worker&) {
    const double* h = sums.data() + p * shape.stride();
    const Index begin = p * kPanel;
    const Index own = shape.neurons(p);
    for (Index k = begin; k < size; ++k) {
      const Index most = std::min(own, k - begin + 1);
      std::copy_n(h + k * kPanel, most, out + k * size + begin);
    }
    for (Index l = 0; l < own; ++l)
      for (Index k = begin + l + 1; k < size; ++k) out[(begin + l) * size + k] = h[k * kPanel + l];
  });
}

}  // namespace featcore
