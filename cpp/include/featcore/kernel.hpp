// Outputs and gradients of a network on one set of samples, tile by tile: no n x m matrix of
// numbers is ever written. See docs/kernels.md for the scheme.
#pragma once

#include <algorithm>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/signs.hpp"

namespace featcore {

template <class T>
class Kernel {
 public:
  using Shape = TileShape<T>;

  // `x` is (n, d) and must outlive the kernel. `keep_signs`: outputs() remembers the sign of every
  // pre-activation, which gradients of homogeneous networks and activation patterns need.
  Kernel(Index n, Index d, Index m, const T* x, Activation activation, bool keep_signs)
      : n_(positive(n, "n")),
        d_(positive(d, "d")),
        m_(positive(m, "m")),
        x_(x),
        activation_(activation),
        keep_signs_(keep_signs),
        cut_(n, d, m) {
    partial_outputs_.resize(static_cast<std::size_t>(cut_.neuron_chunks.pieces() * n));
    if (keep_signs_) signs_ = Signs<T>(n, m, cut_.sample_tiles);
  }

  const Signs<T>& signs() const { return signs_; }

  // Of one of its two products, and the work on what comes out.
  double flops() const {
    return 2.0 * static_cast<double>(n_) * static_cast<double>(m_) * static_cast<double>(d_ + 4);
  }

  // f_i = sum_j a_j sigma(<w_j, x_i>), then after(begin, end) on each block of finished samples.
  template <class After>
  void outputs(const T* W, const T* a, const Team& whole_team, T* f, After&& after) {
    const Team team = whole_team.for_work(flops());
    reserve(team);
    const Index chunks = cut_.neuron_chunks.pieces();
    team.for_each(cut_.units(), [&](Index unit, const Worker& worker) {
      const Index chunk = unit % chunks;
      const Index group = unit / chunks;
      T* sums = partial_outputs_.data() + chunk * n_;
      for (Index s = cut_.sample_groups.begin(group); s < cut_.sample_groups.end(group); ++s) {
        const Index first = cut_.sample_tiles.begin(s);
        Scratch& scratch = scratch_[static_cast<std::size_t>(worker.id)];
        std::fill_n(scratch.outputs.data(), Shape::kSamples, T(0));
        for (Index t = cut_.neuron_chunks.begin(chunk); t < cut_.neuron_chunks.end(chunk); ++t) {
          if (worker.stop()) return;
          preactivations(W, t, s, scratch);
          add_outputs(a, t, s, scratch);
        }
        std::copy_n(scratch.outputs.data(), cut_.sample_tiles.end(s) - first, sums + first);
      }
    });
    constexpr Index kBlock = 1024;
    team.for_each(ceil_div(n_, kBlock), [&](Index block, const Worker&) {
      const Index begin = block * kBlock;
      const Index end = std::min(n_, begin + kBlock);
      std::copy(partial_outputs_.data() + begin, partial_outputs_.data() + end, f + begin);
      for (Index c = 1; c < chunks; ++c) {
        const T* part = partial_outputs_.data() + c * n_;
        for (Index i = begin; i < end; ++i) f[i] += part[i];
      }
      after(begin, end);
    });
  }

  void outputs(const T* W, const T* a, const Team& team, T* f) {
    outputs(W, a, team, f, [](Index, Index) {});
  }

