// When the first of several samples leaves its side of a neuron's hyperplane.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "featcore/micro.hpp"
#include "featcore/neuron_series.hpp"
#include "featcore/simd.hpp"

namespace featcore {

// Sums of c_k s^k of `count` terms.
inline double polynomial(const Terms& c, int count, double s) {
  double sum = c[count - 1];
  for (int l = count - 2; l >= 0; --l) sum = sum * s + c[l];
  return sum;
}

// What a neuron has of samples side by side: z, the side (+1, -1, or 0 where nothing can happen),
// and the coefficients of their fields, (terms, stride). `count` is a multiple of a vector.
template <class T>
struct SampleRows {
  T* z = nullptr;
  T* side = nullptr;
  T* U = nullptr;
  Index stride = 0;
  Index count = 0;

  T* field(int l) const { return U + l * stride; }

  template <int L>
  void fields(Index i, Terms& u) const {
    u = Terms{};
    for (int l = 0; l < L; ++l) u[l] = static_cast<double>(field(l)[i]);
  }
};

// By Illinois: the end that stays is halved.
template <class Value>
inline double bisect(const Value& value, double low, double at_low, double high, double at_high) {
  const double width = high - low;
  for (int step = 0; step < 100 && high - low > 1e-15 * width; ++step) {
    double middle = low + (high - low) * at_low / (at_low - at_high);
    // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
    if (!(middle > low && middle < high)) middle = 0.5 * (low + high);
    const double at_middle = value(middle);
    if (at_middle == 0) return middle;
    if ((at_middle < 0) == (at_high < 0)) {
      high = middle;
      at_high = at_middle;
      at_low *= 0.5;
    } else {
      low = middle;
      at_low = at_middle;
      at_high *= 0.5;
    }
    if (step % 3 == 2) {  // never slower than bisection by much
      const double half = 0.5 * (low + high);
      const double at_half = value(half);
      if ((at_half < 0) == (at_high < 0)) {
        high = half;
        at_high = at_half;
      } else {
        low = half;
        at_low = at_half;
      }
    }
  }
  return 0.5 * (low + high);
}

// Roots in (0, limit) where the polynomial changes its sign, increasing: between the critical
// points of each derivative there is at most one root of the one before.
inline void real_roots(const Terms& c, int count, double limit, std::vector<double>& roots) {
  double critical[kTerms + 1];
  int criticals = 0;
  for (int degree = 1; degree < count; ++degree) {
    // the (count - 1 - degree)-th derivative, of this degree
    const int order = count - 1 - degree;
    double d[kTerms];
    for (int k = 0; k <= degree; ++k) {
      d[k] = c[k + order];
      for (int q = 1; q <= order; ++q) d[k] *= k + q;
    }
    const auto value = [&](double x) {
      double sum = d[degree];
      for (int k = degree - 1; k >= 0; --k) sum = sum * x + d[k];
      return sum;
    };
    double found[kTerms];
    int count_found = 0;
    double low = 0, at_low = value(0);
    for (int k = 0; k <= criticals; ++k) {
      const double high = k < criticals ? critical[k] : limit;
      const double at_high = value(high);
      if ((at_low < 0) != (at_high < 0) && high > low)
        found[count_found++] = bisect(value, low, at_low, high, at_high);
      low = high;
      at_low = at_high;
    }
    std::copy_n(found, count_found, critical);
    criticals = count_found;
  }
  for (int k = 0; k < criticals; ++k)
    if (critical[k] > 0 && critical[k] < limit) roots.push_back(critical[k]);
}

template <class T>
class CrossingSearch {
 public:
  using S = Simd<T>;
  using V = typename S::Vector;

  struct Found {
    double tau;
    Index sample;  // -1: none
  };

  // The first crossing before `reach`, up to which the series must hold.
  template <int L>
  Found first(const SampleRows<T>& rows, const NeuronSeries& series, double reach) {
    Found found{reach, -1};
    searched_.clear();
    while (found.tau > 0) {
      const double limit = found.tau;
      find_suspects<L>(rows, series, limit);
      while (!suspects_.empty() && found.tau == limit) {
        const auto next = std::min_element(
            suspects_.begin(), suspects_.end(),
            [](const Suspect& p, const Suspect& q) { return p.estimate < q.estimate; });
        const Index i = next->sample;
        *next = suspects_.back();
        suspects_.pop_back();
        if (std::find(searched_.begin(), searched_.end(), i) != searched_.end()) continue;
        searched_.push_back(i);
        Terms u;
        rows.template fields<L>(i, u);
        const double tau = first_of<L>(series, static_cast<double>(rows.z[i]), u,
                                       static_cast<double>(rows.side[i]), limit);
        if (tau < limit) found = {tau, i};
      }
      if (found.tau == limit) break;
    }
    return found;
  }

