// A gradient flow from one time to another: recording, stops, events. How it gets there is a
// stepper's matter: it takes steps as long as its error allows and is then looked at anywhere
// within the last one, so that what is recorded, and where a run ends, changes no bits of it.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "featcore/descent.hpp"
#include "featcore/flow_frame.hpp"
#include "featcore/flow_stepper.hpp"
#include "featcore/recorder.hpp"

namespace featcore {

enum class FlowStatus {
  reached_end,
  stationary,
  loss_target,
  max_steps,
  wall_time,
  step_underflow,
  non_finite,
  interrupted
};

inline const char* status_name(FlowStatus status) {
  switch (status) {
    case FlowStatus::reached_end:
      return "reached_end";
    case FlowStatus::stationary:
      return "stationary";
    case FlowStatus::loss_target:
      return "loss_target";
    case FlowStatus::max_steps:
      return "max_steps";
    case FlowStatus::wall_time:
      return "wall_time";
    case FlowStatus::step_underflow:
      return "step_underflow";
    case FlowStatus::non_finite:
      return "non_finite";
    case FlowStatus::interrupted:
      return "interrupted";
  }
  return "unknown";
}

struct FlowOptions {
  double start = 0;  // where the run stands: at most at the end of the stepper's first step
  double end = 0;
  std::int64_t max_steps = std::numeric_limits<std::int64_t>::max();  // accepted
  std::int64_t max_events = 0;                                        // kept
  bool moves_W = true;
  StopRules stop;
};

struct FlowOutcome {
  FlowStatus status = FlowStatus::reached_end;
  double time = 0;
  FlowCounts counts;
  double drift = 0;  // largest change of a_j^2 - |w_j|^2
};

// What a run leaves besides its rows. Whatever ends it, `outcome`, W, a and `rest` belong together,
// in the coordinates of the frame; W and a are empty if it has not moved.
template <class T>
struct FlowTrace {
  FlowOutcome outcome;
  std::vector<double> times;      // of the rows of the recorder
  std::vector<FlowEvent> events;  // the first max_events of them
  std::vector<T> W, a;
  T rest = 1;
  std::vector<std::int64_t> exponents;  // with W and a, of neurons with scales of their own
};

// Moves `stepper` to options.end. `times`: increasing, of the rows to record; the recorder counts
// them as 0, 1, ... and an unplanned stop as times.size(). `balance`: a_j^2 - |w_j|^2 at the start
// of the whole run.
template <class T>
class FlowRun {
 public:
  FlowRun(FlowStepper<T>& stepper, FlowFrame<T>& frame, const std::vector<Objective<T>>& objectives,
          const double* balance, const std::vector<double>& times, const FlowOptions& options,
          Recorder<T>& recorder, FlowTrace<T>& trace)
      : stepper_(stepper),
        frame_(frame),
        objectives_(objectives),
        balance_(balance),
        times_(times),
        options_(options),
        recorder_(recorder),
        trace_(trace),
        f_(static_cast<std::size_t>(objectives.front().split().n)) {
    if (!(options.end >= options.start) || !std::isfinite(options.end))
      throw std::invalid_argument("the end must be finite and not before the start");
    trace_.outcome.time = options.start;
  }