  // With h_j = sum_i r_i sigma'(z_ij) x_i (written to `sums`, (m, d)) and g_j = sum_i r_i
  // sigma(z_ij), calls consume(j, h_j, g_j) once a neuron, in parallel. For r = -dL/df the flow of
  // the loss is dw_j/dt = a_j h_j and da_j/dt = g_j. A homogeneous network must have passed
  // outputs() at W before.
  template <class Consume>
  void gradient_sums(const T* W, const T* r, const Team& whole_team, T* sums, Consume&& consume) {
    const Team team = whole_team.for_work(flops());
    reserve(team);
    const Index groups = cut_.sample_groups.pieces();
    const Index chunks = cut_.neuron_chunks.pieces();
    partial_sums_.resize(static_cast<std::size_t>((groups - 1) * m_ * d_));
    if (!activation_.homogeneous()) partial_heads_.resize(static_cast<std::size_t>(groups * m_));
    team.for_each(cut_.units(), [&](Index unit, const Worker& worker) {
      const Index chunk = unit % chunks;
      const Index group = unit / chunks;
      Scratch& scratch = scratch_[static_cast<std::size_t>(worker.id)];
      for (Index t = cut_.neuron_chunks.begin(chunk); t < cut_.neuron_chunks.end(chunk); ++t) {
        const Index j = cut_.neuron_tiles.begin(t);
        const Index neurons = cut_.neuron_tiles.end(t) - j;
        T* target = (group == 0 ? sums : partial_sums_.data() + (group - 1) * m_ * d_) + j * d_;
        Rows<T> h(target, neurons, d_);
        h.setZero();
        if (!activation_.homogeneous())
          std::fill_n(partial_heads_.data() + group * m_ + j, neurons, T(0));
        for (Index s = cut_.sample_groups.begin(group); s < cut_.sample_groups.end(group); ++s) {
          if (worker.stop()) return;
          weigh(W, r, t, s, group, scratch);
          const Index first = cut_.sample_tiles.begin(s);
          const Index samples = cut_.sample_tiles.end(s) - first;
          h.noalias() += scratch.tile.topLeftCorner(samples, neurons).transpose() *
                         ConstRows<T>(x_ + first * d_, samples, d_);
        }
      }
    });
    team.for_each(cut_.neuron_tiles.pieces(), [&](Index t, const Worker&) {
      for (Index j = cut_.neuron_tiles.begin(t); j < cut_.neuron_tiles.end(t); ++j) {
        Eigen::Map<Vector<T>> h(sums + j * d_, d_);
        for (Index g = 1; g < groups; ++g)
          h += ConstVector<T>(partial_sums_.data() + ((g - 1) * m_ + j) * d_, d_);
        T head = 0;
        if (activation_.homogeneous()) {
          head = ConstVector<T>(W + j * d_, d_).dot(h);
        } else {
          for (Index g = 0; g < groups; ++g)
            head += partial_heads_[static_cast<std::size_t>(g * m_ + j)];
        }
        consume(j, h.data(), head);
      }
    });
  }

 private:
  using Word = typename Shape::Word;

  struct Scratch {
    // The leading dimension avoids a power of two: whole columns would fall on the same cache sets.
    ColMatrix<T> tile = ColMatrix<T>(Shape::kSamples + Shape::kLanes, Shape::kNeurons);
    ColMatrix<T> values;  // smooth activations only
    Vector<T> outputs = Vector<T>(Shape::kSamples);
    Vector<T> residuals = Vector<T>(Shape::kSamples);
  };

  void reserve(const Team& team) {
    while (scratch_.size() < static_cast<std::size_t>(team.threads())) {
      scratch_.emplace_back();
      if (!activation_.homogeneous())
        scratch_.back().values.resize(Shape::kSamples + Shape::kLanes, Shape::kNeurons);
    }
  }

  // tile(i, j) = z_ij, samples down, rows up to a whole number of lanes set to zero.
  void preactivations(const T* W, Index t, Index s, Scratch& scratch) const {
    const Index j = cut_.neuron_tiles.begin(t);
    const Index neurons = cut_.neuron_tiles.end(t) - j;
    const Index first = cut_.sample_tiles.begin(s);
    const Index samples = cut_.sample_tiles.end(s) - first;
    const Index padded = ceil_div(samples, Shape::kLanes) * Shape::kLanes;
    scratch.tile.topLeftCorner(samples, neurons).noalias() =
        ConstRows<T>(x_ + first * d_, samples, d_) *
        ConstRows<T>(W + j * d_, neurons, d_).transpose();
    if (padded > samples) scratch.tile.block(samples, 0, padded - samples, neurons).setZero();
  }

