// The work of a kernel on one tile of samples. Included where kernels are compiled: whoever uses
// one needs kernel.hpp only, and compiles none of this.
#pragma once

#include <algorithm>

#include "featcore/kernel.hpp"
#include "featcore/micro.hpp"

namespace featcore {

template <class T>
void Kernel<T>::meet(const Panels<T>& net, const Team& team, T* f) {
  if (arcs_) {
    arcs_->outputs(net, team, f);
    return;
  }
  reserve(team);
  team.for_each(cut_.units(),
                [&](Index unit, const Worker& worker) { unit_outputs(net, unit, worker); });
}

template <class T>
void Kernel<T>::unit_outputs(const Panels<T>& net, Index unit, const Worker& worker) {
  const Index chunk = unit % cut_.panel_chunks.pieces();
  const Index group = unit / cut_.panel_chunks.pieces();
  T* sums = partial_outputs_->data() + chunk * n_;
  Scratch& scratch = scratch_[static_cast<std::size_t>(worker.id)];
  const Index begin = cut_.panel_chunks.begin(chunk);
  const Index end = cut_.panel_chunks.end(chunk);
  const T centre = this->centre(net.a.data() + begin * kPanel, (end - begin) * kPanel);
  for (Index s = cut_.sample_groups.begin(group); s < cut_.sample_groups.end(group); ++s) {
    const Index first = cut_.sample_tiles.begin(s);
    const Index samples = cut_.sample_tiles.end(s) - first;
    // One vector a sample, its lanes added up at the end.
    std::fill_n(scratch.outputs.data(), samples * S::kLanes, T(0));
    for (Index p = begin; p < end; p += together_) {
      const Index last = std::min(p + together_, end);
      if (worker.stop(kernel_flops(samples, shape_.d, (last - p) * kPanel))) return;
      add_panel_outputs(net, p, last, first, samples, scratch);
    }
    for (Index i = 0; i < samples; ++i)
      sums[first + i] = S::sum(S::load(scratch.outputs.data() + i * S::kLanes)) - centre;
  }
}

// Adds the panels' part to the outputs of a tile, and remembers the signs.
template <class T>
void Kernel<T>::add_panel_outputs(const Panels<T>& net, Index begin, Index end, Index first,
                                  Index samples, Scratch& scratch) {
  if (!activation_.by_sign()) {
    const Tiles tiles = preactivations(net, begin, end, first, samples, scratch.tile.data());
    for (Index p = begin; p < end; ++p)
      add_smooth_outputs(net.a.data() + p * kPanel, tiles.z + (p - begin) * tiles.stride,
                         shape_.vectors(p) * S::kLanes, samples, scratch);
    return;
  }
  for (Index p = begin; p < end; ++p)
    micro::with_vectors(shape_.vectors(p), [&](auto vectors) {
      constexpr int V = vectors();
      if (activation_.slope == 0)
        add_outputs<V, false>(net, p, first, samples, scratch);
      else
        add_outputs<V, true>(net, p, first, samples, scratch);
    });
}

template <class T>
template <int V, bool Sloped>
void Kernel<T>::add_outputs(const Panels<T>& net, Index p, Index first, Index samples,
                            Scratch& scratch) {
  const T* a = net.a.data() + p * kPanel;
  T* sums = scratch.outputs.data();
  const typename S::Vector slope = S::fill(static_cast<T>(activation_.slope));
  typename S::Word* words = keep_signs_ ? signs_.panel(p) + first : nullptr;
  const auto finish = [&](Index i, const typename S::Vector* z) __attribute__((always_inline)) {
    typename S::Vector sum = S::load(sums + i * S::kLanes);
    typename S::Bits bits[V];
    micro::unroll<V>(FEATCORE_EACH(v) {
      bits[v] = S::positive(z[v]);
      const typename S::Vector value =
          Sloped ? S::select(bits[v], z[v], slope * z[v]) : S::relu(z[v]);
      sum += S::load(a + v * S::kLanes) * value;
    });
    S::store(sums + i * S::kLanes, sum);
    if (words) S::store_bits(bits, words + i);
  };
  if (base_ == nullptr) {  // z never leaves the registers
    const T* w = net.W.data() + p * shape_.stride();
    micro::blocks(samples, [&](auto rows, Index i) {
      micro::preactivations<T, V, rows()>(w, x_ + (first + i) * shape_.d, shape_.d,
                                          [&](int r, const typename S::Vector* z)
                                              __attribute__((always_inline)) { finish(i + r, z); });
    });
    return;
  }
  const T* tile = preactivations(net, p, p + 1, first, samples, scratch.tile.data()).z;
  for (Index i = 0; i < samples; ++i) {
    typename S::Vector z[V];
    micro::unroll<V>(FEATCORE_EACH(v) { z[v] = S::load(tile + i * kPanel + v * S::kLanes); });
    finish(i, z);
  }
}

// z of the samples of a tile and the neurons of panels begin .. end: in `tiles` unless they lie
// somewhere already.
template <class T>
typename Kernel<T>::Tiles Kernel<T>::preactivations(const Panels<T>& net, Index begin, Index end,
                                                    Index first, Index samples, T* tiles) const {
  const T* base = base_ != nullptr ? base_ + (begin * n_ + first) * kPanel : nullptr;
  if (!products_) return {base, n_ * kPanel};
  panel_products(shape_, net.W.data(), begin, end, x_ + first * shape_.d, samples, tiles);
  const Index stride = samples * kPanel;
  if (base != nullptr)
    for (Index p = 0; p < end - begin; ++p)
      for (Index q = 0; q < stride; ++q)
        tiles[p * stride + q] += scale_ * base[p * n_ * kPanel + q];
  return {tiles, stride};
}

template <class T>
void Kernel<T>::add_smooth_outputs(const T* a, const T* z, Index count, Index samples,
                                   Scratch& scratch) const {
  T* value = scratch.values.data();
  for (Index i = 0; i < samples; ++i) {
    activate<T>(activation_, z + i * kPanel, value, nullptr, count);
    T* sums = scratch.outputs.data() + i * S::kLanes;
    for (Index l = 0; l < count; l += S::kLanes)
      S::store(sums, S::load(sums) + S::load(a + l) * S::load(value + l));
  }
}

template <class T>
void Kernel<T>::add_sums(const Panels<T>& net, const T* r, Index begin, Index end, Index first,
                         Index samples, const T* x, Scratch& scratch, T* sums, T* heads) const {
  if (activation_.by_sign()) {
    for (Index p = begin; p < end; ++p)
      micro::with_vectors(shape_.vectors(p), [&](auto vectors) {
        constexpr int V = vectors();
        T* h = sums + p * shape_.stride();
        if (activation_.slope == 0)
          add_weighted<V, false>(r, p, first, samples, x, scratch, h);
        else
          add_weighted<V, true>(r, p, first, samples, x, scratch, h);
      });
    return;
  }
  const Tiles tiles = preactivations(net, begin, end, first, samples, scratch.tile.data());
  const auto tile = [&](Index p) { return scratch.tile.data() + (p - begin) * samples * kPanel; };
  for (Index p = begin; p < end; ++p)
    weigh_smooth(r + first, tiles.z + (p - begin) * tiles.stride, shape_.vectors(p) * S::kLanes,
                 samples, scratch.values.data(), tile(p), heads + p * kPanel);
  panel_sums(shape_, begin, end, x, samples, scratch.tile.data(), sums);
}

template <class T>
template <int V, bool Sloped>
void Kernel<T>::add_weighted(const T* r, Index p, Index first, Index samples, const T* x,
                             Scratch& scratch, T* h) const {
  const auto* words = signs_.panel(p) + first;
  const T slope = static_cast<T>(activation_.slope);
  if (shape_.d <= kMicroBlock) {  // too few uses to write the weights down
    micro::blocks(shape_.d, [&](auto inputs, Index k) {
      micro::sums<T, V, inputs()>(
          x + k * samples, samples, h + k * kPanel,
          [&](Index i, typename S::Vector* b) __attribute__((always_inline)) {
            micro::weigh<T, V, Sloped>(words + i, r[first + i], slope, b);
          });
    });
    return;
  }
  for (Index i = 0; i < samples; ++i) {
    typename S::Vector b[V];
    micro::weigh<T, V, Sloped>(words + i, r[first + i], slope, b);
    micro::unroll<V>(
        FEATCORE_EACH(v) { S::store(scratch.tile.data() + i * kPanel + v * S::kLanes, b[v]); });
  }
  detail::add_sums<T, V>(x, 0, shape_.d, samples, scratch.tile.data(), h);
}

// weighted(i, l) = r_i sigma'(z) of a smooth activation, maybe in place of z, and sum_i r_i
// sigma(z) added to `heads`.
template <class T>
void Kernel<T>::weigh_smooth(const T* r, const T* z, Index count, Index samples, T* value,
                             T* weighted, T* heads) const {
  for (Index i = 0; i < samples; ++i) {
    T* derivative = weighted + i * kPanel;
    activate<T>(activation_, z + i * kPanel, value, derivative, count);
    for (Index l = 0; l < count; ++l) {
      heads[l] += r[i] * value[l];
      derivative[l] *= r[i];
    }
  }
}

template <class T>
void Kernel<T>::look_up(Index unit, const T* r, const Worker& worker, T* sums) {
  sums_.compute(unit, r, signs_, worker, scratch_[static_cast<std::size_t>(worker.id)].sums, sums);
}

}  // namespace featcore
