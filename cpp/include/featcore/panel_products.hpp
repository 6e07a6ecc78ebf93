// Both products of samples with several panels of neurons, a block of inputs at a time.
#pragma once

#include <algorithm>

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"

namespace featcore {

// Of one of the two products, and the work on what comes out.
inline double kernel_flops(Index n, Index d, Index m) {
  return 2.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(d + 4);
}

// Inputs of a block: a panel's part stays in the second-level cache for all samples of a tile.
constexpr Index kBlockInputs = 64 * 1024 / kVectorBytes / kPanelVectors;

// Panels that take a tile together. Where a tile of samples (all their inputs) is too large to be
// near for the next panel, a block of its inputs still is. Of very many inputs one panel is long
// enough for who waits for a stop.
inline Index panels_together(Index d) {
  constexpr Index kMostInputs = 32768;
  return d > kBlockInputs && d < kMostInputs ? kPanelsTogether : 1;
}

namespace detail {

// One block of inputs: z, or what is added to it where there were blocks before.
template <class T, int V>
inline void add_products(const T* w, const T* x, Index d, Index inputs, bool first, Index samples,
                         T* tile) {
  using S = Simd<T>;
  micro::blocks(samples, [&](auto rows, Index i) {
    constexpr int R = rows();
    typename S::Vector z[R][V] = {};
    T* out = tile + i * S::kPanel;
    if (!first)
      micro::unroll<R>(FEATCORE_EACH(r) {
        micro::unroll<V>(
            FEATCORE_EACH(v) { z[r][v] = S::load(out + r * S::kPanel + v * S::kLanes); });
      });
    const T* input = x + i * d;
    for (Index q = 0; q < inputs; ++q) {
      typename S::Vector columns[V];
      micro::unroll<V>(
          FEATCORE_EACH(v) { columns[v] = S::load(w + q * S::kPanel + v * S::kLanes); });
      micro::unroll<R>(FEATCORE_EACH(r) {
        const typename S::Vector value = S::fill(input[r * d + q]);
        micro::unroll<V>(FEATCORE_EACH(v) { z[r][v] += value * columns[v]; });
      });
    }
    micro::unroll<R>(FEATCORE_EACH(r) {
      micro::unroll<V>(
          FEATCORE_EACH(v) { S::store(out + r * S::kPanel + v * S::kLanes, z[r][v]); });
    });
  });
}

// h += sum_i b_i x_i of the inputs begin .. end, which begin with a block of them.
template <class T, int V>
inline void add_sums(const T* x, Index begin, Index end, Index samples, const T* tile, T* h) {
  using S = Simd<T>;
  micro::blocks(end - begin, [&](auto inputs, Index k) {
    T* block = h + (begin + k) * S::kPanel;
    // Sums of many inputs are far away, and a block starts with all of its own at once.
    micro::unroll<inputs()>(FEATCORE_EACH(q) {
      micro::unroll<V>(FEATCORE_EACH(v) {
        __builtin_prefetch(block + (inputs() + q) * S::kPanel + v * S::kLanes, 1);
      });
    });
    micro::sums<T, V, inputs()>(x + (begin + k) * samples, samples, block,
                                [&](Index i, typename S::Vector* b) __attribute__((always_inline)) {
                                  micro::unroll<V>(FEATCORE_EACH(v) {
                                    b[v] = S::load(tile + i * S::kPanel + v * S::kLanes);
                                  });
                                });
  });
}

}  // namespace detail

// z of `samples` samples, rows of x, and the panels begin .. end of W: (panel, sample, kPanel). The
// order of a sum is that of the inputs, however they are cut. Of a panel's vectors without neurons
// nothing is written.
template <class T>
void panel_products(const PanelShape<T>& shape, const T* W, Index begin, Index end, const T* x,
                    Index samples, T* tiles) {
  constexpr Index kPanel = PanelShape<T>::kPanel;
  for (Index k = 0; k < shape.d; k += kBlockInputs) {
    const Index inputs = std::min(kBlockInputs, shape.d - k);
    for (Index p = begin; p < end; ++p)
      micro::with_vectors(shape.vectors(p), [&](auto vectors) {
        detail::add_products<T, vectors()>(W + p * shape.stride() + k * kPanel, x + k, shape.d,
                                           inputs, k == 0, samples,
                                           tiles + (p - begin) * samples * kPanel);
      });
  }
}

// h_j += sum_i b_ij x_i over `samples` samples, packed (inputs.hpp), for the panels begin .. end: b
// is (panel, sample, kPanel), and `sums` has all panels of h.
template <class T>
void panel_sums(const PanelShape<T>& shape, Index begin, Index end, const T* x, Index samples,
                const T* tiles, T* sums) {
  constexpr Index kInputs = 32 * kMicroBlock;  // near for all panels
  for (Index k = 0; k < shape.d; k += kInputs)
    for (Index p = begin; p < end; ++p)
      micro::with_vectors(shape.vectors(p), [&](auto vectors) {
        detail::add_sums<T, vectors()>(x, k, std::min(k + kInputs, shape.d), samples,
                                       tiles + (p - begin) * samples * PanelShape<T>::kPanel,
                                       sums + p * shape.stride());
      });
}

}  // namespace featcore
