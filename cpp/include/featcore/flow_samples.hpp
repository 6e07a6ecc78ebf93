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

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"

namespace featcore {

template <class T>
class FlowSamples {
 public:
  using S = Simd<T>;

  // The samples must outlive this.
  explicit FlowSamples(const SplitView<T>& split) : FlowSamples(split, split) {}

  // `given`: the same samples before their coordinates were changed. Rounding of the change would
  // take some off their lines.
  FlowSamples(const SplitView<T>& split, const SplitView<T>& given)
      : given_(given), whole_d_(split.d) {
    find_inputs(split);
    find_lines(given);
    // NOLINTBEGIN(cppcoreguidelines-prefer-member-initializer): inputs and lines are found first
    d_ = static_cast<Index>(inputs_.size());
    padded_d_ = padded<double>(d_, kRowBlock);
    n_ = static_cast<Index>(starts_.size()) - 1;
    padded_n_ = padded<T>(n_, kPanel);
    rows_ = Buffer<double>(n_ * padded_d_);
    panels_ = Buffer<T>(d_ * padded_n_);
    norms_ = Buffer<T>(padded_n_);
    // NOLINTEND(cppcoreguidelines-prefer-member-initializer)
    for (Index u = 0; u < n_; ++u) {
      const T* x = split.x + members_[size(starts_[size(u)])] * whole_d_;
      T* panel = panels_.data() + u / kPanel * d_ * kPanel + u % kPanel;
      double squared = 0;
      for (Index k = 0; k < d_; ++k) {
        const T value = x[inputs_[size(k)]];
        rows_.data()[u * padded_d_ + k] = static_cast<double>(value);
        panel[k * kPanel] = value;
        squared += static_cast<double>(value) * static_cast<double>(value);
      }
      norms_.data()[u] = static_cast<T>(std::sqrt(squared));
    }
    blocks_ = Buffer<double>(n_ * padded_d_);
    each_block([&](auto vectors, Index k, const double* block) {
      constexpr Index kWidth = vectors() * Simd<double>::kLanes;
      double* out = blocks_.data() + (block - blocks_.data());
      for (Index u = 0; u < n_; ++u) std::copy_n(row(u) + k, kWidth, out + u * kWidth);
    });
  }

  // Keeps all products <x_i, x_b> from now on, unless there are too many.
  void multiply_all(const Team& team) {
    if (n_ > kMostGram) return;
    gram_ = Buffer<T>(n_ * padded_n_);
    constexpr Index kRows = 48;
    team.for_work(2.0 * static_cast<double>(n_ * n_) * static_cast<double>(d_))
        .for_each(ceil_div(n_, kRows), [&](Index block, const Worker&) {
          const Index first = block * kRows;
          multiply(row(first), padded_d_, std::min(kRows, n_ - first),
                   gram_.data() + first * padded_n_);
        });
  }

  // Lines, and inputs in which samples differ from 0: weights of others do not move. `row` and
  // `norm` are of the first sample of a line.
  Index n() const { return n_; }
  Index d() const { return d_; }
  Index padded_n() const { return padded_n_; }  // a multiple of kPanel
  Index padded_d() const { return padded_d_; }
  const double* row(Index i) const { return rows_.data() + i * padded_d_; }
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
  // Whether lines u and b have a product, as they were given: where numbers are whole, say, what is
  // orthogonal is so to the last digit.
  bool meet(Index u, Index b) const {
    const T* x = given_.x + members_[size(starts_[size(u)])] * given_.d;
    const T* y = given_.x + members_[size(starts_[size(b)])] * given_.d;
    double sum = 0;
    for (Index k = 0; k < given_.d; ++k)
      sum += static_cast<double>(x[k]) * static_cast<double>(y[k]);
    return sum != 0;
  }
  // Whether some sample is on the far side of its line.
  bool mirrored() const { return mirrored_; }

