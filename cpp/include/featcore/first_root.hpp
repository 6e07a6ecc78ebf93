// The first time at which a polynomial is no longer positive: rigorous, for what it says "none" of.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace featcore {

class FirstRoot {
 public:
  // First tau in (0, reach] with p(tau) <= 0, where p(0) > 0; `reach` + 1 if there is none. A
  // polynomial is expanded around the middle of an interval: where its constant outweighs the rest
  // there is no root, and where its slope does there is at most one. Coefficients: powers of tau.
  double operator()(const std::vector<double>& coefficients, double reach) {
    scaled_.assign(coefficients.begin(), coefficients.end());
    double power = 1;
    double most = 0;
    for (double& c : scaled_) {
      c *= power;
      power *= reach;
      most += std::abs(c);
    }
    if (2 * scaled_.front() > most || !std::isfinite(most)) return reach + 1;
    const double found = search(0, 1);
    return found <= 1 ? reach * found : reach + 1;
  }

 private:
  static constexpr double kNone = 2;
  static constexpr double kNarrow = 1e-15;

  double value(double s) const {
    double sum = 0;
    for (auto c = scaled_.rbegin(); c != scaled_.rend(); ++c) sum = sum * s + *c;
    return sum;
  }

  double slope(double s) const {
    double sum = 0;
    for (std::size_t k = scaled_.size() - 1; k > 0; --k)
      sum = sum * s + static_cast<double>(k) * scaled_[k];
    return sum;
  }

  double search(double low, double high) {
    const double middle = 0.5 * (low + high), radius = 0.5 * (high - low);
    // by repeated synthetic division
    shifted_ = scaled_;
    const std::size_t count = shifted_.size();
    for (std::size_t k = 0; k + 1 < count; ++k)
      for (std::size_t l = count - 1; l-- > k;) shifted_[l] += middle * shifted_[l + 1];
    double rest = 0, bend = 0, power = 1;
    for (std::size_t k = 1; k < count; ++k) {
      if (k > 1) bend += static_cast<double>(k) * std::abs(shifted_[k]) * power;
      power *= radius;
      rest += std::abs(shifted_[k]) * power;
    }
    if (shifted_[0] > rest) return kNone;
    const bool ends_above = value(high) > 0;
    const bool monotone = count > 1 && std::abs(shifted_[1]) > bend;
    if (monotone) return ends_above ? kNone : root(low, high);
    if (radius < kNarrow) return ends_above ? kNone : high;
    const double first = search(low, middle);
    return first <= 1 ? first : search(middle, high);
  }

  // Where p, positive at `low` and not at `high`, falls to 0: Newton inside the bracket.
  double root(double low, double high) const {
    double s = 0.5 * (low + high);
    for (int step = 0; step < 100 && high - low > 0; ++step) {
      const double at = value(s);
      (at > 0 ? low : high) = s;
      double next = s - at / slope(s);
      // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
      if (!(next > low && next < high)) next = 0.5 * (low + high);
      if (next == s || next <= low || next >= high) break;
      if (std::abs(next - s) <= 1e-16 * std::abs(s)) {
        s = next;
        break;
      }
      s = next;
    }
    return s;
  }

  std::vector<double> scaled_, shifted_;
};

}  // namespace featcore
