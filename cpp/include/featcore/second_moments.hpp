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
  constexpr Index kBudget = 16 * 1024 * 1024 / static_cast<Index>(sizeof(double));
  const Index terms = of_columns ? n : m;  // of a sum
  const Index size = of_columns ? m : n;
  const auto entry = [&](Index term, Index k) {
    return static_cast<double>(F[of_columns ? term * m + k : k * m + term]);
  };
  const PanelShape<double> shape{size, size};
  const Team team = whole_team.for_work(static_cast<double>(terms) * static_cast<double>(size) *
                                        static_cast<double>(size));
  Buffer<double> sums(shape.panels() * shape.stride());
  const Index slab = std::max<Index>(1, kBudget / size / kTile) * kTile;
  Buffer<double> packed = Buffer<double>::unset(std::min(slab, terms) * size);
  std::vector<Buffer<double>> scratch(static_cast<std::size_t>(team.threads()));
  for (Index first = 0; first < terms; first += slab) {
    const Index count = std::min(slab, terms - first);
    const auto length = [&](Index begin) { return std::min(kTile, count - begin); };
    // As micro::sums reads them; every panel does.
    team.for_each(ceil_div(count, kTile), [&](Index t, const Worker&) {
      const Index begin = t * kTile;
      micro::blocks(size, [&](auto width, Index k) {
        double* block = packed.data() + begin * size + k * length(begin);
        for (Index i = 0; i < length(begin); ++i)
          for (Index r = 0; r < width(); ++r)
            block[i * width() + r] = entry(first + begin + i, k + r);
      });
    });
    team.for_each(shape.panels(), [&](Index p, const Worker& worker) {
      Buffer<double>& tile = scratch[static_cast<std::size_t>(worker.id)];
      if (tile.size() == 0) tile = Buffer<double>(kTile * kPanel);
      double* h = sums.data() + p * shape.stride();
      // Rows from the diagonal on, in the blocks that were packed.
      const Index start = p * kPanel / kMicroBlock * kMicroBlock;
      for (Index begin = 0; begin < count; begin += kTile) {
        if (worker.stop(2.0 * static_cast<double>(kTile * kPanel * (size - start)))) return;
        for (Index i = 0; i < length(begin); ++i)
          for (Index l = 0; l < kPanel; ++l)
            tile.data()[i * kPanel + l] =
                l < shape.neurons(p) ? entry(first + begin + i, p * kPanel + l) : 0;
        micro::with_vectors(shape.vectors(p), [&](auto vectors) {
          constexpr int V = vectors();
          micro::blocks(size - start, [&](auto inputs, Index block) {
            const Index k = start + block;
            micro::sums<double, V, inputs()>(
                packed.data() + begin * size + k * length(begin), length(begin), h + k * kPanel,
                [&](Index i, typename S::Vector* b) __attribute__((always_inline)) {
                  micro::unroll<V>(FEATCORE_EACH(v) {
                    b[v] = S::load(tile.data() + i * kPanel + v * S::kLanes);
                  });
                });
          });
        });
      }
    });
  }
  team.for_each(shape.panels(), [&](Index p, const Worker&) {
    for (Index l = 0; l < shape.neurons(p); ++l) {
      const Index j = p * kPanel + l;
      for (Index k = j; k < size; ++k)
        out[k * size + j] = out[j * size + k] = sums.data()[p * shape.stride() + k * kPanel + l];
    }
  });
}

}  // namespace featcore
