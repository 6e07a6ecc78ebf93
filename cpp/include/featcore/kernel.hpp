// Outputs and gradients of a network on one set of samples, tile by tile: no n x m matrix of
// numbers is ever written. See docs/kernels.md for the scheme.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/arcs.hpp"
#include "featcore/inputs.hpp"
#include "featcore/panel_products.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/permuted_sums.hpp"
#include "featcore/signs.hpp"
#include "featcore/subset_sums.hpp"

namespace featcore {

template <class T>
class Kernel {
 public:
  using S = Simd<T>;
  static constexpr Index kPanel = S::kPanel;

  // `x` is (n, d) and must outlive the kernel. `keep_signs`: outputs() remembers the sign of every
  // pre-activation, which gradients of homogeneous networks and activation patterns need.
  Kernel(Index n, Index d, Index m, const T* x, Activation activation, bool keep_signs)
      : n_(n),
        shape_{m, d},
        x_(x),
        activation_(activation),
        keep_signs_(keep_signs),
        cut_(n, d, m),
        together_(activation.by_sign() ? 1 : panels_together(d)) {
    if (activation.by_sign() && Arcs<T>::pays(n, d, m) && Arcs<T>::orders(n, x))
      arcs_ = std::make_unique<Arcs<T>>(n, m, x, activation.slope);
    else
      meet_every_pair();
  }

  // From now on pre-activations are the products of weights and samples plus scale * base; `base`
  // is laid out as (panel, sample, neuron of the panel). Gradients of homogeneous heads are then
  // not to be had: they are taken for <w_j, h_j>.
  void shift(const T* base, T scale) {
    if (arcs_) meet_every_pair();
    base_ = base;
    scale_ = scale;
  }

  // From now on they are `z`, in the same layout. Then `x` only weighs the sums.
  void give(const T* z) {
    if (arcs_) meet_every_pair();
    products_ = false;
    base_ = z;
  }

  // Sums may lay out a copy of the samples, however large.
  void allow_copy() { may_copy_ = true; }

  // Outputs are summed in the memory of `other` from now on: not while that one's are begun.
  void share_memory(const Kernel& other) { partial_outputs_ = other.partial_outputs_; }

  // Of the last outputs.
  const Signs<T>& signs(const Team& team) const { return arcs_ ? arcs_->signs(team) : signs_; }
  const PanelShape<T>& shape() const { return shape_; }

  double flops() const {
    return arcs_ ? Arcs<T>::flops(n_, shape_.m) : kernel_flops(n_, shape_.d, shape_.m);
  }

  // What the sums tell a monitor, and about which part of both passes' time the outputs take.
  double work_of_sums() const { return looks_up_ ? Sums::work(n_, shape_.d, shape_.m) : flops(); }
  double share_of_outputs() const {
    if (looks_up_) return Sums::kShareOfOutputs;
    return activation_.by_sign() ? 0.5 : 0.35;
  }

  // f_i = sum_j a_j sigma(<w_j, x_i>), then after(begin, end) on every block of samples whose f is
  // final.
  template <class After>
  void outputs(const Panels<T>& net, const Team& whole_team, T* f, After&& after) {
    const Team team = whole_team.for_work(flops());
    meet(net, team, f);
    if (arcs_) {
      const T centre = this->centre(net.a.data(), shape_.panels() * kPanel);
      for_blocks(team, [&](Index begin, Index end) {
        if (centre != 0)
          for (Index i = begin; i < end; ++i) f[i] -= centre;
        after(begin, end);
      });
    } else {
      add_up(team, f, after);
    }
  }

  void outputs(const Panels<T>& net, const Team& team, T* f) {
    outputs(net, team, f, [](Index, Index) {});
  }

  // What is left of outputs() after gradient_sums(..., next).
  template <class After>
  void begun_outputs(const Team& team, T* f, After&& after) {
    add_up(team.for_work(flops()), f, after);
  }

  // Whether gradient_sums() can begin the next outputs: a unit must see all samples, and outputs
  // must be cut as the sums are.
  bool can_begin_outputs() const {
    if (arcs_ || cut_.sample_groups.pieces() > 1) return false;
    return !looks_up_ || sums_.cut().as_outputs;
  }