  // Weights in the order of `row`, and back; those of other inputs are left alone. What pads a row
  // is 0 again: a step that overflowed may have made NaN of it.
  void gather(const T* whole, double* w) const {
    for (Index k = 0; k < d_; ++k) w[k] = static_cast<double>(whole[inputs_[size(k)]]);
    std::fill(w + d_, w + padded_d_, 0.0);
  }
  void scatter(const double* w, T* whole) const {
    for (Index k = 0; k < d_; ++k) whole[inputs_[size(k)]] = static_cast<T>(w[k]);
  }
  // Inputs that are 0 in all samples.
  const std::vector<Index>& idle_inputs() const { return idle_inputs_; }

  bool keeps_products() const { return gram_.size() > 0; }
  // <x_i, x_b> for all i; in `scratch` unless kept.
  const T* products(Index b, T* scratch) const {
    if (keeps_products()) return gram_.data() + b * padded_n_;
    multiply(row(b), padded_d_, 1, scratch);
    return scratch;
  }

  double product(Index i, Index k) const {
    using D = Simd<double>;
    typename D::Vector sum{};
    for (Index q = 0; q < padded_d_; q += D::kLanes)
      sum += D::load(row(i) + q) * D::load(row(k) + q);
    return D::sum(sum);
  }

  // out_ri = <x_i, v_r> for `count` vectors, `stride` apart; out is (count, padded_n).
  void multiply(const double* v, Index stride, Index count, T* out) const {
    each_panels([&](auto panels, Index p) {
      Index r = 0;
      for (; r + kMostRows <= count; r += kMostRows)
        multiply_panels<kMostRows, panels()>(p, v + r * stride, stride, out + r * padded_n_);
      for (; r < count; ++r)
        multiply_panels<1, panels()>(p, v + r * stride, stride, out + r * padded_n_);
    });
  }

  // Calls body(integral_constant<panels>, first) over all panels, a few at once.
  template <class Body>
  void each_panels(Body&& body) const {
    Index p = 0;
    for (; p + kMostPanels <= padded_n_ / kPanel; p += kMostPanels)
      body(std::integral_constant<int, kMostPanels>{}, p);
    for (; p < padded_n_ / kPanel; ++p) body(std::integral_constant<int, 1>{}, p);
  }

  // The same for the samples of P panels and R vectors.
  template <int R, int P>
  void multiply_panels(Index first, const double* v, Index stride, T* out) const {
    constexpr int kRows = kMostSums / (2 * P);  // that stay in registers
    if constexpr (R > kRows) {
      constexpr int kHalf = (R + 1) / 2;
      multiply_panels<kHalf, P>(first, v, stride, out);
      multiply_panels<R - kHalf, P>(first, v + kHalf * stride, stride, out + kHalf * padded_n_);
    } else {
      typename S::Vector sums[R][2 * P] = {};
      const T* x = panels_.data() + first * d_ * kPanel;
      for (Index k = 0; k < d_; ++k) {
        typename S::Vector inputs[2 * P];
        micro::unroll<2 * P>(FEATCORE_EACH(q) {
          inputs[q] = S::load(x + (q / 2 * d_ + k) * kPanel + q % 2 * S::kLanes);
        });
        micro::unroll<R>(FEATCORE_EACH(r) {
          const typename S::Vector factor = S::fill(static_cast<T>(v[r * stride + k]));
          micro::unroll<2 * P>(FEATCORE_EACH(q) { sums[r][q] += factor * inputs[q]; });
        });
      }
      micro::unroll<R>(FEATCORE_EACH(r) {
        micro::unroll<2 * P>(FEATCORE_EACH(q) {
          S::store(out + r * padded_n_ + first * kPanel + q * S::kLanes, sums[r][q]);
        });
      });
    }
  }

