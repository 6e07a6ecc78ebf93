// The samples of a flow as the paths of neurons read them.
#pragma once

#include <cmath>

#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"

namespace featcore {

template <class T>
class FlowSamples {
 public:
  using S = Simd<T>;

  // The samples must outlive this.
  explicit FlowSamples(const SplitView<T>& split)
      : n_(split.n),
        d_(split.d),
        padded_n_(ceil_div(split.n, 2 * S::kLanes) * 2 * S::kLanes),
        padded_d_(ceil_div(split.d, kRowBlock) * kRowBlock),
        rows_(n_ * padded_d_),
        columns_(d_ * padded_n_),
        norms_(padded_n_) {
    for (Index i = 0; i < n_; ++i) {
      double squared = 0;
      for (Index k = 0; k < d_; ++k) {
        const T value = split.x[i * d_ + k];
        rows_.data()[i * padded_d_ + k] = static_cast<double>(value);
        columns_.data()[k * padded_n_ + i] = value;
        squared += static_cast<double>(value) * static_cast<double>(value);
      }
      norms_.data()[i] = static_cast<T>(std::sqrt(squared));
    }
  }

  // Keeps all products <x_i, x_b> from now on, unless there are too many.
  void multiply_all(const Team& team) {
    if (n_ > kMostGram) return;
    gram_ = Buffer<T>(n_ * padded_n_);
    team.for_work(2.0 * static_cast<double>(n_ * n_) * static_cast<double>(d_))
        .for_each(n_,
                  [&](Index i, const Worker&) { multiply(row(i), gram_.data() + i * padded_n_); });
  }

  Index n() const { return n_; }
  Index d() const { return d_; }
  Index padded_n() const { return padded_n_; }  // a multiple of two vectors
  Index padded_d() const { return padded_d_; }
  const double* row(Index i) const { return rows_.data() + i * padded_d_; }
  const T* column(Index k) const { return columns_.data() + k * padded_n_; }
  double norm(Index i) const { return static_cast<double>(norms_.data()[i]); }
  const T* norms() const { return norms_.data(); }

  // <x_i, x_b> for all i; in `scratch` unless kept.
  const T* products(Index b, T* scratch) const {
    if (gram_.size() > 0) return gram_.data() + b * padded_n_;
    multiply(row(b), scratch);
    return scratch;
  }

  // out_i = <x_i, v>
  template <class V>
  void multiply(const V* v, T* out) const {
    std::fill_n(out, padded_n_, T(0));
    for (Index k = 0; k < d_; ++k) {
      const typename S::Vector factor = S::fill(static_cast<T>(v[k]));
      for (Index i = 0; i < padded_n_; i += S::kLanes)
        S::store(out + i, S::load(out + i) + factor * S::load(column(k) + i));
    }
  }

 private:
  static constexpr Index kRowBlock = 64 / static_cast<Index>(sizeof(double));
  static constexpr Index kMostGram = 6000;  // samples whose products are kept: 288 MB in float64

  Index n_;
  Index d_;
  Index padded_n_;
  Index padded_d_;
  Buffer<double> rows_;
  Buffer<T> columns_;
  Buffer<T> norms_;
  Buffer<T> gram_;
};

}  // namespace featcore