  // With h_j = sum_i r_i sigma'(z_ij) x_i (written to `sums`, in panels) and g_j = sum_i r_i
  // sigma(z_ij), calls consume(p, h, g) once a panel, in parallel; h is (d, kPanel), g is (kPanel).
  // For r = -dL/df the flow of the loss is dw_j/dt = a_j h_j and da_j/dt = g_j. A homogeneous
  // network must have passed outputs() before. If `consume` writes the panels of a new
  // network, `next`, its outputs can be begun while they are near, and threads meet once less.
  template <class Consume>
  void gradient_sums(const Panels<T>& net, const T* r, const Team& whole_team, T* sums,
                     Consume&& consume, const Panels<T>* next = nullptr) {
    const Team team = whole_team.for_work(flops());
    reserve(team);
    const Index groups =
        looks_up_ ? sums_.cut().groups.pieces() : (arcs_ ? 1 : cut_.sample_groups.pieces());
    const Index size = shape_.panels() * shape_.stride();
    if (partial_sums_.size() < (groups - 1) * size) partial_sums_ = Buffer<T>((groups - 1) * size);
    if (partial_heads_.size() < groups * shape_.panels() * kPanel)
      partial_heads_ = Buffer<T>(groups * shape_.panels() * kPanel);
    const auto partial = [&](Index group) {
      return group == 0 ? sums : partial_sums_.data() + (group - 1) * size;
    };
    const auto heads = [&](Index group) {
      return partial_heads_.data() + group * shape_.panels() * kPanel;
    };
    const T centre = this->centre(r, n_);
    const auto finish = [&](Index p) {
      T* h = sums + p * shape_.stride();
      T* g = heads(0) + p * kPanel;
      if (activation_.by_sign() && !products_) {
        std::fill_n(g, kPanel, T(0));
        add_heads(r, p, g);
      } else if (activation_.by_sign()) {  // sum_i r_i sigma(z_ij) = <w_j, h_j>
        std::fill_n(g, kPanel, T(0));
        const T* w = net.W.data() + p * shape_.stride();
        for (Index k = 0; k < shape_.d; ++k)
          for (Index l = 0; l < kPanel; ++l) g[l] += w[k * kPanel + l] * h[k * kPanel + l];
      }
      if (centre != 0)
        for (Index l = 0; l < kPanel; ++l) g[l] -= centre;
      // A padding neuron has z = 0 and sums like any other, which may overflow where those of the
      // network do not.
      if (const Index neurons = shape_.neurons(p); neurons < kPanel)
        for (Index k = 0; k < shape_.d; ++k)
          std::fill(h + k * kPanel + neurons, h + (k + 1) * kPanel, T(0));
      consume(p, h, g);
    };
    if (arcs_) {
      arcs_->sums(r, team, sums, finish);
    } else if (looks_up_) {
      look_up_sums(r, team, partial, finish, next);
    } else {
      if (inputs_.empty())
        inputs_ = PackedInputs<T>(x_, shape_.d, cut_.sample_tiles, may_copy_, team);
      multiply_sums(net, r, team, partial, heads, finish, next);
    }
    if (groups > 1 || (looks_up_ && !sums_.cut().whole()))
      team.for_each(shape_.panels(), [&](Index p, const Worker&) {
        T* h = sums + p * shape_.stride();
        T* g = heads(0) + p * kPanel;
        for (Index group = 1; group < groups; ++group) {
          const T* more = partial(group) + p * shape_.stride();
          for (Index q = 0; q < shape_.stride(); ++q) h[q] += more[q];
          for (Index l = 0; l < kPanel; ++l) g[l] += heads(group)[p * kPanel + l];
        }
        finish(p);
      });
  }

 private:
  // Of gradients where sigma' has two values.
  using Sums = std::conditional_t<PermutedSums<T>::kAvailable, PermutedSums<T>, SubsetSums<T>>;

