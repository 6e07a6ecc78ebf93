// One neuron between two of its events, as power series.
//
// On a step, s in [-1, 1] with t = t0 + half (1 + s), the residuals are polynomials, and so is
// v(s) = sum_i sigma'(z_i) r_i(s) x_i = sum_l V_l s^l. The neuron obeys
//
//   dw/ds = half (rate_W a v - decay_W w),    da/ds = half (rate_a <w, v> - decay_a a).
//
// Hence w(s) = E(s) w(s0) + sum_l A_l(s) V_l with scalars A_l, and what determines them is small:
// Q_l = <w(s0), V_l> and M_lk = <V_l, V_k>. Neither samples nor inputs enter.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "featcore/residual_polynomial.hpp"

namespace featcore {

// A number for each power of s.
// NOLINTNEXTLINE(modernize-use-using): the attribute needs a typedef
typedef double Terms __attribute__((vector_size(8 * kTerms)));

namespace terms {

inline void load(const double* p, Terms& v) { std::memcpy(&v, p, sizeof(Terms)); }

inline double sum(const Terms& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// The lanes moved up by one, with `first` before them.
inline void push(Terms& v, double first) {
#if defined(__clang__) || __GNUC__ >= 12
  v = __builtin_shufflevector(v, v, 0, 0, 1, 2, 3, 4, 5, 6);
  v[0] = first;
#else
  for (int l = kTerms - 1; l > 0; --l) v[l] = v[l - 1];
  v[0] = first;
#endif
}

// The lanes moved down by one, with 0 behind them; returns the first.
inline double pop(Terms& v) {
  const double first = v[0];
#if defined(__clang__) || __GNUC__ >= 12
  const Terms zero{};
  v = __builtin_shufflevector(v, zero, 1, 2, 3, 4, 5, 6, 7, 8);
#else
  for (int l = 0; l + 1 < kTerms; ++l) v[l] = v[l + 1];
  v[kTerms - 1] = 0;
#endif
  return first;
}

}  // namespace terms

// Speeds on a step, in units of s.
struct NeuronRates {
  double half = 0;  // of the step's length
  double W = 1;
  double a = 1;
  double decay_W = 0;
  double decay_a = 0;
};

class NeuronSeries {
 public:
  static constexpr int kOrder = 32;

  // Where the neuron is at some s.
  struct Point {
    Terms A;
    double decay;  // E
    double a;
  };

  // Expands around s0 with a(s0) = a and Q, M as above, `count` terms each. Returns how far the
  // series holds to rounding, at most `reach`; NaN if it is not finite.
  double expand(const NeuronRates& rates, int count, double s0, double a, const Terms& Q,
                const Terms* M, double reach) {
    rates_ = rates;
    count_ = count;
    shift(s0);
    Terms Q_here{};
    for (int l = 0; l < count; ++l) Q_here += Q[l] * rows_[l];
    for (int k = 0; k < count; ++k) {
      Terms half_way{};
      for (int l = k; l < count; ++l) half_way += columns_[k][l] * M[l];
      Terms here{};
      for (int l = 0; l < count; ++l) here += half_way[l] * rows_[l];
      M_[k] = here;
    }
    return recur(a, Q_here, reach);
  }

  void at(double tau, Point& point) const {
    Terms B;
    double a = 0;
    local(tau, B, a);
    Terms A{};
    for (int l = 0; l < count_; ++l) A += B[l] * columns_[l];
    point.A = A;
    point.a = a;
    point.decay = decay(tau);
  }

  double decay(double tau) const {
    return rates_.decay_W == 0 ? 1.0 : std::exp(-rates_.half * rates_.decay_W * tau);
  }

  // The coefficients A_l around s0, and a.
  void local(double tau, Terms& B, double& a) const {
    Terms sum = B_[order_];
    double head = a_[order_];
    for (int j = order_ - 1; j >= 0; --j) {
      sum = sum * tau + B_[j];
      head = head * tau + a_[j];
    }
    B = sum;
    a = head;
  }

  // Coefficients around s0 of the polynomial sum_l values[l] s^l.
  void local_polynomial(const Terms& values, Terms& here) const {
    Terms sum{};
    for (int l = 0; l < count_; ++l) sum += values[l] * rows_[l];
    here = sum;
  }

  // Derivative of a weight along v where a and v(s) are given, without the decay.
  double speed(double a, double v) const { return rates_.half * rates_.W * a * v; }

