// The two products on registers: a panel of neurons against a few samples, or against a few inputs.
#pragma once

#include <type_traits>

#include "featcore/simd.hpp"

namespace featcore::micro {

// z_rv = sum_k x_rk w_kv for `R` samples and the first `V` vectors of a panel, handed to
// finish(r, z) with z an array of V vectors.
template <class T, int V, int R, class Finish>
inline void preactivations(const T* w, const T* x, Index d, Finish&& finish) {
  using S = Simd<T>;
  typename S::Vector z[R][V] = {};
  for (Index k = 0; k < d; ++k) {
    typename S::Vector column[V];
    for (int v = 0; v < V; ++v) column[v] = S::load(w + k * S::kPanel + v * S::kLanes);
    for (int r = 0; r < R; ++r) {
      const typename S::Vector input = S::fill(x[r * d + k]);
      for (int v = 0; v < V; ++v) z[r][v] += input * column[v];
    }
  }
  for (int r = 0; r < R; ++r) finish(r, z[r]);
}

// h_rv += sum_i b_iv x_ir for `R` inputs (x points at the first) and the first `V` vectors of b and
// h.
template <class T, int V, int R>
inline void sums(const T* b, const T* x, Index samples, Index d, T* h) {
  using S = Simd<T>;
  typename S::Vector sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = S::load(h + r * S::kPanel + v * S::kLanes);
  for (Index i = 0; i < samples; ++i) {
    typename S::Vector row[V];
    for (int v = 0; v < V; ++v) row[v] = S::load(b + i * S::kPanel + v * S::kLanes);
    for (int r = 0; r < R; ++r) {
      const typename S::Vector input = S::fill(x[i * d + r]);
      for (int v = 0; v < V; ++v) sum[r][v] += input * row[v];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) S::store(h + r * S::kPanel + v * S::kLanes, sum[r][v]);
}

// Calls body<R>(first) over 0..count in blocks of R = kMicroBlock and one remainder.
template <int R, class Body>
inline void remainder(Index left, Index first, Body&& body) {
  if constexpr (R > 0) {
    if (left == R)
      body(std::integral_constant<int, R>{}, first);
    else
      remainder<R - 1>(left, first, body);
  }
}

template <class Body>
inline void blocks(Index count, Body&& body) {
  Index first = 0;
  for (; first + kMicroBlock <= count; first += kMicroBlock)
    body(std::integral_constant<int, kMicroBlock>{}, first);
  remainder<kMicroBlock - 1>(count - first, first, body);
}

// Calls body(integral_constant<V>) with the run-time `vectors`.
template <int V = kPanelVectors, class Body>
inline void with_vectors(int vectors, Body&& body) {
  if constexpr (V == 1) {
    body(std::integral_constant<int, 1>{});
  } else {
    if (vectors == V)
      body(std::integral_constant<int, V>{});
    else
      with_vectors<V - 1>(vectors, body);
  }
}

}  // namespace featcore::micro
