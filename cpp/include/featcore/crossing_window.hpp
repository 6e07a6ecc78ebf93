// A stretch of a neuron's path in which only a few samples can come to its hyperplane. Those are
// followed from crossing to crossing; what the crossings do to all others is made up for at the
// end, in one pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/crossing_search.hpp"
#include "featcore/flow_samples.hpp"
#include "featcore/neuron_series.hpp"

namespace featcore {

template <class T>
class CrossingWindow {
 public:
  using S = Simd<T>;
  using V = typename S::Vector;

  explicit CrossingWindow(const FlowSamples<T>& samples)
      : samples_(&samples), distance_(samples.padded_n()), speed_(samples.padded_n()) {}

  // Whether there are enough samples for windows to pay.
  static bool worthwhile(const FlowSamples<T>& samples) { return samples.n() >= kManySamples; }

  // Opens a window that lasts beyond `first` and for `reach` at most, from where `series` stands.
  // `blur`: of z, relative to a sample's norm, what may be called zero. `drift`: the length by
  // which v may change within. False if too many samples come near before `first` is over.
  template <int L>
  bool open(const SampleRows<T>& all, const NeuronSeries& series, double head_sign, double first,
            double reach, double blur, double drift) {
    const double decay = series.decay(reach);
    const double slowest = std::min(1.0, decay);
    head_bound_ = 1.1 * series.largest_head(reach);
    const double most = series.speed(head_bound_, 1.0) / slowest;
    if (!(most < std::numeric_limits<double>::infinity())) return false;
    measure<L>(all, head_sign, most, blur / slowest, drift);
    double length = reach;
    if (near(length) > kMost) {
      if (near(first) > kFew) return false;
      double low = first, high = reach;
      for (int step = 0; step < kSearches; ++step) {
        length = std::sqrt(low * high);
        const Index count = near(length);
        if (count > kMost)
          high = length;
        else
          low = length;
        if (count > kFew && count <= kMost) break;
      }
      length = low;
    }
    if (!(length > first)) return false;
    take<L>(all, length);
    length_ = length;
    passed_ = 0;
    drift_ = drift;
    A_ = Terms{};
    decay_ = 1;
    crossings_.clear();
    return true;
  }

  // How much of it is left, and what |a| may be for no other sample to come near.
  double left() const { return length_ - passed_; }
  double head_bound() const { return head_bound_; }
  // Whether v has not changed by more than was reckoned with.
  bool holds() const { return drift_ >= 0; }

  SampleRows<T>& rows() { return rows_; }
  // Of `all`, the row of item c.
  Index sample(Index c) const { return items_[c]; }
  Index item(Index sample) const {
    return static_cast<Index>(std::lower_bound(items_, items_ + count_, sample) - items_);
  }

  // Whether another sample than item c is as near to zero as blur.
  bool tied(Index c, double blur) const {
    for (Index k = 0; k < count_; ++k)
      if (k != c &&
          std::abs(static_cast<double>(z_.data()[k])) <= blur * static_cast<double>(norms_[k]))
        return true;
    return false;
  }

  // Moves the samples to tau.
  template <int L>
  void advance(const NeuronSeries::Point& to, double tau) {
    V A[L];
    for (int l = 0; l < L; ++l) A[l] = S::fill(static_cast<T>(to.A[l]));
    const V decay = S::fill(static_cast<T>(to.decay));
    for (Index k = 0; k < rows_.count; k += S::kLanes) {
      V z = decay * S::load(z_.data() + k);
      for (int l = 0; l < L; ++l) z += A[l] * S::load(rows_.field(l) + k);
      S::store(z_.data() + k, z);
    }
    A_ = to.decay * A_ + to.A;
    decay_ *= to.decay;
    passed_ += tau;
  }

