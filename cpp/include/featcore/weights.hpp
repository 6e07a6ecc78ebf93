// What may be asked of a network's weights at one moment, whatever coordinates they are kept in.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "featcore/objective.hpp"
#include "featcore/parallel.hpp"
#include "featcore/types.hpp"

namespace featcore {

template <class T>
class Weights {
 public:
  Weights() = default;
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;
  virtual ~Weights() = default;

  virtual Index m() const = 0;
  virtual Index d() const = 0;
  virtual const T* head() const = 0;

  // W itself, (m, d); valid until the network moves.
  virtual NetworkView<T> rows(const Team& team) const = 0;

  // The same into memory of the caller's.
  virtual void write(const Team& team, T* W) const = 0;

  // |w_j|, (m,), right also where its square would overflow or vanish.
  virtual void norms(const Team& team, double* out) const = 0;

  // |w_j|^2, (m,).
  virtual void squared_norms(const Team& team, double* out) const = 0;

  // cos(w_j, v_q), (m, count), for directions (count, d) that stay where they are for the whole
  // run; 0 where either vector is zero.
  virtual void cosines(const double* directions, Index count, const Team& team,
                       double* out) const = 0;

  // cos(sum of w_j over `members`, v_q), (count,).
  virtual void sum_cosines(const std::vector<Index>& members, const double* directions, Index count,
                           const Team& team, double* out) const = 0;

  // Largest `count` singular values of W, descending.
  virtual std::vector<double> singular_values(Index count, const Team& team) const = 0;

  // ln |w_j|, (m,), right also where no number holds |w_j|; -inf for a zero neuron.
  virtual void log_norms(const Team& team, double* out) const = 0;

  // Sizes, which are norms, singular values and this head, are in this unit. It is 1 but for
  // neurons with scales of their own, whose sizes may underflow while ratios of them do not.
  virtual double unit() const = 0;
  virtual double squared_unit() const = 0;
  virtual const T* sized_head() const = 0;

  // Of such neurons, rows() and head() have the mantissas, and these are the powers of two that
  // were handed over; null for all others.
  virtual const std::int64_t* exponents() const = 0;

  // |W|^2 + |a|^2.
  double parameter_norm_squared(const Team& team) const {
    std::vector<double> squares(static_cast<std::size_t>(m()));
    squared_norms(team, squares.data());
    double sum = squared_norm(sized_head(), m());
    for (const double square : squares) sum += square;
    return sum;
  }
};

namespace detail {

template <class T>
double largest_entry(const T* w, Index d) {
  double largest = 0;
  for (Index k = 0; k < d; ++k) largest = std::max(largest, std::abs(static_cast<double>(w[k])));
  return largest;
}

template <class T>
double norm(const T* w, Index d) {
  // Scaled, so that norms of 1e-200 are right.
  const double largest = largest_entry(w, d);
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  double sum = 0;
  for (Index k = 0; k < d; ++k) {
    const double scaled = static_cast<double>(w[k]) / largest;
    sum += scaled * scaled;
  }
  return largest * std::sqrt(sum);
}

// 0 for a zero vector. Each vector is scaled by its largest entry: lengths of 1e-300 and 1e300 are
// right.
template <class T>
double cosine(const T* w, const double* v, Index d) {
  const double w_scale = largest_entry(w, d);
  const double v_scale = largest_entry(v, d);
  if (!(w_scale > 0) || !(v_scale > 0)) return 0.0;
  double ww = 0, wv = 0, vv = 0;
  for (Index k = 0; k < d; ++k) {
    const double x = static_cast<double>(w[k]) / w_scale;
    const double y = v[k] / v_scale;
    ww += x * x;
    wv += x * y;
    vv += y * y;
  }
  return std::clamp(wv / std::sqrt(ww * vv), -1.0, 1.0);
}

}  // namespace detail

// Weights without scales of their own.
template <class T>
class PlainWeights : public Weights<T> {
 public:
  void log_norms(const Team& team, double* out) const override {
    this->norms(team, out);
    for (Index j = 0; j < this->m(); ++j) out[j] = std::log(out[j]);
  }
  double unit() const override { return 1; }
  double squared_unit() const override { return 1; }
  const T* sized_head() const override { return this->head(); }
  const std::int64_t* exponents() const override { return nullptr; }
};

}  // namespace featcore
