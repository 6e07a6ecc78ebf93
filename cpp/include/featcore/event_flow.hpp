// The event-resolved flow of a network with kinks: crossings are located, not stepped over.
//
// On a step the residuals are polynomials of time; given those, every neuron is carried alone, from
// one of its own events to the next, to rounding. What the neurons give at the points of the step
// makes better polynomials, until both agree. See docs/derivations.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/form.hpp"
#include "featcore/neuron_path.hpp"
#include "featcore/objective.hpp"

namespace featcore {

struct EventFlowOptions {
  double rtol = 1e-6;
  double atol = 1e-9;
  Rates rates;
};

struct FlowCounts {
  std::int64_t accepted = 0;
  std::int64_t rejected = 0;
  std::int64_t sweeps = 0;     // over all neurons
  std::int64_t crossings = 0;  // of accepted steps, as slidings
  std::int64_t slidings = 0;   // times a sample was caught
};

// Where a flow stands between two steps, and what it needs to go on to the same bits.
template <class T>
struct EventFlowState {
  double time = 0;
  double step = 0;  // the length to try next; 0 before the first
  std::vector<T> W, a;
  std::vector<std::int8_t> sides;  // (m, n)
  std::vector<T> f;                // (n)
  // Of the last step: its length, and its residuals in Legendre's basis, (n, kTerms).
  double last_step = 0;
  std::vector<double> legendre;
  int trusted = 0;  // terms that extrapolate best
};

template <class T>
class EventFlow {
 public:
  // The samples must outlive the flow.
  EventFlow(const NetworkView<T>& net, Activation activation, const Objective<T>& objective,
            const EventFlowOptions& options, const Team& team)
      : options_(options),
        slope_(activation.slope),
        objective_(&objective),
        m_(net.m),
        d_(net.d),
        n_(objective.split().n),
        samples_(objective.split(), team),
        grid_(terms_for(options.rtol), 2 * terms_for(options.rtol) - 2),
        chunks_(net.m, kMostChunks, 1),
        padded_points_((grid_.points() - 1) * samples_.padded_n()),
        f_(chunks_.pieces() * padded_points_),
        r_(grid_.points() * samples_.padded_n()),
        residuals_(n_ * kTerms),
        refitted_(n_ * kTerms),
        whole_(kTerms * samples_.padded_d()),
        events_(static_cast<std::size_t>(chunks_.pieces())) {
    if (!activation.homogeneous())
      throw std::invalid_argument("the event-resolved flow needs ReLU or leaky ReLU");
    if (objective.spec().loss == Loss::hinge)
      throw std::invalid_argument(
          "the residuals of the hinge loss jump: the event-resolved flow cannot follow them");
    for (int q = 1; q < grid_.points(); ++q) points_.push_back(grid_.at(q));
    state_.W.assign(net.W, net.W + m_ * d_);
    state_.a.assign(net.a, net.a + m_);
    next_ = state_;
    gather(team);
    state_.sides.assign(size(m_ * n_), -1);
    state_.f.assign(size(n_), T(0));
    state_.legendre.assign(size(n_ * kTerms), 0.0);
    for (Index j = 0; j < m_; ++j)
      for (Index i = 0; i < n_; ++i) {
        const T* x = objective.split().x + i * d_;
        const T* w = net.W + j * d_;
        T z = 0;
        for (Index k = 0; k < d_; ++k) z += w[k] * x[k];
        if (z > 0) state_.sides[size(j * n_ + i)] = 1;
        state_.f[size(i)] += net.a[j] * (z > 0 ? z : static_cast<T>(slope_) * z);
      }
    next_ = state_;
  }

  double finish = 1e300;
  const EventFlowState<T>& state() const { return state_; }
  const FlowCounts& counts() const { return counts_; }
  const std::vector<FlowEvent>& events() const { return step_events_; }

  // Takes one step, as long as its error allows. False if none is short enough.
  bool step(const Team& team) {
    start();
    for (;;) {
      double h = state_.step > 0 ? state_.step : first_step();
      if (state_.time + 1.01 * h > finish) h = finish - state_.time;
      if (!(state_.time + h > state_.time * (1 + 1e-14))) return false;
      const double factor = attempt(h, team);
      state_.step = h * std::abs(factor);
      if (factor > 0) break;
      ++counts_.rejected;
    }
    ++counts_.accepted;
    return true;
  }

