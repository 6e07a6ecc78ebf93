// The coordinates of a flow whose neurons have scales of their own: those of another frame, for the
// mantissas.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "featcore/flow_frame.hpp"
#include "featcore/neuron_scales.hpp"
#include "featcore/scaled_weights.hpp"

namespace featcore {

template <class T>
class ScaledFrame final : public FlowFrame<T> {
 public:
  // `sizes`: a_j^2 + |w_j|^2 of the mantissas at the start of the run. What is not moved in must
  // outlive the frame.
  ScaledFrame(std::unique_ptr<FlowFrame<T>> inner, const NeuronScales& scales, const double* sizes,
              Activation activation, const std::vector<SplitView<T>>& splits,
              bool signs_of_all_splits, const Team& team)
      : inner_(std::move(inner)),
        scales_(&scales),
        sizes_(sizes),
        activation_(activation),
        splits_(splits),
        signs_(signs_of_all_splits),
        d_(splits.front().d),
        rest_squares_(static_cast<std::size_t>(inner_->start().m), 0.0) {
    if (inner_->basis().empty()) return;
    // what lies outside the coordinates: the network whose part inside is 0
    const NetworkView<T> start = inner_->start();
    const std::vector<T> none(static_cast<std::size_t>(start.m * start.d), T(0));
    rest_.resize(static_cast<std::size_t>(start.m * d_));
    inner_->write({{start.m, start.d, none.data(), start.a}, T(1)}, team, rest_.data());
    // W_0 - (W_0 Q^T) Q leaves rounding behind where W_0 lies in the span
    for (Index j = 0; j < start.m; ++j)
      rest_squares_[static_cast<std::size_t>(j)] = squared_norm(rest_.data() + j * d_, d_);
  }

  const char* name() const override { return inner_->name(); }
  NetworkView<T> start() const override { return inner_->start(); }
  SplitView<T> samples() const override { return inner_->samples(); }
  double zero() const override { return inner_->zero(); }
  const std::vector<T>& basis() const override { return inner_->basis(); }

  void visit(const FlowPoint<T>& point, const Team& team,
             const typename FlowFrame<T>::Body& body) override {
    const Index m = point.net.m;
    std::vector<T> W(static_cast<std::size_t>(m * d_));
    write(point, team, W.data());
    const ScaledWeights<T> weights({m, d_, W.data(), point.net.a}, *scales_, point.exponents);
    // sigma is of first degree: the whole scale may go into the head
    const NeuronScales::Unit unit = scales_->unit(point.exponents);
    std::vector<T> head(static_cast<std::size_t>(m));
    for (Index j = 0; j < m; ++j)
      head[static_cast<std::size_t>(j)] = static_cast<T>(
          scales_->squared(j, point.exponents[j], unit) * static_cast<double>(point.net.a[j]));
    PrimalForm<T> form({m, d_, W.data(), head.data()}, activation_, splits_, signs_, team);
    body(form, weights);
  }

  void write(const FlowPoint<T>& point, const Team& team, T* W) override {
    if (rest_.empty()) {
      inner_->write(point, team, W);
      return;
    }
    inner_->write({point.net, T(0)}, team, W);
    for (Index j = 0; j < point.net.m; ++j) {
      const double share = static_cast<double>(point.rest) * power(-point.exponents[j]);
      for (Index k = 0; k < d_; ++k)
        W[j * d_ + k] += static_cast<T>(share * static_cast<double>(rest_[at(j * d_ + k)]));
    }
  }

  // Relative to a_j^2 + |w_j|^2, of then or now.
  double drift(const FlowPoint<T>& point, const double* balance, const Team&) override {
    const NetworkView<T>& net = point.net;
    const double kept = static_cast<double>(point.rest) * static_cast<double>(point.rest);
    double most = 0;
    for (Index j = 0; j < net.m; ++j) {
      const double a = static_cast<double>(net.a[j]) * static_cast<double>(net.a[j]);
      const double w = squared_norm(net.W + j * net.d, net.d);
      // in units of the larger of both scales
      const std::int64_t k = point.exponents[j];
      const double now = power(2 * std::min<std::int64_t>(k, 0));
      const double then = power(-2 * std::max<std::int64_t>(k, 0));
      const double rest = rest_squares_[at(j)];
      const double change = now * (a - w) - then * (balance[j] + rest - (1 - kept) * rest);
      const double size = std::max(now * (a + w) + then * kept * rest, then * sizes_[j]);
      if (size > 0) most = std::max(most, std::abs(change) / size);
    }
    return most;
  }

  const double* plain(const double* balance) override {
    plain_.clear();
    for (Index j = 0; j < scales_->m(); ++j) plain_.push_back(scales_->squared(j, 0) * balance[j]);
    return plain_.data();
  }

  double squared_rest(T rest, const Team&) override {
    double sum = 0;
    for (Index j = 0; j < scales_->m(); ++j) sum += scales_->squared(j, 0) * rest_squares_[at(j)];
    return static_cast<double>(rest) * static_cast<double>(rest) * sum;
  }

 private:
  static std::size_t at(Index k) { return static_cast<std::size_t>(k); }

  static double power(std::int64_t exponent) {
    constexpr std::int64_t kMost = 1 << 16;
    return std::ldexp(1.0, static_cast<int>(std::clamp(exponent, -kMost, kMost)));
  }

  std::unique_ptr<FlowFrame<T>> inner_;
  const NeuronScales* scales_;
  const double* sizes_;
  Activation activation_;
  std::vector<SplitView<T>> splits_;
  bool signs_;
  Index d_;
  std::vector<T>
      rest_;  // of the mantissas at the start, outside the coordinates; none if all are in
  std::vector<double> rest_squares_;
  std::vector<double> plain_;
};

}  // namespace featcore
