// Residuals on a step as polynomials of s in [-1, 1]: where they are sampled, and how they are
// fitted.
//
// Points are those of Clenshaw and Curtis, and the fit of degree p is the least-squares one, whose
// moments up to p are those of the samples: a kink between two points, where some neuron crosses a
// hyperplane, then hardly moves what integrals of the residuals against smooth functions give.
#pragma once

#include <cmath>
#include <vector>

#include "featcore/types.hpp"

namespace featcore {

// Coefficients of a polynomial at most, so that one vector of doubles holds them.
constexpr int kTerms = 8;

class StepGrid {
 public:
  // `terms` coefficients from intervals + 1 points; intervals >= 2 terms - 2 makes the discrete
  // least squares that of Legendre.
  StepGrid(int terms, int intervals)
      : terms_(terms),
        points_(intervals + 1),
        at_(size(points_)),
        legendre_fit_(size(terms * points_)),
        fit_(size(terms * points_)),
        integral_(size(points_ * points_)) {
    for (int q = 0; q <= intervals; ++q)
      at_[size(q)] = -std::cos(kPi * static_cast<double>(q) / static_cast<double>(intervals));
    for (int q = 0; q <= intervals; ++q)
      for (int c = 0; c <= intervals; ++c)
        integral_[size(c * points_ + q)] = cardinal_integral(q, at_[size(c)]);
    std::vector<double> powers = monomials(terms, 1, 0);  // of the Legendre polynomials
    for (int q = 0; q <= intervals; ++q) {
      const double weight = integral_[size(intervals * points_ + q)];
      double before = 0, now = 1;  // P_{l-1}, P_l
      for (int l = 0; l < terms; ++l) {
        legendre_fit_[size(l * points_ + q)] = (l + 0.5) * weight * now;
        const double after = ((2 * l + 1) * at_[size(q)] * now - l * before) / (l + 1);
        before = now;
        now = after;
      }
      for (int k = 0; k < terms; ++k)
        for (int l = k; l < terms; ++l)
          fit_[size(k * points_ + q)] +=
              powers[size(l * terms + k)] * legendre_fit_[size(l * points_ + q)];
    }
  }

  int terms() const { return terms_; }
  int points() const { return points_; }
  double at(int q) const { return at_[size(q)]; }
  // Of sample q in coefficient l of the fitted polynomial, in powers of s or in Legendre's basis.
  double fit(int l, int q) const { return fit_[size(l * points_ + q)]; }
  double legendre_fit(int l, int q) const { return legendre_fit_[size(l * points_ + q)]; }
  // Of sample q in the integral from -1 to point c.
  double integral(int c, int q) const { return integral_[size(c * points_ + q)]; }

  // (terms, terms): row l has the coefficients of P_l(scale s + shift) in powers of s.
  static std::vector<double> monomials(int terms, double scale, double shift) {
    std::vector<double> rows(size(terms * terms));
    rows[0] = 1;
    for (int l = 0; l + 1 < terms; ++l)
      for (int k = 0; k <= l + 1; ++k) {
        const double here = rows[size(l * terms + k)];
        const double lower = k > 0 ? rows[size(l * terms + k - 1)] : 0;
        const double before = l > 0 ? rows[size((l - 1) * terms + k)] : 0;
        rows[size((l + 1) * terms + k)] =
            ((2 * l + 1) * (scale * lower + shift * here) - l * before) / (l + 1);
      }
    return rows;
  }

 private:
  static std::size_t size(int count) { return static_cast<std::size_t>(count); }

  // Integral from -1 to s of the polynomial that is 1 at point q and 0 at the others, by its
  // Chebyshev series.
  double cardinal_integral(int q, double s) const {
    const int intervals = points_ - 1;
    const double angle = std::acos(at_[size(q)]);
    const double end = std::acos(s);
    double sum = 0;
    for (int k = 0; k <= intervals; ++k) {
      const double half = k == 0 || k == intervals ? 0.5 : 1;
      sum += half * std::cos(k * angle) * (chebyshev_integral(k, end) - chebyshev_integral(k, kPi));
    }
    const double half = q == 0 || q == intervals ? 0.5 : 1;
    return 2 * half / intervals * sum;
  }

  // Antiderivative of T_k at s = cos(angle).
  static double chebyshev_integral(int k, double angle) {
    if (k == 0) return std::cos(angle);
    if (k == 1) return 0.25 * std::cos(2 * angle);
    return 0.5 * (std::cos((k + 1) * angle) / (k + 1) - std::cos((k - 1) * angle) / (k - 1));
  }

  static constexpr double kPi = 3.14159265358979323846;

  int terms_;
  int points_;
  std::vector<double> at_;
  std::vector<double> legendre_fit_;
  std::vector<double> fit_;
  std::vector<double> integral_;
};

}  // namespace featcore