  // Item c crosses, and v(s) gains change(s) x_c.
  template <int L>
  void cross(Index c, const Terms& change, T side) {
    const Index b = items_[c];
    rows_.side[c] = side;
    rows_.z[c] = T(0);
    T products[kMost];
    if (samples_->keeps_products()) {
      const T* row = samples_->products(b, nullptr);
      for (Index k = 0; k < count_; ++k) products[k] = row[items_[k]];
    } else {
      for (Index k = 0; k < count_; ++k)
        products[k] = static_cast<T>(samples_->product(b, items_[k]));
    }
    for (int l = 0; l < L; ++l) {
      const T factor = static_cast<T>(change[l]);
      T* u = rows_.field(l);
      for (Index k = 0; k < count_; ++k) u[k] += factor * products[k];
    }
    crossings_.push_back({b, change, A_, decay_});
    double size = 0;
    for (int l = 0; l < L; ++l) size += std::abs(change[l]);
    drift_ -= size * samples_->norm(b);
  }

  // Brings all samples, and V and w (rows of padded_d, w last), to where the window stands.
  template <int L>
  void close(const SampleRows<T>& all, double* directions, double* w) {
    const auto count = static_cast<Index>(crossings_.size());
    // of x_b in what w has gained since the crossing of b, and in V
    shares_.resize(crossings_.size());
    for (std::size_t q = 0; q < crossings_.size(); ++q) {
      const Crossing& crossing = crossings_[q];
      const Terms since = A_ - decay_ / crossing.decay * crossing.A;
      double gain = 0;
      for (int l = 0; l < L; ++l) {
        gain += crossing.change[l] * since[l];
        shares_[q][l] = crossing.change[l];
      }
      shares_[q][L] = gain;
    }
    const T* kept[kGroup];
    for (Index q = 0; q == 0 || q < count; q += kGroup) {
      const Index group = std::min(kGroup, count - q);
      for (Index p = 0; p < group; ++p) {
        const Index b = crossings_[static_cast<std::size_t>(q + p)].sample;
        if (!samples_->keeps_products() && products_.size() == 0)
          products_ = Buffer<T>(kGroup * samples_->padded_n());
        kept[p] = samples_->products(
            b, products_.size() > 0 ? products_.data() + p * samples_->padded_n() : nullptr);
      }
      add<L>(all.z, all.U, all.stride, samples_->padded_n(), kept, q, group);
      const double* inputs[kGroup];
      for (Index p = 0; p < group; ++p)
        inputs[p] = samples_->row(crossings_[static_cast<std::size_t>(q + p)].sample);
      add<L>(w, directions, samples_->padded_d(), samples_->padded_d(), inputs, q, group);
    }
    for (Index c = 0; c < count_; ++c) {
      all.z[items_[c]] = rows_.z[c];
      all.side[items_[c]] = rows_.side[c];
    }
  }

 private:
  static constexpr Index kManySamples = 256;
  static constexpr Index kMost = 64;  // samples of a window
  static constexpr Index kFew = 40;
  static constexpr int kSearches = 12;
  static constexpr Index kGroup = 8;  // crossings that are made up for together

  struct Crossing {
    Index sample;
    Terms change;
    Terms A;  // and the decay, from the start of the window to here
    double decay;
  };

  static V magnitude(V v) { return v > -v ? v : -v; }

  // How far each sample is from zero, and how fast it can come near: |a| is at most head_bound_,
  // and v is what it is now but for `drift`.
  template <int L>
  void measure(const SampleRows<T>& all, double head_sign, double most, double blur, double drift) {
    const V sign = S::fill(static_cast<T>(-head_sign));
    const V rate = S::fill(static_cast<T>(most));
    const V margin = S::fill(static_cast<T>(blur));
    const V wander = S::fill(static_cast<T>(drift));
    for (Index i = 0; i < all.count; i += S::kLanes) {
      const V side = S::load(all.side + i);
      const V norm = S::load(samples_->norms() + i);
      V speed = sign * side * S::load(all.field(0) + i) + wander * norm;
      micro::unroll<L - 1>(FEATCORE_EACH(l) { speed += magnitude(S::load(all.field(l + 1) + i)); });
      S::store(distance_.data() + i, side * S::load(all.z + i) - margin * norm);
      S::store(speed_.data() + i, rate * speed);
    }
  }