  void add_outputs(const T* a, Index t, Index s, Scratch& scratch) {
    const Index j0 = cut_.neuron_tiles.begin(t);
    const Index neurons = cut_.neuron_tiles.end(t) - j0;
    const Index samples = cut_.sample_tiles.end(s) - cut_.sample_tiles.begin(s);
    const Index rows = ceil_div(samples, Shape::kLanes);
    T* f = scratch.outputs.data();
    if (!activation_.homogeneous()) {
      for (Index j = 0; j < neurons; ++j) {
        T* z = scratch.tile.col(j).data();
        activate<T>(activation_, z, z, nullptr, samples);
        for (Index i = 0; i < samples; ++i) f[i] += a[j0 + j] * z[i];
      }
      return;
    }
    const T slope = static_cast<T>(activation_.slope);
    Word unused[Shape::kLanes];
    for (Index j = 0; j < neurons; ++j) {
      Word* words = keep_signs_ ? signs_.at(s, j0 + j) : unused;
      add_column(scratch.tile.col(j).data(), rows, a[j0 + j], slope, f, words);
    }
  }

  static void add_column(const T* z, Index rows, T a, T slope, T* f, Word* words) {
    constexpr Index kLanes = Shape::kLanes;
    Word bits[kLanes] = {};
    for (Index b = 0; b < rows; ++b) {
      const Word bit = Word(1) << b;
      const T* zb = z + b * kLanes;
      T* fb = f + b * kLanes;
#pragma omp simd
      for (Index l = 0; l < kLanes; ++l) {
        const bool on = zb[l] > 0;
        bits[l] |= on ? bit : Word(0);
        fb[l] += a * (on ? zb[l] : slope * zb[l]);
      }
    }
    std::copy_n(bits, kLanes, words);
  }

  // tile(i, j) = r_i sigma'(z_ij); adds sum_i r_i sigma(z_ij) to the heads of a smooth network.
  void weigh(const T* W, const T* r, Index t, Index s, Index group, Scratch& scratch) {
    const Index j0 = cut_.neuron_tiles.begin(t);
    const Index neurons = cut_.neuron_tiles.end(t) - j0;
    const Index first = cut_.sample_tiles.begin(s);
    const Index samples = cut_.sample_tiles.end(s) - first;
    if (!activation_.homogeneous()) {
      preactivations(W, t, s, scratch);
      T* heads = partial_heads_.data() + group * m_ + j0;
      const ConstVector<T> rs(r + first, samples);
      for (Index j = 0; j < neurons; ++j) {
        auto derivative = scratch.tile.col(j).head(samples);
        auto value = scratch.values.col(j).head(samples);
        activate<T>(activation_, derivative.data(), value.data(), derivative.data(), samples);
        heads[j] += rs.dot(value);
        derivative.array() *= rs.array();
      }
      return;
    }
    const Index rows = ceil_div(samples, Shape::kLanes);
    const T slope = static_cast<T>(activation_.slope);
    T* on = scratch.residuals.data();
    std::copy_n(r + first, samples, on);
    std::fill(on + samples, on + rows * Shape::kLanes, T(0));
    for (Index j = 0; j < neurons; ++j)
      unpack_column(signs_.at(s, j0 + j), rows, on, slope, scratch.tile.col(j).data());
  }

  static void unpack_column(const Word* words, Index rows, const T* r, T slope, T* column) {
    constexpr Index kLanes = Shape::kLanes;
    for (Index b = 0; b < rows; ++b) {
      const Word bit = Word(1) << b;
      const T* rb = r + b * kLanes;
      T* cb = column + b * kLanes;
#pragma omp simd
      for (Index l = 0; l < kLanes; ++l) cb[l] = (words[l] & bit) ? rb[l] : slope * rb[l];
    }
  }

  Index n_;
  Index d_;
  Index m_;
  const T* x_;
  Activation activation_;
  bool keep_signs_;
  Partition<T> cut_;
  Signs<T> signs_;
  std::vector<T> partial_outputs_;  // (chunks, n)
  std::vector<T> partial_sums_;     // (groups - 1, m, d)
  std::vector<T> partial_heads_;    // (groups, m), smooth only
  std::vector<Scratch> scratch_;    // one a thread
};

}  // namespace featcore
