// What may be asked of a network's weights at one moment, whatever coordinates they are kept in.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "featcore/objective.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/spectrum.hpp"
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

// Weights a neuron a row: `lay_out` writes them when somebody asks.
template <class T>
class RowWeights final : public PlainWeights<T> {
 public:
  RowWeights(Index m, Index d, const T* a, std::function<void(const Team&, T*)> lay_out)
      : net_{m, d, nullptr, a}, lay_out_(std::move(lay_out)) {}

  Index m() const override { return net_.m; }
  Index d() const override { return net_.d; }
  const T* head() const override { return net_.a; }
  NetworkView<T> rows(const Team& team) const override { return made(team); }
  void write(const Team& team, T* W) const override { lay_out_(team, W); }

  void norms(const Team& team, double* out) const override {
    made(team);
    each_row(team, 1, [&](Index j) { out[j] = detail::norm(row(j), net_.d); });
  }

  void squared_norms(const Team& team, double* out) const override {
    made(team);
    each_row(team, 1, [&](Index j) { out[j] = squared_norm(row(j), net_.d); });
  }

  void cosines(const double* directions, Index count, const Team& team,
               double* out) const override {
    made(team);
    each_row(team, count, [&](Index j) {
      for (Index q = 0; q < count; ++q)
        out[j * count + q] = detail::cosine(row(j), directions + q * net_.d, net_.d);
    });
  }

  void sum_cosines(const std::vector<Index>& members, const double* directions, Index count,
                   const Team& team, double* out) const override {
    made(team);
    std::vector<double> sum(static_cast<std::size_t>(net_.d), 0.0);
    for (const Index j : members)
      for (Index k = 0; k < net_.d; ++k)
        sum[static_cast<std::size_t>(k)] += static_cast<double>(row(j)[k]);
    for (Index q = 0; q < count; ++q)
      out[q] = detail::cosine(sum.data(), directions + q * net_.d, net_.d);
  }

  std::vector<double> singular_values(Index count, const Team& team) const override {
    return featcore::singular_values(made(team), count, team);
  }

 private:
  const NetworkView<T>& made(const Team& team) const {
    if (net_.W == nullptr) {
      W_.resize(static_cast<std::size_t>(net_.m * net_.d));
      lay_out_(team, W_.data());
      net_.W = W_.data();
    }
    return net_;
  }

  // body(j) for every row, which looks at it `times` times.
  template <class Body>
  void each_row(const Team& team, Index times, Body&& body) const {
    constexpr Index kBlock = 64;
    const double work = 4.0 * static_cast<double>(net_.d * times);
    team.for_work(work * static_cast<double>(net_.m))
        .for_each(ceil_div(net_.m, kBlock), [&](Index block, const Worker& worker) {
          const Index end = std::min(net_.m, (block + 1) * kBlock);
          for (Index j = block * kBlock; j < end && !worker.stop(work); ++j) body(j);
        });
  }
  const T* row(Index j) const { return net_.W + j * net_.d; }

  mutable NetworkView<T> net_;
  mutable std::vector<T> W_;
  std::function<void(const Team&, T*)> lay_out_;
};

}  // namespace featcore
