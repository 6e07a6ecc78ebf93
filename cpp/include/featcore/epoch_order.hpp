// The order in which an epoch of mini-batch descent goes through the samples. Numbers of our own,
// not the standard library's: the same on every machine, and told by (seed, epoch) alone, so that a
// run goes on from any step.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "featcore/types.hpp"

namespace featcore {

// Steele, Lea and Flood's SplitMix64.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t state) : state_(state) {}

  std::uint64_t operator()() { return mix(state_ += 0x9e3779b97f4a7c15U); }

  // Uniform in 0 .. most: draws within the next power of two until one fits.
  std::uint64_t up_to(std::uint64_t most) {
    std::uint64_t mask = most;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    std::uint64_t drawn = (*this)() & mask;
    while (drawn > most) drawn = (*this)() & mask;
    return drawn;
  }

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

// A permutation of 0 .. n-1, all of them equally likely (Fisher and Yates).
inline std::vector<Index> epoch_order(Index n, std::uint64_t seed, std::int64_t epoch) {
  SplitMix random(SplitMix::mix(SplitMix::mix(seed) + static_cast<std::uint64_t>(epoch)));
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index(0));
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.up_to(i - 1))]);
  return order;
}

}  // namespace featcore