  void operator()(const Team& team) {
    const DefaultFloats floats;
    trace_.outcome.status = FlowStatus::interrupted;
    try {
      trace_.outcome.status = run(team);
    } catch (const Stopped&) {
      leave();
    } catch (const Unrepeatable&) {
      leave();
      trace_.outcome.status = FlowStatus::step_underflow;
    } catch (...) {  // an observer's
      leave();
      throw;
    }
    const FlowCounts& counts = stepper_.counts();
    trace_.outcome.counts.accepted = counts.accepted - again_;
    trace_.outcome.counts.rejected = counts.rejected;
    trace_.outcome.counts.evaluations = counts.evaluations;
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Taken = typename FlowStepper<T>::Step;

  FlowStatus run(const Team& team) {
    const Clock::time_point began = Clock::now();
    const StopRules& stop = options_.stop;
    const bool sound = stepper_.begin(team);
    double& here = trace_.outcome.time;
    // A run that goes on from within a step takes that step again.
    const bool within = stepper_.time() < options_.start;
    if (!within) {
      go_to(options_.start, team);
      if (!sound) return end(FlowStatus::non_finite, team);
      if (options_.end == options_.start) return end(FlowStatus::reached_end, team);
      if (objectives_.front().loss(stepper_.outputs(), team) <= stop.loss_at_most)
        return end(FlowStatus::loss_target, team);
      if (stationary(team)) return end(FlowStatus::stationary, team);
    }
    for (bool first = within;; first = false) {
      if (!first) {
        if (std::chrono::duration<double>(Clock::now() - began).count() >= stop.seconds)
          return end(FlowStatus::wall_time, team);
        if (stepper_.counts().accepted - again_ >= options_.max_steps)
          return end(FlowStatus::max_steps, team);
      }
      const Taken taken = stepper_.step(team);
      if (taken != Taken::taken) {
        stepped_ = false;
        return end(taken == Taken::underflow ? FlowStatus::step_underflow : FlowStatus::non_finite,
                   team);
      }
      stepped_ = true;
      seen_ = 0;
      if (first) again_ = 1;
      double next = std::min(stepper_.time(), options_.end);
      const double met = std::isfinite(stop.loss_at_most) ? find_loss(here, next, team)
                                                          : std::numeric_limits<double>::infinity();
      next = std::min(met, next);
      measure_drift(next, team);
      go_to(next, team);
      if (met == next) return end(FlowStatus::loss_target, team);
      if (next == stepper_.time() && stationary(team)) return end(FlowStatus::stationary, team);
      if (next == options_.end) return end(FlowStatus::reached_end, team);
      team.monitor().position = static_cast<std::int64_t>(kParts * (here - options_.start) /
                                                          (options_.end - options_.start));
    }
  }

  // Whether the gradient where the stepper stands is as small as asked for, or nothing moves.
  bool stationary(const Team& team) {
    if (stepper_.at_rest(team)) return true;
    const double most = options_.stop.gradient_at_most;
    return std::isfinite(most) && std::sqrt(squared_gradient(team)) <= most;
  }

  double squared_gradient(const Team& team) {
    const double inside = stepper_.squared_gradient(team);
    const double decay = objectives_.front().spec().weight_decay;
    if (decay == 0 || !options_.moves_W) return inside;
    return inside + decay * decay * frame_.squared_rest(stepper_.here().rest, team);
  }

  // Where the stepper stands, or was looked at within its last step.
  FlowPoint<T> network(double time, const Team& team) {
    return stepped_ ? stepper_.look(time, team) : stepper_.here();
  }

  void keep(const FlowPoint<T>& point) {
    const NetworkView<T>& net = point.net;
    trace_.W.assign(net.W, net.W + net.m * net.d);
    trace_.a.assign(net.a, net.a + net.m);
    trace_.rest = point.rest;
    if (point.exponents) trace_.exponents.assign(point.exponents, point.exponents + net.m);
  }

  // Everything up to `time`, which the last step has reached.
  void go_to(double time, const Team& team) {
    for (; cursor_ < times_.size() && times_[cursor_] <= time; ++cursor_)
      record(times_[cursor_], cursor_, team);
    count_events(time);
    trace_.outcome.time = time;
  }

  void record(double time, std::size_t position, const Team& team) {
    const FlowPoint<T> point = network(time, team);
    frame_.visit(point, team, [&](Form<T>& form, const Weights<T>& weights) {
      Snapshot<T> snapshot;
      snapshot.weights = &weights;
      snapshot.balance = frame_.plain(balance_);
      const bool scaled = weights.exponents() != nullptr;
      const T squared_unit = static_cast<T>(weights.squared_unit());
      if (scaled) scaled_f_.resize(objectives_.size());
      for (std::size_t k = 0; k < objectives_.size(); ++k) {
        const Index split = static_cast<Index>(k);
        const T* f = recorder_.needs_split(split) ? form.outputs(split, team) : nullptr;
        const T* in_units = scaled ? f : nullptr;
        if (scaled && f) {
          scaled_f_[k].assign(f, f + objectives_[k].split().n);
          for (T& value : scaled_f_[k]) value *= squared_unit;
          f = scaled_f_[k].data();
        }
        snapshot.splits.push_back({&objectives_[k], f,
                                   recorder_.needs_signs() ? form.signs(split, team) : nullptr,
                                   in_units});
      }
      recorder_.record(static_cast<std::int64_t>(position), snapshot, team);
    });
    trace_.times.push_back(time);
    count_events(time);
    trace_.outcome.time = time;
    keep(point);
  }

  void count_events(double time) {
    if (!stepped_) return;
    FlowOutcome& outcome = trace_.outcome;
    const std::vector<FlowEvent>& events = stepper_.events();
    for (; seen_ < events.size() && events[seen_].time <= time; ++seen_) {
      const FlowEvent& event = events[seen_];
      if (again_ > 0 && event.time <= options_.start) continue;  // counted when it was first there
      if (event.neuron >= 0)
        ++(event.kind == EventKind::held ? outcome.counts.slidings : outcome.counts.crossings);
      if (static_cast<std::int64_t>(trace_.events.size()) < options_.max_events)
        trace_.events.push_back(event);
    }
  }

  FlowStatus end(FlowStatus status, const Team& team) {
    const double time = trace_.outcome.time;
    if (trace_.times.empty() || trace_.times.back() < time) record(time, times_.size(), team);
    keep(network(time, team));
    return status;
  }

  // After a stop in the middle: the network at outcome.time is the one recorded there, or the
  // stepper's, or that of the start of its last step.
  void leave() {
    const double time = trace_.outcome.time;
    const auto from = stepper_.resumes_from(time);
    if (time == from.time && time < stepper_.time()) ++again_;  // it will be taken again
    if (!trace_.times.empty() && trace_.times.back() == time) return;
    if (from.time == time)
      keep(from.point);
    else
      trace_.W.clear();
  }

  // At the end of the last step, or where the run ends within it.
  void measure_drift(double time, const Team& team) {
    const FlowPoint<T> point = time < stepper_.time() ? network(time, team) : stepper_.here();
    trace_.outcome.drift = std::max(trace_.outcome.drift, frame_.drift(point, balance_, team));
  }

  double loss_at(double time, const Team& team) {
    stepper_.look_at_outputs(time, team, f_.data());
    return objectives_.front().loss(f_.data(), team);
  }

  // Where in [low, high] the loss first comes down to its target; infinity if it does not.
  double find_loss(double low, double high, const Team& team) {
    constexpr double kPi = 3.14159265358979323846;
    const double target = options_.stop.loss_at_most;
    const ObjectiveSpec& spec = objectives_.front().spec();
    const bool falls = spec.weight_decay == 0 && spec.output_penalty == 0;
    const int looks = falls ? 1 : stepper_.looks();
    std::array<double, 3> times{low, low, low};  // of the last looks
    std::array<double, 3> losses{};
    losses.fill(looks > 1 ? loss_at(low, team) : std::numeric_limits<double>::infinity());
    if (losses[2] <= target) return low;  // it went on from a target met within the step
    for (int k = 1; k <= looks; ++k) {
      // closest at the ends, beyond which nothing tells that the loss rises again
      const double share = 0.5 * (1 - std::cos(kPi * k / looks));
      times = {times[1], times[2], k == looks ? high : low + share * (high - low)};
      losses = {losses[1], losses[2], loss_at(times[2], team)};
      if (losses[1] > target && losses[1] < losses[0] && losses[1] <= losses[2]) {
        const double lowest = lowest_loss(times[0], times[2], team);
        if (loss_at(lowest, team) <= target) return locate_loss(times[0], lowest, team);
      }
      if (losses[2] <= target) return locate_loss(times[1], times[2], team);
    }
    return std::numeric_limits<double>::infinity();
  }

  // Where in (low, high), in which it falls and rises again, the loss is at its target or lowest.
  double lowest_loss(double low, double high, const Team& team) {
    constexpr int kCuts = 40;  // (2/3)^40 of the way: beyond, rounding decides
    for (int cut = 0; cut < kCuts; ++cut) {
      const double left = (2 * low + high) / 3, right = (low + 2 * high) / 3;
      const double at_left = loss_at(left, team), at_right = loss_at(right, team);
      const bool leftward = at_left <= at_right;
      if (std::min(at_left, at_right) <= options_.stop.loss_at_most) return leftward ? left : right;
      (leftward ? high : low) = leftward ? right : left;
    }
    return 0.5 * (low + high);
  }

  // Where in (low, high] the loss comes down to its target, which it has reached at `high`.
  double locate_loss(double low, double high, const Team& team) {
    for (int step = 0; step < 60 && high - low > 1e-15 * high; ++step) {
      const double middle = 0.5 * (low + high);
      (loss_at(middle, team) <= options_.stop.loss_at_most ? high : low) = middle;
    }
    return high;
  }

  static constexpr double kParts = 1000;  // of the way, for a progress bar

  FlowStepper<T>& stepper_;
  FlowFrame<T>& frame_;
  const std::vector<Objective<T>>& objectives_;
  const double* balance_;
  const std::vector<double>& times_;
  FlowOptions options_;
  Recorder<T>& recorder_;
  FlowTrace<T>& trace_;
  std::vector<T> f_;
  std::vector<std::vector<T>> scaled_f_;  // of each split, with scales
  std::size_t cursor_ = 0;                // of times_
  std::size_t seen_ = 0;                  // of the events of the last step
  std::int64_t again_ = 0;                // steps that were, or will be, taken a second time
  bool stepped_ = false;  // whether outcome.time lies within the stepper's last step
};

}  // namespace featcore