  // How many samples may come near within `length`.
  Index near(double length) const {
    const V time = S::fill(static_cast<T>(length));
    Index count = 0;
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      const V speed = S::load(speed_.data() + i);
      const unsigned moving = S::positive(speed);
      const unsigned far = S::positive(S::load(distance_.data() + i) - time * speed);
      count += __builtin_popcount(moving & ~far);
    }
    return count;
  }

  template <int L>
  void take(const SampleRows<T>& all, double length) {
    const V time = S::fill(static_cast<T>(length));
    count_ = 0;
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      const V speed = S::load(speed_.data() + i);
      const unsigned far = S::positive(S::load(distance_.data() + i) - time * speed);
      for (unsigned some = S::positive(speed) & ~far; some; some &= some - 1)
        items_[count_++] = i + __builtin_ctz(some);
    }
    rows_ = {z_.data(), side_.data(), U_.data(), kMost, ceil_div(count_, S::kLanes) * S::kLanes};
    for (Index c = 0; c < rows_.count; ++c) {
      const bool real = c < count_;
      const Index i = real ? items_[c] : 0;
      rows_.z[c] = real ? all.z[i] : T(0);
      rows_.side[c] = real ? all.side[i] : T(0);
      norms_[c] = real ? samples_->norms()[i] : T(0);
      for (int l = 0; l < L; ++l) rows_.field(l)[c] = real ? all.field(l)[i] : T(0);
    }
  }

  // z = decay z + A U + sum of shares_[., L] rows, U += shares_ rows, for a group of crossings; the
  // first one moves z.
  template <int L, class P>
  void add(P* z, P* U, Index stride, Index length, const P* const* rows, Index first,
           Index group) const {
    using R = Simd<P>;
    using Lanes = typename R::Vector;
    P shares[kGroup][L + 1];
    for (Index q = 0; q < group; ++q)
      for (int l = 0; l <= L; ++l)
        shares[q][l] = static_cast<P>(shares_[static_cast<std::size_t>(first + q)][l]);
    P A[L];
    for (int l = 0; l < L; ++l) A[l] = static_cast<P>(A_[l]);
    const P decay = static_cast<P>(decay_);
    for (Index i = 0; i < length; i += R::kLanes) {
      Lanes sums[L + 1];
      micro::unroll<L>(FEATCORE_EACH(l) { sums[l] = R::load(U + l * stride + i); });
      sums[L] = R::load(z + i);
      if (first == 0) {
        sums[L] *= decay;
        micro::unroll<L>(FEATCORE_EACH(l) { sums[L] += A[l] * sums[l]; });
      }
      for (Index q = 0; q < group; ++q) {
        const Lanes row = R::load(rows[q] + i);
        micro::unroll<L + 1>(FEATCORE_EACH(l) { sums[l] += shares[q][l] * row; });
      }
      micro::unroll<L>(FEATCORE_EACH(l) { R::store(U + l * stride + i, sums[l]); });
      R::store(z + i, sums[L]);
    }
  }

  const FlowSamples<T>* samples_;
  Buffer<T> distance_, speed_;  // by sample
  Index count_ = 0;
  Index items_[kMost];
  T norms_[kMost];
  Buffer<T> z_{kMost}, side_{kMost}, U_{kTerms * kMost};
  SampleRows<T> rows_;
  double length_ = 0, passed_ = 0;
  double drift_ = 0;  // what is left of it
  double head_bound_ = 0;
  Terms A_{};
  double decay_ = 1;
  std::vector<Crossing> crossings_;
  struct Shares {
    double value[kTerms + 1];
    double& operator[](int l) { return value[l]; }
    double operator[](int l) const { return value[l]; }
  };
  std::vector<Shares> shares_;
  Buffer<T> products_;  // of a group of crossings, unless kept
};

}  // namespace featcore
