// What is minimised: the weighted mean (or sum) of a loss, and penalties.
//
//   objective = sum_i c_i l(f_i, y_i) + (mu/2) sum_i p_i f_i^2 + (lambda/2)(|W|^2 + |a|^2)
//
// p_i = w_i / sum w; c_i = p_i for the mean and w_i for the sum.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "featcore/loss.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/types.hpp"

namespace featcore {

struct ObjectiveSpec {
  Loss loss = Loss::logistic;
  bool mean = true;
  double weight_decay = 0;    // lambda
  double output_penalty = 0;  // mu
};

template <class T>
class Objective {
 public:
  Objective(const ObjectiveSpec& spec, const SplitView<T>& split) : spec_(spec), split_(split) {
    if (split.n < 1) throw std::invalid_argument("a split needs at least one sample");
    total_ = static_cast<double>(split.n);
    if (split.weights) {
      total_ = 0;
      for (Index i = 0; i < split.n; ++i) total_ += weight(i);
      if (!(total_ > 0)) throw std::invalid_argument("sample weights must have a positive sum");
    }
    share_ = 1 / total_;
    scale_ = spec.mean ? share_ : 1;
  }

  // The same on a part of the samples, drawn at random: in expectation it is that of all.
  Objective(const Objective& whole, const SplitView<T>& part) : spec_(whole.spec_), split_(part) {
    const double times = static_cast<double>(whole.split_.n) / static_cast<double>(part.n);
    total_ = whole.total_ / times;
    share_ = whole.share_ * times;
    scale_ = whole.scale_ * times;
  }

  const SplitView<T>& split() const { return split_; }
  const ObjectiveSpec& spec() const { return spec_; }

  double weight(Index i) const {
    return split_.weights ? static_cast<double>(split_.weights[i]) : 1;
  }
  double total_weight() const { return total_; }

  // r_i = -d objective / d f_i, for samples begin..end; times 2^doublings, which is for those that
  // halvings() tells of.
  void residuals(Index begin, Index end, const T* f, T* r, int doublings = 0) const {
    const T scale = static_cast<T>(scale_);
    if (doublings == 0 && spec_.loss == Loss::logistic) {
      for (Index i = begin; i < end; ++i) r[i] = scale * logistic_residual(f[i], split_.y[i]);
    } else if (doublings == 0) {
      for (Index i = begin; i < end; ++i) r[i] = scale * residual<T>(spec_.loss, f[i], split_.y[i]);
    } else {
      const double shift = doublings * kLogTwo;
      for (Index i = begin; i < end; ++i)
        r[i] = scale * shifted_residual<T>(spec_.loss, f[i], split_.y[i], shift);
    }
    if (spec_.output_penalty != 0) {
      const T penalty = static_cast<T>(spec_.output_penalty * share_);
      for (Index i = begin; i < end; ++i) r[i] -= penalty * f[i];
    }
    if (split_.weights)  // a sample of weight zero may have an infinite residual
      for (Index i = begin; i < end; ++i)
        r[i] = split_.weights[i] > 0 ? r[i] * split_.weights[i] : T(0);
  }

  // How far roundings of f_i and r_i may move r_i, which has the value r, in units of a rounding.
  double roundings(Index i, T f, T r) const {
    const double size = std::abs(static_cast<double>(r));
    // of the loss by |dr/df|, which is at most |r| where a loss decays
    double slope = spec_.loss == Loss::squared ? scale_ * weight(i) : size;
    slope += spec_.output_penalty * share_ * weight(i);
    return size + slope * std::abs(static_cast<double>(f));
  }

  // k such that 2^k times the residuals are numbers of ordinary size, where all margins are so
  // large that squares of residuals might underflow; else 0.
  int halvings(const T* f) const {
    const bool decays = spec_.loss == Loss::logistic || spec_.loss == Loss::exponential;
    if (!decays || spec_.output_penalty != 0 || spec_.weight_decay != 0) return 0;
    double least = std::numeric_limits<double>::infinity();
    for (Index i = 0; i < split_.n; ++i)
      if (weight(i) > 0)
        least = std::min(least, static_cast<double>(f[i]) * static_cast<double>(split_.y[i]));
    constexpr double kOrdinary = 64;
    constexpr double kMost = 1000;  // beyond, nothing moves before time itself overflows
    const double doublings = std::floor(least / kLogTwo);
    return doublings > kOrdinary ? static_cast<int>(std::min(doublings, kMost)) : 0;
  }