 private:
  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  static int terms_for(double rtol) { return rtol > 3e-5 ? 5 : (rtol > 3e-7 ? 6 : 7); }

  static constexpr Index kMostChunks = 64;

  void gather(const Team& team) {
    while (paths_.size() < size(team.threads()))
      paths_.emplace_back(samples_, slope_);
  }

  void start() {
    r0_.resize(size(n_));
    objective_->residuals(0, n_, state_.f.data(), r0_.data());
    speed_ = 0;
    for (Index i = 0; i < n_; ++i)
      speed_ += std::abs(static_cast<double>(r0_[size(i)])) * samples_.norm(i);
  }

  // A weight's logarithm changes by 1/100.
  double first_step() const { return speed_ > 0 ? 0.01 / speed_ : 1.0; }

  // Residuals on a step of length h as the last step has them, continued from what they are now.
  void predict(double h, int trusted, Buffer<double>& out) const {
    const int terms = grid_.terms();
    const double ratio = state_.last_step > 0 ? h / state_.last_step : 0.0;
    const std::vector<double> shifted = StepGrid::monomials(terms, ratio, 1 + ratio);
    for (Index i = 0; i < n_; ++i) {
      double* r = out.data() + i * kTerms;
      std::fill_n(r, kTerms, 0.0);
      for (int l = 0; l < trusted; ++l)
        for (int k = 0; k <= l; ++k)
          r[k] += state_.legendre[size(i * kTerms + l)] * shifted[size(l * terms + k)];
      double start = 0;  // at s = -1
      for (int k = terms - 1; k >= 0; --k) start = r[k] - start;
      r[0] += static_cast<double>(r0_[size(i)]) - start;
    }
  }

  // Carries all neurons over the step with the residuals as they are. False if one fails.
  bool sweep(double h, const Team& team) {
    ++counts_.sweeps;
    const Index padded_d = samples_.padded_d();
    std::fill_n(whole_.data(), whole_.size(), 0.0);
    for (Index i = 0; i < n_; ++i)
      for (int l = 0; l < grid_.terms(); ++l) {
        const double r = residuals_.data()[i * kTerms + l];
        for (Index k = 0; k < padded_d; ++k)
          whole_.data()[l * padded_d + k] += r * samples_.row(i)[k];
      }
    StepView view;
    view.terms = grid_.terms();
    const double decay = objective_->spec().weight_decay;
    view.rates = {0.5 * h, options_.rates.W, options_.rates.a, options_.rates.W * decay,
                  options_.rates.a * decay};
    view.residuals = residuals_.data();
    view.whole = whole_.data();
    view.points = points_.data();
    view.point_count = static_cast<int>(points_.size());
    std::vector<char> good(size(chunks_.pieces()), 0);
    const double work = 2.0 * static_cast<double>(n_ * m_) *
                        static_cast<double>(grid_.terms() * (d_ + 2 * grid_.terms()));
    const Team sized = team.for_work(work);
    gather(sized);
    sized.for_each(chunks_.pieces(), [&](Index chunk, const Worker& worker) {
      T* f = f_.data() + chunk * padded_points_;
      std::fill_n(f, padded_points_, T(0));
      std::vector<FlowEvent>& events = events_[size(chunk)];
      events.clear();
      NeuronPath<T>& path = paths_[size(worker.id)];
      bool all = true;
      for (Index j = chunks_.begin(chunk); j < chunks_.end(chunk) && all; ++j) {
        if (worker.stop()) return;
        const std::size_t before = events.size();
        all = path.carry(view, state_.W.data() + j * d_, state_.a[size(j)],
                         state_.sides.data() + j * n_, f, next_.W.data() + j * d_,
                         next_.a.data() + j, next_.sides.data() + j * n_, events);
        for (std::size_t e = before; e < events.size(); ++e) events[e].neuron = j;
      }
      good[size(chunk)] = all;
    });
    bool all = true;
    for (const char one : good) all = all && one != 0;
    if (!all) return false;
    // f and r at the points
    const Index padded = samples_.padded_n();
    const Index points = grid_.points();
    std::vector<char> finite(size(points), 1);
    team.for_work(60.0 * static_cast<double>(n_ * points))
        .for_each(points, [&](Index q, const Worker&) {
          T* r = r_.data() + q * padded;
          if (q == 0) {
            std::copy_n(r0_.data(), n_, r);
            return;
          }
          T* f = f_.data() + (q - 1) * padded;
          for (Index c = 1; c < chunks_.pieces(); ++c) {
            const T* part = f_.data() + c * padded_points_ + (q - 1) * padded;
            for (Index i = 0; i < n_; ++i) f[i] += part[i];
          }
          objective_->residuals(0, n_, f, r);
          for (Index i = 0; i < n_; ++i)
            if (!(std::abs(f[i]) <= largest_sound<T>() && std::abs(r[i]) <= largest_sound<T>()))
              finite[size(q)] = 0;
        });
    for (const char one : finite) all = all && one != 0;
    return all;
  }

