// How the (neuron, sample) plane is cut: a function of the shape and the instruction set alone,
// never of the number of threads, so that every sum has one fixed order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "featcore/types.hpp"

namespace featcore {

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

// A tile is at most kNeurons x kSamples; kLanes samples share a word of signs (see signs.hpp).
template <class T>
struct TileShape {
  using Word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  static constexpr Index kWordBits = 8 * static_cast<Index>(sizeof(Word));
  static constexpr Index kLanes = 64 / static_cast<Index>(sizeof(Word));
  static constexpr Index kSamples = kLanes * kWordBits;  // 512
  static constexpr Index kNeurons = 64;
};

template <class T>
struct Partition {
  using Shape = TileShape<T>;

  Cut neuron_tiles;
  Cut sample_tiles;
  Cut neuron_chunks;  // of neuron tiles; each sums its own outputs
  Cut sample_groups;  // of sample tiles; each sums its own gradients

  Partition(Index n, Index d, Index m)
      : neuron_tiles(m, ceil_div(m, Shape::kNeurons), 8),
        sample_tiles(n, ceil_div(n, Shape::kSamples), Shape::kLanes) {
    // Partial sums take (chunks x n) and (groups x m x d) numbers: bounded in number, for threads
    // to share, and in bytes, for memory not to matter.
    constexpr Index kMostChunks = 64;
    constexpr Index kEnoughUnits = 32;
    constexpr Index kBudget = 16 * 1024 * 1024 / static_cast<Index>(sizeof(T));
    const Index chunks =
        std::clamp<Index>(kBudget / n, 1, std::min(neuron_tiles.pieces(), kMostChunks));
    neuron_chunks = Cut(neuron_tiles.pieces(), chunks, 1);
    const Index affordable = std::max<Index>(1, kBudget / std::max<Index>(1, m * d));
    const Index wanted = ceil_div(kEnoughUnits, neuron_chunks.pieces());
    const Index groups = std::clamp<Index>(wanted, 1, std::min(sample_tiles.pieces(), affordable));
    sample_groups = Cut(sample_tiles.pieces(), groups, 1);
  }

  Index units() const { return neuron_chunks.pieces() * sample_groups.pieces(); }
};

}  // namespace featcore