  // The inputs in blocks of `kWide` vectors, and of one at the end: calls body(integral_constant
  // <vectors>, first input, block). A block has its inputs of all samples, side by side.
  static constexpr int kWide = kVectorBytes == 64 ? 3 : 2;
  template <class Body>
  void each_block(Body&& body) const {
    constexpr Index kLanes = Simd<double>::kLanes;
    Index k = 0;
    for (; k + kWide * kLanes <= padded_d_; k += kWide * kLanes)
      body(std::integral_constant<int, kWide>{}, k, blocks_.data() + k * n_);
    for (; k < padded_d_; k += kLanes)
      body(std::integral_constant<int, 1>{}, k, blocks_.data() + k * n_);
  }

 private:
  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  // The length of rows of `count` numbers, a multiple of `unit`: not one of a page, for the rows of
  // a neuron are read side by side and would share their places in the cache.
  template <class V>
  static Index padded(Index count, Index unit) {
    constexpr Index kPage = 4096 / static_cast<Index>(sizeof(V));
    const Index length = std::max<Index>(1, ceil_div(count, unit)) * unit;
    return length % kPage == 0 ? length + unit : length;
  }

  void find_inputs(const SplitView<T>& split) {
    std::vector<char> seen(size(whole_d_), 0);
    for (Index i = 0; i < split.n; ++i)
      for (Index k = 0; k < whole_d_; ++k)
        if (split.x[i * whole_d_ + k] != T(0)) seen[size(k)] = 1;
    for (Index k = 0; k < whole_d_; ++k) (seen[size(k)] != 0 ? inputs_ : idle_inputs_).push_back(k);
  }

  // Samples sorted by a projection of their directions: neighbours are compared.
  void find_lines(const SplitView<T>& split) {
    const Index n = split.n;
    const Index d = split.d;
    std::vector<double> unit(size(n * d)), key(size(n));
    std::vector<double> lengths(size(n));
    for (Index i = 0; i < n; ++i) {
      double largest = 0, squared = 0;
      for (Index k = 0; k < d; ++k)
        largest = std::max(largest, std::abs(static_cast<double>(split.x[i * d + k])));
      const double scale = largest > 0 ? 1 / largest : 0;
      for (Index k = 0; k < d; ++k) {
        const double value = scale * static_cast<double>(split.x[i * d + k]);
        unit[size(i * d + k)] = value;
        squared += value * value;
      }
      lengths[size(i)] = largest * std::sqrt(squared);
      double projection = 0;
      for (Index k = 0; k < d; ++k) {
        double& value = unit[size(i * d + k)];
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
    const double near = same * std::sqrt(static_cast<double>(d));
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
        for (Index k = 0; k < d; ++k) cosine += unit[size(i * d + k)] * unit[size(other * d + k)];
        const double side = cosine > 0 ? 1 : -1;
        for (Index k = 0; k < d; ++k)
          gap = std::max(gap, std::abs(unit[size(i * d + k)] - side * unit[size(other * d + k)]));
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

  static constexpr Index kPanel = 2 * S::kLanes;
  // Vectors of sums that stay in registers, and panels that are multiplied together.
  static constexpr int kMostSums = kVectorBytes == 64 ? 24 : 12;
  static constexpr int kMostPanels = kVectorBytes == 64 ? 2 : 1;
  static constexpr int kMostRows = 6;

  SplitView<T> given_;
  Index whole_d_;
  Index n_ = 0;
  Index d_ = 0;
  Index padded_n_ = 0;
  Index padded_d_ = 0;
  std::vector<Index> inputs_, idle_inputs_;
  std::vector<Index> lines_;     // by sample
  std::vector<double> factors_;  // by sample
  std::vector<Index> starts_;    // by line, into members_
  std::vector<Index> members_;
  bool mirrored_ = false;
  Buffer<double> rows_;    // (n, padded_d)
  Buffer<double> blocks_;  // the same, as each_block has them
  Buffer<T> panels_;       // (padded_n / kPanel, d, kPanel)
  Buffer<T> norms_;
  Buffer<T> gram_;
};

}  // namespace featcore