  // Fits polynomials to the residuals at the points.
  void refit() {
    const Index padded = samples_.padded_n();
    std::fill_n(refitted_.data(), refitted_.size(), 0.0);
    for (int q = 0; q < grid_.points(); ++q)
      for (Index i = 0; i < n_; ++i) {
        const double r = static_cast<double>(r_.data()[q * padded + i]);
        for (int l = 0; l < grid_.terms(); ++l)
          refitted_.data()[i * kTerms + l] += grid_.fit(l, q) * r;
      }
  }

  // How far the integral over the step of sum_i (residual - polynomial) x_i goes astray: the
  // relative error of the weights. `fields`: true for what the points have against `polynomials`,
  // false for the polynomials refitted against them.
  double error(double h, const Buffer<double>& polynomials, bool points) {
    const Index padded = samples_.padded_n();
    const int count = grid_.points();
    gaps_.resize(size(count * n_));
    for (int q = 0; q < count; ++q)
      for (Index i = 0; i < n_; ++i) {
        const double* p = polynomials.data() + i * kTerms;
        const double* other = refitted_.data() + i * kTerms;
        double sum = 0;
        if (points) {
          for (int l = grid_.terms() - 1; l >= 0; --l) sum = sum * grid_.at(q) + p[l];
          sum = static_cast<double>(r_.data()[q * padded + i]) - sum;
        } else {
          for (int l = grid_.terms() - 1; l >= 0; --l) sum = sum * grid_.at(q) + (other[l] - p[l]);
        }
        gaps_[size(q * n_ + i)] = sum;
      }
    double worst = 0;
    std::vector<double>& integral = integral_;
    integral.resize(size(n_));
    worst_integral_.resize(size(n_));
    for (int c = 1; c < count; ++c) {
      std::fill(integral.begin(), integral.end(), 0.0);
      for (int q = 0; q < count; ++q)
        for (Index i = 0; i < n_; ++i)
          integral[size(i)] += grid_.integral(c, q) * gaps_[size(q * n_ + i)];
      double squared = 0;
      for (Index i = 0; i < n_; ++i) {
        const double part = integral[size(i)] * samples_.norm(i);
        squared += part * part;
      }
      if (!(squared <= worst)) {
        worst = squared;
        worst_integral_ = integral;
      }
    }
    // samples of a class may pull together
    std::vector<double> sums(size(2 * samples_.padded_d()), 0.0);
    for (Index i = 0; i < n_; ++i) {
      double* sum = sums.data() + (objective_->split().y[i] > 0 ? 0 : samples_.padded_d());
      for (Index k = 0; k < d_; ++k) sum[k] += worst_integral_[size(i)] * samples_.row(i)[k];
    }
    double together = 0;
    for (const double sum : sums) together += sum * sum;
    return 0.5 * h * std::sqrt(std::max(worst, together));
  }

