// Squares of numbers turned over in registers.
#pragma once

#include <cstddef>
#include <utility>

#include "featcore/micro.hpp"
#include "featcore/simd.hpp"

namespace featcore {

namespace detail {

// The lower halves of two vectors, lane by lane in turn; the upper ones from `Half` on.
template <class T, int Half, std::size_t... I>
[[gnu::always_inline]] inline typename Simd<T>::Vector interleave(typename Simd<T>::Vector a,
                                                                  typename Simd<T>::Vector b,
                                                                  std::index_sequence<I...>) {
  return __builtin_shufflevector(
      a, b,
      (Half + static_cast<int>(I) / 2 + (static_cast<int>(I) % 2 != 0 ? Simd<T>::kLanes : 0))...);
}

}  // namespace detail

// rows[l][k] <- rows[k][l], for as many vectors as one has lanes: a perfect shuffle of all numbers,
// as often as a number of a vector has bits.
template <class T>
[[gnu::always_inline]] inline void transpose(typename Simd<T>::Vector* rows) {
  using S = Simd<T>;
  constexpr int kLanes = S::kLanes;
  constexpr auto kAll = std::make_index_sequence<static_cast<std::size_t>(kLanes)>();
  for (int round = 1; round < kLanes; round *= 2) {
    typename S::Vector next[kLanes];
    micro::unroll<kLanes / 2>(FEATCORE_EACH(i) {
      next[2 * i] = detail::interleave<T, 0>(rows[i], rows[i + kLanes / 2], kAll);
      next[2 * i + 1] = detail::interleave<T, kLanes / 2>(rows[i], rows[i + kLanes / 2], kAll);
    });
    micro::unroll<kLanes>(FEATCORE_EACH(i) { rows[i] = next[i]; });
  }
}

}  // namespace featcore