  struct Scratch {
    Buffer<T> tile;    // (panels that take it together, samples, kPanel)
    Buffer<T> values;  // of one sample, smooth activations only
    Buffer<T> inputs;  // where they are packed for a tile
    Buffer<T> outputs;
    typename Sums::Scratch sums;
  };

  // z of some panels, (panel, sample, kPanel), `stride` from one to the next.
  struct Tiles {
    const T* z;
    Index stride;
  };

  // What the offset of the activation takes from a sum of its values with these weights.
  T centre(const T* weights, Index count) const {
    if (activation_.offset == 0) return 0;
    double sum = 0;
    for (Index i = 0; i < count; ++i) sum += static_cast<double>(weights[i]);
    return static_cast<T>(activation_.offset * sum);
  }

  void meet_every_pair() {
    arcs_.reset();
    if (keep_signs_) signs_ = Signs<T>(n_, shape_.m);
    looks_up_ = activation_.by_sign() && Sums::pays(shape_.d, shape_.m);
    if (looks_up_)
      sums_ = Sums(n_, shape_.d, shape_.m, x_, static_cast<T>(activation_.slope), cut_);
  }

  template <class Partial, class Finish>
  void look_up_sums(const T* r, const Team& team, Partial&& partial, Finish&& finish,
                    const Panels<T>* next) {
    const SumsCut& cut = sums_.cut();
    team.for_each(cut.units(), [&](Index unit, const Worker& worker) {
      look_up(unit, r, worker, partial(cut.group(unit)));
      if (!cut.whole() || worker.stop(0)) return;  // where it stopped, sums are not finished
      for (Index p = cut.panel_chunks.begin(unit); p < cut.panel_chunks.end(unit); ++p) finish(p);
      if (next != nullptr) unit_outputs(*next, unit, worker);
    });
  }

  template <class Partial, class Heads, class Finish>
  void multiply_sums(const Panels<T>& net, const T* r, const Team& team, Partial&& partial,
                     Heads&& heads, Finish&& finish, const Panels<T>* next) {
    const Index groups = cut_.sample_groups.pieces();
    const Index chunks = cut_.panel_chunks.pieces();
    team.for_each(cut_.units(), [&](Index unit, const Worker& worker) {
      const Index chunk = unit % chunks;
      const Index group = unit / chunks;
      Scratch& scratch = scratch_[static_cast<std::size_t>(worker.id)];
      const Index begin = cut_.panel_chunks.begin(chunk);
      const Index end = cut_.panel_chunks.end(chunk);
      std::fill(partial(group) + begin * shape_.stride(), partial(group) + end * shape_.stride(),
                T(0));
      std::fill(heads(group) + begin * kPanel, heads(group) + end * kPanel, T(0));
      for (Index s = cut_.sample_groups.begin(group); s < cut_.sample_groups.end(group); ++s) {
        const Index first = cut_.sample_tiles.begin(s);
        const Index samples = cut_.sample_tiles.end(s) - first;
        if (worker.stop(2.0 * static_cast<double>(samples * shape_.d))) return;
        const T* x = inputs_.tile(first, samples, scratch.inputs);
        for (Index p = begin; p < end; p += together_) {
          const Index last = std::min(p + together_, end);
          if (worker.stop(kernel_flops(samples, shape_.d, (last - p) * kPanel))) return;
          add_sums(net, r, p, last, first, samples, x, scratch, partial(group), heads(group));
        }
      }
      if (groups == 1) {  // nobody to wait for
        for (Index p = begin; p < end; ++p) finish(p);
        if (next != nullptr) unit_outputs(*next, unit, worker);
      }
    });
  }

  void reserve(const Team& team) {
    const std::size_t sums = static_cast<std::size_t>(cut_.panel_chunks.pieces() * n_);
    if (!arcs_ && partial_outputs_->size() < sums) partial_outputs_->resize(sums);
    while (scratch_.size() < static_cast<std::size_t>(team.threads())) {
      scratch_.emplace_back();
      scratch_.back().tile = Buffer<T>(together_ * cut_.sample_tiles.length * kPanel);
      scratch_.back().outputs = Buffer<T>(cut_.sample_tiles.length * S::kLanes);
      if (!activation_.by_sign()) scratch_.back().values = Buffer<T>(kPanel);
    }
  }