 private:
  struct Suspect {
    Index sample;
    double estimate;  // of when it crosses
  };

  static V magnitude(V v) { return v > -v ? v : -v; }

  // Those on the other side at `reach`, or that could come to 0 before and back.
  template <int L>
  void find_suspects(const SampleRows<T>& rows, const NeuronSeries& series, double reach) {
    suspects_.clear();
    NeuronSeries::Point end;
    series.at(reach, end);
    V A[L];
    for (int l = 0; l < L; ++l) A[l] = S::fill(static_cast<T>(end.A[l]));
    const V decay = S::fill(static_cast<T>(end.decay));
    // how far z can move and come back
    const V bound =
        S::fill(static_cast<T>(reach * series.speed(series.largest_head(reach), 1.0) / end.decay));
    for (Index i = 0; i < rows.count; i += S::kLanes) {
      const V first = S::load(rows.field(0) + i);
      const V now = S::load(rows.side + i) * S::load(rows.z + i);
      V spread{};
      V later = decay * S::load(rows.z + i) + A[0] * first;
      micro::unroll<L - 1>(FEATCORE_EACH(l) {
        const V u = S::load(rows.field(l + 1) + i);
        spread += magnitude(u);
        later += A[l + 1] * u;
      });
      const V steady = magnitude(first);
      const V then = S::load(rows.side + i) * later;
      unsigned found = S::positive(-then);
      const unsigned turning = S::positive(spread - steady);
      if (turning) found |= turning & S::positive(bound * (spread + steady) - now - then);
      for (; found; found &= found - 1) {
        const int lane = __builtin_ctz(found);
        if (rows.side[i + lane] == T(0)) continue;
        const double before = static_cast<double>(now[lane]);
        const double after = std::min(static_cast<double>(then[lane]), 0.0);
        suspects_.push_back({i + lane, before > after ? before / (before - after) : 0.0});
      }
    }
  }

  // First tau < limit at which a sample leaves its side; `limit` if there is none.
  template <int L>
  double first_of(const NeuronSeries& series, double z, const Terms& u, double side, double limit) {
    double spread = 0;
    for (int l = 1; l < L; ++l) spread += std::abs(u[l]);
    const bool turns = std::abs(u[0]) <= spread;
    Terms here;
    series.local_polynomial(u, here);
    roots_.clear();
    if (turns) real_roots(here, L, limit, roots_);
    roots_.push_back(limit);
    double low = 0, at_low = side * z;
    for (const double high : roots_) {
      const double at_high = side * preactivation(series, z, here, high);
      if (at_high < 0)
        return at_low <= 0 ? low : root<L>(series, z, here, side, low, at_low, high, at_high);
      low = high;
      at_low = at_high;
    }
    return limit;
  }

  // z / E at tau, where `u` are the coefficients of its field around s.
  static double preactivation(const NeuronSeries& series, double z, const Terms& u, double tau) {
    Terms B;
    double a = 0;
    series.local(tau, B, a);
    return z + terms::sum(B * u) / series.decay(tau);
  }

  // Where side * z changes from positive to negative; monotone in between.
  template <int L>
  static double root(const NeuronSeries& series, double z, const Terms& u, double side, double low,
                     double at_low, double high, double at_high) {
    const double width = high - low;
    double tau = low + width * at_low / (at_low - at_high);
    for (int step = 0; step < 100; ++step) {
      Terms B;
      double a = 0;
      series.local(tau, B, a);
      const double decay = series.decay(tau);
      const double value = side * (z + terms::sum(B * u) / decay);
      if (value == 0) return tau;
      (value > 0 ? low : high) = tau;
      const double slope = side * series.speed(a, polynomial(u, L, tau)) / decay;
      const double move = value / slope;
      double next = tau - move;
      // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
      if (!(next > low && next < high)) next = 0.5 * (low + high);
      const bool close = std::abs(next - tau) <= 1e-9 * width && next == tau - move;
      tau = next;
      if (close || high - low <= 1e-16) break;
    }
    return tau;
  }

  std::vector<Suspect> suspects_;
  std::vector<Index> searched_;
  std::vector<double> roots_;
};

}  // namespace featcore
