// How the (neuron, sample) plane is cut: a function of the shape and the instruction set alone,
// never of the number of threads, so that every sum has one fixed order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "featcore/simd.hpp"
#include "featcore/types.hpp"

namespace featcore {

// Panels that take the same samples one after another where not even one panel's weights stay near:
// what comes from far is read once for all of them.
constexpr Index kPanelsTogether = 4;

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

inline Index positive(Index size, const char* name) {
  if (size < 1) throw std::invalid_argument(std::string(name) + " must be positive");
  return size;
}

// `count` items cut into `pieces` runs of nearly equal length, multiples of `unit` but the last.
struct Cut {
  Index count = 0;
  Index length = 1;  // of every piece but the last

  Cut() = default;
  Cut(Index count_, Index pieces, Index unit)
      : count(count_), length(std::max(unit, ceil_div(ceil_div(count_, pieces), unit) * unit)) {}

  Index pieces() const { return ceil_div(count, length); }
  Index begin(Index piece) const { return piece * length; }
  Index end(Index piece) const { return std::min(count, (piece + 1) * length); }
};

template <class T>
struct Partition {
  // Of a tile, at most: what is weighed for one panel stays in the first-level cache.
  static constexpr Index kSamples =
      24 * 1024 / (Simd<T>::kPanel * static_cast<Index>(sizeof(T))) / kMicroBlock * kMicroBlock;

  Cut sample_tiles;
  Cut panel_chunks;   // each sums its own outputs
  Cut sample_groups;  // of sample tiles; each sums its own gradients

  Partition(Index n, Index d, Index m)
      : sample_tiles(positive(n, "n"), ceil_div(n, samples(positive(d, "d"))), kMicroBlock) {
    const Index panels = ceil_div(positive(m, "m"), Simd<T>::kPanel);
    constexpr Index kFewChunks = 16;
    // Partial sums take (chunks x n) and (groups x m x d) numbers: bounded in number, for threads
    // to share, and in bytes, for memory not to matter.
    constexpr Index kMostChunks = 64;
    constexpr Index kEnoughUnits = 16;
    constexpr Index kBudget = 16 * 1024 * 1024 / static_cast<Index>(sizeof(T));
    // A small network is cut into few: the tables that a chunk needs made must pay.
    constexpr double kWorthAChunk = 2e5;  // flops
    const double work = 2.0 * static_cast<double>(n) * static_cast<double>(d * m);
    const Index few = static_cast<Index>(std::min(work / kWorthAChunk, 1e6)) + 1;
    const Index wanted_chunks =
        std::max(ceil_div(panels, near(d)), std::min({panels, kFewChunks, few}));
    const Index chunks = std::clamp<Index>(kBudget / n, 1, std::min(wanted_chunks, kMostChunks));
    panel_chunks = Cut(panels, chunks, 1);
    const Index affordable = std::max<Index>(1, kBudget / (panels * Simd<T>::kPanel * d));
    // ... and a small network is not cut: its groups would cost more to add up than they share.
    constexpr double kWorthCutting = 1e6;  // flops
    const Index worthwhile = static_cast<Index>(std::min(work / kWorthCutting, 1e6)) + 1;
    const Index wanted = std::min(ceil_div(kEnoughUnits, panel_chunks.pieces()), worthwhile);
    const Index groups = std::clamp<Index>(wanted, 1, std::min(sample_tiles.pieces(), affordable));
    sample_groups = Cut(sample_tiles.pieces(), groups, 1);
  }

  // Of a tile at dimension d: fewer where d is large, since a stop is asked for once a tile,
  // by four panels at most (panels_together).
  static Index samples(Index d) {
    constexpr Index kPromptWork = 20'000'000;
    return std::clamp(kPromptWork / (Simd<T>::kPanel * d) / kMicroBlock * kMicroBlock,
                      Index{kMicroBlock}, kSamples);
  }

  // Panels whose weights stay in the second-level cache while samples stream past them.
  static Index near(Index d) {
    constexpr Index kNear = 512 * 1024 / static_cast<Index>(sizeof(T));
    return d * Simd<T>::kPanel > kNear ? kPanelsTogether : kNear / (d * Simd<T>::kPanel);
  }

  Index units() const { return panel_chunks.pieces() * sample_groups.pieces(); }
};

}  // namespace featcore
