// Sizes that no floating-point number holds: a neuron as mantissas (w_j, a_j) and a scale
// exp(log_scale_j) 2^{k_j}, where k_j is what mantissas that grew or shrank have handed over.
//
// The field of a neuron is of first degree in (w_j, a_j), and so mantissas move as weights do; its
// part of f takes the square of the scale. A log_scale of -inf is the limit: nothing of f ever.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "featcore/types.hpp"

namespace featcore {

class NeuronScales {
 public:
  NeuronScales(const double* log_scale, Index m) {
    for (Index j = 0; j < m; ++j) {
      const double log = log_scale[j];
      // exp(log) = rest 2^whole. Beyond kMost a power of two is as good.
      constexpr double kMost = 1e15;
      constexpr double kHigh = 0x1.62e42feep-1, kLow = 0x1.a39ef35793c76p-33;  // of ln 2
      const double whole = std::clamp(std::round(log / kLn2), -kMost, kMost);
      const double rest = (log - whole * kHigh) - whole * kLow;
      // A multiple of ln 2, as far as its digits tell, is a power of two.
      const bool splits = std::abs(whole) < kMost && std::abs(rest) > 0x1p-52 * std::abs(log);
      log_.push_back(log);
      whole_.push_back(static_cast<std::int64_t>(whole));
      rest_.push_back(splits ? std::exp(rest) : 1.0);
    }
  }

  Index m() const { return static_cast<Index>(log_.size()); }
  bool vanishes(Index j) const { return std::isinf(log_[at(j)]); }

  // The square of the scale of neuron j, where its mantissas have handed over 2^k.
  double squared(Index j, std::int64_t k) const {
    return vanishes(j) ? 0.0 : squared(j, k, Unit{});
  }

  // The logarithm of the scale. In the limit it is taken relative to what vanishes.
  double log(Index j, std::int64_t k) const {
    return (vanishes(j) ? 0.0 : log_[at(j)]) + static_cast<double>(k) * kLn2;
  }

  // A power of two in which the sizes of a network are of order 1: its largest scale, near enough.
  struct Unit {
    std::int64_t exponent = 0;
    bool vanishing = false;  // all scales are: the unit does, too
    double size() const { return vanishing ? 0.0 : power(exponent); }
    double squared() const { return vanishing ? 0.0 : power(2 * exponent); }
  };

  Unit unit(const std::int64_t* k) const {
    Unit unit{std::numeric_limits<std::int64_t>::min(), true};
    for (Index j = 0; j < m(); ++j) unit.vanishing = unit.vanishing && vanishes(j);
    for (Index j = 0; j < m(); ++j)
      if (unit.vanishing || !vanishes(j))
        unit.exponent = std::max(unit.exponent, exponent(j, k[j]));
    return unit;
  }

  // The scale of neuron j, and its square, in a unit.
  double size(Index j, std::int64_t k, const Unit& unit) const {
    if (vanishes(j) && !unit.vanishing) return 0;
    return rest_[at(j)] * power(exponent(j, k) - unit.exponent);
  }
  double squared(Index j, std::int64_t k, const Unit& unit) const {
    if (vanishes(j) && !unit.vanishing) return 0;
    return rest_[at(j)] * rest_[at(j)] * power(2 * (exponent(j, k) - unit.exponent));
  }

 private:
  static constexpr double kLn2 = 0.69314718055994530942;

  static std::size_t at(Index j) { return static_cast<std::size_t>(j); }

  std::int64_t exponent(Index j, std::int64_t k) const {
    return (vanishes(j) ? 0 : whole_[at(j)]) + k;
  }

  static double power(std::int64_t exponent) {
    constexpr std::int64_t kMost = 1 << 16;  // far beyond any number
    return std::ldexp(1.0, static_cast<int>(std::clamp(exponent, -kMost, kMost)));
  }

  std::vector<double> log_, rest_;
  std::vector<std::int64_t> whole_;
};

}  // namespace featcore