  double loss(const T* f, const Team& team) const {
    std::vector<double> sums(static_cast<std::size_t>(blocks()));
    each_block(team, [&](Index block, Index begin, Index end) {
      double sum = 0;
      for (Index i = begin; i < end; ++i)
        if (weight(i) > 0) sum += weight(i) * value(f, i);
      sums[static_cast<std::size_t>(block)] = sum;
    });
    double sum = 0;
    for (const double part : sums) sum += part;
    return scale_ * sum;
  }

  // log of loss(), accurate where that underflows.
  double log_loss(const T* f, const Team& team) const {
    return log_total_loss(f, team) + std::log(scale_);
  }

  // log of sum_i w_i l_i, whether the mean is minimised or the sum.
  double log_total_loss(const T* f, const Team& team) const {
    std::vector<Part> parts(static_cast<std::size_t>(blocks()));
    each_block(team, [&](Index block, Index begin, Index end) {
      Part& part = parts[static_cast<std::size_t>(block)];
      for (Index i = begin; i < end; ++i)
        if (weight(i) > 0 && !(log_value(f, i) <= part.largest) && !std::isnan(part.largest))
          part.largest = log_value(f, i);  // a NaN stays
      if (!std::isfinite(part.largest)) return;
      for (Index i = begin; i < end; ++i)
        if (weight(i) > 0) part.sum += weight(i) * std::exp(log_value(f, i) - part.largest);
    });
    double largest = -std::numeric_limits<double>::infinity();
    for (const Part& part : parts)
      if (!(part.largest <= largest) && !std::isnan(largest)) largest = part.largest;
    if (!std::isfinite(largest)) return largest;
    double sum = 0;
    for (const Part& part : parts)
      if (part.sum > 0) sum += part.sum * std::exp(part.largest - largest);
    return largest + std::log(sum);
  }

  double output_penalty(const T* f) const {
    if (spec_.output_penalty == 0) return 0;
    double sum = 0;
    for (Index i = 0; i < split_.n; ++i)
      sum += weight(i) * static_cast<double>(f[i]) * static_cast<double>(f[i]);
    return 0.5 * spec_.output_penalty * share_ * sum;
  }

 private:
  static constexpr Index kBlock = 4096;
  static constexpr double kLogTwo = 0.69314718055994530942;

  struct Part {
    double largest = -std::numeric_limits<double>::infinity();  // of the logarithms
    double sum = 0;                                             // of the terms over the largest
  };

  Index blocks() const { return ceil_div(split_.n, kBlock); }

  // body(block, begin, end) for all samples; the blocks do not depend on the threads.
  template <class Body>
  void each_block(const Team& team, Body&& body) const {
    team.for_work(100.0 * static_cast<double>(split_.n))
        .for_each(blocks(), [&](Index block, const Worker&) {
          body(block, block * kBlock, std::min(split_.n, (block + 1) * kBlock));
        });
  }

  double value(const T* f, Index i) const {
    return loss_value(spec_.loss, static_cast<double>(f[i]), static_cast<double>(split_.y[i]));
  }
  double log_value(const T* f, Index i) const {
    return log_loss_value(spec_.loss, static_cast<double>(f[i]), static_cast<double>(split_.y[i]));
  }

  ObjectiveSpec spec_;
  SplitView<T> split_;
  double total_;  // sum w
  double share_;  // 1 / sum w
  double scale_;  // of the loss: share_ for the mean, 1 for the sum
};

template <class T>
double squared_norm(const T* values, Index count) {
  double sum = 0;
  for (Index i = 0; i < count; ++i)
    sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

template <class T>
double parameter_norm_squared(const NetworkView<T>& net) {
  return squared_norm(net.W, net.m * net.d) + squared_norm(net.a, net.m);
}

}  // namespace featcore