  // f from the outputs of all chunks, in their order; then after(begin, end).
  template <class After>
  void add_up(const Team& team, T* f, After&& after) {
    for_blocks(team, [&](Index begin, Index end) {
      std::copy(partial_outputs_->data() + begin, partial_outputs_->data() + end, f + begin);
      for (Index c = 1; c < cut_.panel_chunks.pieces(); ++c) {
        const T* part = partial_outputs_->data() + c * n_;
        for (Index i = begin; i < end; ++i) f[i] += part[i];
      }
      after(begin, end);
    });
  }

  template <class Body>
  void for_blocks(const Team& team, Body&& body) const {
    constexpr Index kSamplesABlock = 1024;
    team.for_each(ceil_div(n_, kSamplesABlock), [&](Index block, const Worker&) {
      body(block * kSamplesABlock, std::min(n_, (block + 1) * kSamplesABlock));
    });
  }

  // The work on tiles of samples: in kernel_tiles.hpp, compiled with kernels only, not with users.

  // All outputs but for adding up; where neurons are looked up on arcs there is nothing to add.
  void meet(const Panels<T>& net, const Team& team, T* f);
  // The outputs of one chunk of neurons on one group of samples.
  void unit_outputs(const Panels<T>& net, Index unit, const Worker& worker);
  // h += sum_i r_i sigma'(z_i) x_i over the samples of a tile, for panels begin .. end; x is the
  // packed tile.
  void add_sums(const Panels<T>& net, const T* r, Index begin, Index end, Index first,
                Index samples, const T* x, Scratch& scratch, T* sums, T* heads) const;
  // The sums of a unit of neurons, samples and inputs.
  void look_up(Index unit, const T* r, const Worker& worker, T* sums);

  void add_panel_outputs(const Panels<T>& net, Index begin, Index end, Index first, Index samples,
                         Scratch& scratch);
  template <int V, bool Sloped>
  void add_outputs(const Panels<T>& net, Index p, Index first, Index samples, Scratch& scratch);
  Tiles preactivations(const Panels<T>& net, Index begin, Index end, Index first, Index samples,
                       T* tiles) const;
  void add_smooth_outputs(const T* a, const T* z, Index count, Index samples,
                          Scratch& scratch) const;
  template <int V, bool Sloped>
  void add_weighted(const T* r, Index p, Index first, Index samples, const T* x, Scratch& scratch,
                    T* h) const;
  void weigh_smooth(const T* r, const T* z, Index count, Index samples, T* value, T* weighted,
                    T* heads) const;

  // heads += sum_i r_i sigma(z_i) of panel p, for given z of a homogeneous network.
  void add_heads(const T* r, Index p, T* heads) const {
    const T slope = static_cast<T>(activation_.slope);
    const T* z = base_ + p * n_ * kPanel;
    for (Index i = 0; i < n_; ++i)
      for (Index l = 0; l < kPanel; ++l) {
        const T value = z[i * kPanel + l];
        heads[l] += r[i] * (value > 0 ? value : slope * value);
      }
  }

  Index n_;
  PanelShape<T> shape_;
  const T* x_;
  Activation activation_;
  bool keep_signs_;
  bool products_ = true;
  bool may_copy_ = false;
  const T* base_ = nullptr;
  T scale_ = 1;
  Partition<T> cut_;
  Index together_;                 // panels that take a tile of samples together
  std::unique_ptr<Arcs<T>> arcs_;  // in place of what follows
  PackedInputs<T> inputs_;
  Signs<T> signs_;
  bool looks_up_ = false;
  Sums sums_;
  // (chunks, n)
  std::shared_ptr<std::vector<T>> partial_outputs_ = std::make_shared<std::vector<T>>();
  Buffer<T> partial_sums_;        // (groups - 1, panels, d, kPanel)
  Buffer<T> partial_heads_;       // (groups, panels, kPanel)
  std::vector<Scratch> scratch_;  // one a thread
};

}  // namespace featcore
