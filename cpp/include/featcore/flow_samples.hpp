// The samples of a flow as the paths of neurons read them: those on one line through the origin, of
// whatever length and on either side, share a hyperplane and are one. Were they not, what happens
// on it would be decided one after another, and a neuron could be held by two samples that together
// let it through.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"

namespace featcore {

template <class T>
class FlowSamples {
 public:
  using S = Simd<T>;

  // The samples must outlive this.
  explicit FlowSamples(const SplitView<T>& split)
      : d_(split.d), padded_d_(ceil_div(split.d, kRowBlock) * kRowBlock) {
    find_lines(split);
    // NOLINTBEGIN(cppcoreguidelines-prefer-member-initializer): the lines are found first
    n_ = static_cast<Index>(starts_.size()) - 1;
    padded_n_ = ceil_div(n_, 2 * S::kLanes) * 2 * S::kLanes;
    rows_ = Buffer<double>(n_ * padded_d_);
    columns_ = Buffer<T>(d_ * padded_n_);
    norms_ = Buffer<T>(padded_n_);
    // NOLINTEND(cppcoreguidelines-prefer-member-initializer)
    for (Index u = 0; u < n_; ++u) {
      const T* x = split.x + members_[size(starts_[size(u)])] * d_;
      double squared = 0;
      for (Index k = 0; k < d_; ++k) {
        rows_.data()[u * padded_d_ + k] = static_cast<double>(x[k]);
        columns_.data()[k * padded_n_ + u] = x[k];
        squared += static_cast<double>(x[k]) * static_cast<double>(x[k]);
      }
      norms_.data()[u] = static_cast<T>(std::sqrt(squared));
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

  // Lines; `row`, `column` and `norm` are of the first sample of each.
  Index n() const { return n_; }
  Index d() const { return d_; }
  Index padded_n() const { return padded_n_; }  // a multiple of two vectors
  Index padded_d() const { return padded_d_; }
  const double* row(Index i) const { return rows_.data() + i * padded_d_; }
  const T* column(Index k) const { return columns_.data() + k * padded_n_; }
  double norm(Index i) const { return static_cast<double>(norms_.data()[i]); }
  const T* norms() const { return norms_.data(); }

  // Of sample i: its line, and its multiple of the line's first sample.
  Index line(Index i) const { return lines_[size(i)]; }
  double factor(Index i) const { return factors_[size(i)]; }
  double length(Index i) const { return std::abs(factor(i)) * norm(line(i)); }
  // Samples of line u: calls body(i).
  template <class Body>
  void each_member(Index u, Body&& body) const {
    for (Index k = starts_[size(u)]; k < starts_[size(u + 1)]; ++k) body(members_[size(k)]);
  }
  // Whether some sample is on the far side of its line.
  bool mirrored() const { return mirrored_; }

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
  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  // Samples sorted by a projection of their directions: neighbours are compared.
  void find_lines(const SplitView<T>& split) {
    const Index n = split.n;
    std::vector<double> unit(size(n * d_)), key(size(n));
    std::vector<double> lengths(size(n));
    for (Index i = 0; i < n; ++i) {
      double largest = 0, squared = 0;
      for (Index k = 0; k < d_; ++k)
        largest = std::max(largest, std::abs(static_cast<double>(split.x[i * d_ + k])));
      const double scale = largest > 0 ? 1 / largest : 0;
      for (Index k = 0; k < d_; ++k) {
        const double value = scale * static_cast<double>(split.x[i * d_ + k]);
        unit[size(i * d_ + k)] = value;
        squared += value * value;
      }
      lengths[size(i)] = largest * std::sqrt(squared);
      double projection = 0;
      for (Index k = 0; k < d_; ++k) {
        double& value = unit[size(i * d_ + k)];
        if (squared > 0) value /= std::sqrt(squared);
        projection += value * std::cos(1.0 + static_cast<double>(k));
      }
      key[size(i)] = std::abs(projection);
    }
    std::vector<Index> order(size(n));
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Index i, Index k) { return key[size(i)] < key[size(k)]; });
    // Several roundings of a unit vector, and of its projection.
    const double same = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
    const double near = same * std::sqrt(static_cast<double>(d_));
    std::vector<Index> first(size(n));  // sample of the line, the smallest
    std::vector<double> sign(size(n), 1.0);
    for (Index p = 0; p < n; ++p) {
      const Index i = order[size(p)];
      first[size(i)] = i;
      if (!(lengths[size(i)] > 0)) continue;
      for (Index q = p - 1; q >= 0 && key[size(i)] - key[size(order[size(q)])] <= near; --q) {
        const Index other = order[size(q)];
        if (!(lengths[size(other)] > 0) || first[size(other)] != other) continue;
        double cosine = 0, gap = 0;
        for (Index k = 0; k < d_; ++k)
          cosine += unit[size(i * d_ + k)] * unit[size(other * d_ + k)];
        const double side = cosine > 0 ? 1 : -1;
        for (Index k = 0; k < d_; ++k)
          gap = std::max(gap, std::abs(unit[size(i * d_ + k)] - side * unit[size(other * d_ + k)]));
        if (gap > same) continue;
        first[size(i)] = other;
        sign[size(i)] = side;
        break;
      }
    }
    // in the order of the samples
    lines_.resize(size(n));
    factors_.resize(size(n));
    std::vector<Index> line_of(size(n), -1);
    Index lines = 0;
    for (Index i = 0; i < n; ++i) {
      Index& line = line_of[size(first[size(i)])];
      if (line < 0) line = lines++;
      lines_[size(i)] = line;
    }
    std::vector<Index> leader(size(lines), -1);
    starts_.assign(size(lines + 1), 0);
    for (Index i = 0; i < n; ++i) {
      Index& lead = leader[size(lines_[size(i)])];
      if (lead < 0) lead = i;
      const double length = lengths[size(lead)];
      factors_[size(i)] = sign[size(i)] * sign[size(lead)] *
                          (i == lead || !(length > 0) ? 1.0 : lengths[size(i)] / length);
      mirrored_ = mirrored_ || factors_[size(i)] < 0;
      ++starts_[size(lines_[size(i)] + 1)];
    }
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
    members_.resize(size(n));
    std::vector<Index> next(starts_.begin(), starts_.end() - 1);
    for (Index i = 0; i < n; ++i) members_[size(next[size(lines_[size(i)])]++)] = i;
  }

  static constexpr Index kRowBlock = 64 / static_cast<Index>(sizeof(double));
  static constexpr Index kMostGram = 6000;  // samples whose products are kept: 288 MB in float64

  Index n_ = 0;
  Index d_;
  Index padded_n_ = 0;
  Index padded_d_;
  std::vector<Index> lines_;     // by sample
  std::vector<double> factors_;  // by sample
  std::vector<Index> starts_;    // by line, into members_
  std::vector<Index> members_;
  bool mirrored_ = false;
  Buffer<double> rows_;
  Buffer<T> columns_;
  Buffer<T> norms_;
  Buffer<T> gram_;
};

}  // namespace featcore