  // First tau in (0, reach] where a changes its sign, or `reach` + 1. `sign`: of a just after 0.
  double sign_change(double reach, double& sign) const {
    sign = 0;
    int first = 0;
    while (first <= order_ && a_[first] == 0) ++first;
    if (first > order_) return reach + 1;
    sign = a_[first] > 0 ? 1 : -1;
    double least = sign * a_[first];
    double power = 1;
    for (int j = first + 1; j <= order_; ++j) {
      power *= reach;
      least += std::min(0.0, sign * a_[j] * power);
    }
    if (least > 0) return reach + 1;
    constexpr int kProbes = 32;
    double low = 0;
    for (int k = 1; k <= kProbes; ++k) {
      double high = reach * k / kProbes;
      if (sign * head(high) > 0) {
        low = high;
        continue;
      }
      for (int step = 0; step < 60; ++step) {
        const double middle = 0.5 * (low + high);
        (sign * head(middle) > 0 ? low : high) = middle;
      }
      return high;
    }
    return reach + 1;
  }

  // Bound of |a| up to tau.
  double largest_head(double tau) const {
    double sum = 0, power = 1;
    for (int j = 0; j <= order_; ++j) {
      sum += std::abs(a_[j]) * power;
      power *= tau;
    }
    return sum;
  }

 private:
  double head(double tau) const {
    double sum = a_[order_];
    for (int j = order_ - 1; j >= 0; --j) sum = sum * tau + a_[j];
    return sum;
  }

  // s^l = sum_k rows_[l][k] (s - s0)^k, and columns_ its transpose.
  void shift(double s0) {
    static constexpr double kBinomials[kTerms][kTerms] = {
        {1, 0, 0, 0, 0, 0, 0, 0},    {1, 1, 0, 0, 0, 0, 0, 0},    {1, 2, 1, 0, 0, 0, 0, 0},
        {1, 3, 3, 1, 0, 0, 0, 0},    {1, 4, 6, 4, 1, 0, 0, 0},    {1, 5, 10, 10, 5, 1, 0, 0},
        {1, 6, 15, 20, 15, 6, 1, 0}, {1, 7, 21, 35, 35, 21, 7, 1}};
    double powers[kTerms];
    powers[0] = 1;
    for (int k = 1; k < kTerms; ++k) powers[k] = powers[k - 1] * s0;
    for (int l = 0; l < kTerms; ++l)
      for (int k = 0; k < kTerms; ++k) {
        rows_[l][k] = k <= l ? kBinomials[l][k] * powers[k <= l ? l - k : 0] : 0;
        columns_[l][k] = k >= l ? kBinomials[k][l] * powers[k >= l ? k - l : 0] : 0;
      }
  }

  double recur(double a, const Terms& Q, double reach) {
    const double speed_W = rates_.half * rates_.W;
    const double speed_a = rates_.half * rates_.a;
    const double loss_W = rates_.half * rates_.decay_W;
    const double loss_a = rates_.half * rates_.decay_a;
    Terms recent{};     // a_j, a_{j-1}, ...
    Terms pending = Q;  // lane l: what is known of coefficient j + l of <w, v>
    a_[0] = a;
    B_[0] = Terms{};
    recent[0] = a;
    double decay = 1, power = 1, largest = std::abs(a), before = largest;
    for (int j = 0; j < kOrder; ++j) {
      const double share = 1.0 / (j + 1);
      const double next = share * (speed_a * terms::pop(pending) - loss_a * a_[j]);
      const Terms B = share * (speed_W * recent - loss_W * B_[j]);
      a_[j + 1] = next;
      B_[j + 1] = B;
      terms::push(recent, next);
      Terms sum{};
      for (int k = 0; k < count_; ++k) sum += B[k] * M_[k];
      if (loss_W != 0) {
        decay *= -loss_W * share;
        sum += decay * Q;
      }
      pending += sum;
      power *= reach;
      const double head = std::abs(next) * power;
      largest = std::max(largest, head);
      // The weights' own decay has a series too, which a head that stands still does not show.
      const double size = loss_W != 0 ? std::max(head, std::abs(decay) * power * largest) : head;
      if (size + before <= kRounding * largest && j > count_) {
        order_ = j + 1;
        return reach;
      }
      before = size;
    }
    order_ = kOrder;
    // the last terms at a reach of tau shrink as its powers
    const double wanted = kRounding * largest / std::max(before, kRounding * largest);
    return std::isfinite(before) ? reach * std::min(0.9 * std::pow(wanted, 1.0 / kOrder), 1.0)
                                 : std::numeric_limits<double>::quiet_NaN();
  }

  static constexpr double kRounding = 1e-17;

  NeuronRates rates_;
  int count_ = 0;
  int order_ = 0;
  Terms rows_[kTerms];
  Terms columns_[kTerms];
  Terms M_[kTerms];
  Terms B_[kOrder + 1];
  double a_[kOrder + 1];
};

}  // namespace featcore
