// The two products on registers: a panel of neurons against a few samples, or against a few inputs.
#pragma once

#include <type_traits>
#include <utility>

#include "featcore/simd.hpp"

namespace featcore::micro {

// body(0) ... body(N - 1) with the number as a constant. An array that a loop indexes goes through
// memory, since compilers unroll loops after they put arrays into registers.
template <class Body, int... Is>
[[gnu::always_inline]] inline void unroll_over(std::integer_sequence<int, Is...>, Body&& body) {
  (body(std::integral_constant<int, Is>{}), ...);
}

template <int N, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
  unroll_over(std::make_integer_sequence<int, N>{}, body);
}

// What unroll() calls, so that it is inlined before its array is laid out.
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a parameter
#define FEATCORE_EACH(index) [&](auto index) __attribute__((always_inline))

// z_rv = sum_k x_rk w_kv for `R` samples and the first `V` vectors of a panel, handed to
// finish(r, z) with z an array of V vectors. The first input starts the sums.
template <class T, int V, int R, class Finish>
inline void preactivations(const T* w, const T* x, Index d, Finish&& finish) {
  using S = Simd<T>;
  typename S::Vector z[R][V];
  const auto column = [&](Index k, int v) __attribute__((always_inline)) {
    return S::load(w + k * S::kPanel + v * S::kLanes);
  };
  unroll<R>(FEATCORE_EACH(r) {
    const typename S::Vector input = S::fill(x[r * d]);
    unroll<V>(FEATCORE_EACH(v) { z[r][v] = input * column(0, v); });
  });
  for (Index k = 1; k < d; ++k) {
    typename S::Vector columns[V];
    unroll<V>(FEATCORE_EACH(v) { columns[v] = column(k, v); });
    unroll<R>(FEATCORE_EACH(r) {
      const typename S::Vector input = S::fill(x[r * d + k]);
      unroll<V>(FEATCORE_EACH(v) { z[r][v] += input * columns[v]; });
    });
  }
  unroll<R>(FEATCORE_EACH(r) { finish(r, z[r]); });
}

// h_kv += sum_i b_iv x_ik for `R` inputs and the first `V` vectors of h; weights(i, b) gives the
// vectors b of sample i. The inputs lie side by side, sample after sample.
template <class T, int V, int R, class Weights>
inline void sums(const T* x, Index samples, T* h, Weights&& weights) {
  using S = Simd<T>;
  typename S::Vector sum[R][V];
  unroll<R>(FEATCORE_EACH(k) {
    unroll<V>(FEATCORE_EACH(v) { sum[k][v] = S::load(h + k * S::kPanel + v * S::kLanes); });
  });
  for (Index i = 0; i < samples; ++i) {
    typename S::Vector b[V];
    weights(i, b);
    unroll<R>(FEATCORE_EACH(k) {
      const typename S::Vector input = S::fill(x[i * R + k]);
      unroll<V>(FEATCORE_EACH(v) { sum[k][v] += input * b[v]; });
    });
  }
  unroll<R>(FEATCORE_EACH(k) {
    unroll<V>(FEATCORE_EACH(v) { S::store(h + k * S::kPanel + v * S::kLanes, sum[k][v]); });
  });
}

// b = r sigma'(z) of one sample, from the signs of z.
template <class T, int V, bool Sloped>
[[gnu::always_inline]] inline void weigh(const typename Simd<T>::Word* word, T r, T slope,
                                         typename Simd<T>::Vector* b) {
  using S = Simd<T>;
  const typename S::Vector on = S::fill(r);
  const typename S::Vector off = Sloped ? S::fill(slope * r) : typename S::Vector{};
  unroll<V>(FEATCORE_EACH(v) { b[v] = S::select(S::load_bits(word, v), on, off); });
}

// Calls body(R, first) over 0..count in blocks of R = kMicroBlock, and of 3, 2 and 1 at the end.
template <class Body>
inline void blocks(Index count, Body&& body) {
  Index first = 0;
  for (; first + kMicroBlock <= count; first += kMicroBlock)
    body(std::integral_constant<int, kMicroBlock>{}, first);
  if constexpr (kMicroBlock > 3)
    for (; first + 3 <= count; first += 3) body(std::integral_constant<int, 3>{}, first);
  if constexpr (kMicroBlock > 2)
    for (; first + 2 <= count; first += 2) body(std::integral_constant<int, 2>{}, first);
  for (; first < count; ++first) body(std::integral_constant<int, 1>{}, first);
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