  // Tries a step of length h. Positive if it was taken; its size is the factor of the next length.
  double attempt(double h, const Team& team) {
    constexpr int kMostSweeps = 12;
    constexpr double kShrink = -0.3;
    const double progress = std::min(1.0, h * speed_);
    const double tolerance = kSafety * (options_.rtol * progress + options_.atol * h);
    predict(h, state_.trusted, residuals_);
    double change_before = 0, contraction = 0;
    for (int sweeps = 0; sweeps < kMostSweeps; ++sweeps) {
      if (!sweep(h, team)) return kShrink;
      refit();
      const double all = error(h, residuals_, true);
      const double fit = error(h, refitted_, true);
      const double change = error(h, residuals_, false);
      if (!std::isfinite(all)) return kShrink;
      if (sweeps > 0) contraction = std::max(contraction, change / change_before);
      if (all <= tolerance) return accept(h, tolerance, fit, contraction, sweeps + 1);
      if (fit > tolerance && (sweeps > 0 || change < 10 * fit))
        return -std::max(0.2, std::min(0.8, 0.8 * std::sqrt(tolerance / fit)));
      if (sweeps > 0 && contraction > 0.5) return kShrink;
      change_before = change;
      std::swap(residuals_, refitted_);
    }
    return kShrink;
  }

  double accept(double h, double tolerance, double fit, double contraction, int sweeps) {
    learn(h);
    const Index padded = samples_.padded_n();
    const T* f = f_.data() + (grid_.points() - 2) * padded;
    next_.f.assign(f, f + n_);
    next_.legendre.assign(size(n_ * kTerms), 0.0);
    for (Index i = 0; i < n_; ++i)
      for (int q = 0; q < grid_.points(); ++q)
        for (int l = 0; l < grid_.terms(); ++l)
          next_.legendre[size(i * kTerms + l)] +=
              grid_.legendre_fit(l, q) * static_cast<double>(r_.data()[q * padded + i]);
    next_.trusted = state_.trusted;
    next_.last_step = h;
    next_.time = state_.time + h;
    step_events_.clear();
    for (const std::vector<FlowEvent>& events : events_)
      for (FlowEvent event : events) {
        event.time = state_.time + 0.5 * h * (1 + event.time);
        (event.kind == EventKind::held ? counts_.slidings : counts_.crossings)++;
        step_events_.push_back(event);
      }
    std::swap(state_, next_);
    double factor = fit > 0 ? 0.9 * std::pow(tolerance / fit, kExponent) : 4.0;
    factor = std::clamp(factor, 0.3, 4.0);
    if (contraction > 0.1) factor = std::min(factor, std::sqrt(0.1 / contraction));
    if (sweeps > 3) factor = std::min(factor, 0.9);
    return factor;
  }

  // How many terms of the last step would have given the best first guess of this one.
  void learn(double h) {
    if (state_.last_step == 0) {
      state_.trusted = 2;
      return;
    }
    double least = std::numeric_limits<double>::infinity();
    int best = state_.trusted;
    for (int trusted = 1; trusted <= grid_.terms(); ++trusted) {
      predict(h, trusted, residuals_);
      const double gap = error(h, residuals_, false);
      if (gap < least) {
        least = gap;
        best = trusted;
      }
    }
    state_.trusted = best;
  }

  static constexpr double kSafety = 0.1;
  static constexpr double kExponent = 0.25;

  EventFlowOptions options_;
  double slope_;
  const Objective<T>* objective_;
  Index m_, d_, n_;
  FlowSamples<T> samples_;
  StepGrid grid_;
  Cut chunks_;
  Index padded_points_;
  EventFlowState<T> state_, next_;
  FlowCounts counts_;
  std::vector<NeuronPath<T>> paths_;  // one a thread
  Buffer<T> f_;                       // (chunks, points - 1, padded_n)
  Buffer<T> r_;                       // (points, padded_n)
  Buffer<double> residuals_, refitted_;
  Buffer<double> whole_;
  std::vector<double> points_;
  std::vector<std::vector<FlowEvent>> events_;  // of a sweep, by chunk
  std::vector<FlowEvent> step_events_;
  std::vector<T> r0_;
  double speed_ = 0;  // bound of the relative speed of a weight
  std::vector<double> gaps_, integral_, worst_integral_;
};

}  // namespace featcore
