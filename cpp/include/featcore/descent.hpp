// Gradient descent, on all samples or on mini-batches: step k is at time step_size * k of the flow
// of the same objective.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/mini_batches.hpp"
#include "featcore/objective.hpp"
#include "featcore/recorder.hpp"

namespace featcore {

enum class Status { reached_end, stationary, loss_target, wall_time, non_finite, interrupted };

inline const char* status_name(Status status) {
  switch (status) {
    case Status::reached_end:
      return "reached_end";
    case Status::stationary:
      return "stationary";
    case Status::loss_target:
      return "loss_target";
    case Status::wall_time:
      return "wall_time";
    case Status::non_finite:
      return "non_finite";
    case Status::interrupted:
      return "interrupted";
  }
  return "unknown";
}

// Infinite limits are off.
struct StopRules {
  double loss_at_most = -std::numeric_limits<double>::infinity();  // of the objective's data term
  double gradient_at_most =
      -std::numeric_limits<double>::infinity();  // Euclidean norm, layers that move
  double seconds = std::numeric_limits<double>::infinity();
};

struct DescentOptions {
  double step_size = 1;
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;
  Rates rates;
  double weight_decay = 0;
  StopRules stop;
};

struct DescentOutcome {
  Status status = Status::reached_end;
  std::int64_t step = 0;  // of the network left in the form: the last whole, finite one
};

// What a step is taken on if it is taken on all samples: see MiniBatches.
template <class T>
struct AllSamples {
  static constexpr Index kBefore = 0;
  const Objective<T>& objective;

  static bool looks_at_all(std::int64_t) { return true; }
  const Objective<T>& go_to(std::int64_t, Form<T>&, const Team&) const { return objective; }
};

// Moves `form` from first_step to last_step. `objectives`: one a split that is observed, the first
// is descended, on the samples that `samples` has for each step. `balance`: a_j^2 - |w_j|^2 at the
// start of the whole run, (m,).
template <class T, class Samples>
DescentOutcome descend(Form<T>& form, Samples& samples, const std::vector<Objective<T>>& objectives,
                       const double* balance, const DescentOptions& options, Recorder<T>& recorder,
                       const Team& team) {
  if (!(options.step_size > 0) || !std::isfinite(options.step_size))
    throw std::invalid_argument("step_size must be positive and finite");
  if (options.first_step < 0 || options.last_step < options.first_step)
    throw std::invalid_argument("steps must be non-negative");
  const DefaultFloats floats;
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  constexpr bool kAll = Samples::kBefore == 0;
  std::vector<T> r;
  constexpr T kMost = largest_sound<T>();

  const bool measure = std::isfinite(options.stop.gradient_at_most);

  const T* f = nullptr;
  // Of what the step is taken on; false if outputs or residuals are not finite.
  const auto evaluate = [&](std::int64_t step) {
    const Objective<T>& objective = samples.go_to(step, form, team);
    const Index n = objective.split().n;
    r.resize(static_cast<std::size_t>(n));
    f = form.outputs(0, team);
    constexpr Index kBlock = 1024;
    std::atomic<bool> finite{true};
    team.for_work(50.0 * static_cast<double>(n))
        .for_each(ceil_div(n, kBlock), [&](Index block, const Worker&) {
          const Index begin = block * kBlock;
          const Index end = std::min(n, begin + kBlock);
          objective.residuals(begin, end, f, r.data());
          bool good = true;
          for (Index i = begin; i < end; ++i)
            good = good && std::abs(f[i]) <= kMost &&
                   std::abs(r[static_cast<std::size_t>(i)]) <= kMost;
          if (!good) finite.store(false, std::memory_order_relaxed);
        });
    return finite.load(std::memory_order_relaxed);
  };
  const auto record = [&](std::int64_t step) {
    if (recorder.recorded(step)) return;
    Snapshot<T> snapshot;
    snapshot.weights = &form.weights();
    snapshot.balance = balance;
    for (std::size_t k = 0; k < objectives.size(); ++k) {
      const Index split = static_cast<Index>(k), place = Samples::kBefore + split;
      const T* outputs = nullptr;
      if (kAll && k == 0)
        outputs = f;
      else if (recorder.needs_split(split))
        outputs = form.outputs(place, team);
      snapshot.splits.push_back(
          {&objectives[k], outputs, recorder.needs_signs() ? form.signs(place, team) : nullptr});
    }
    recorder.record(step, snapshot, team);
  };
  const auto loss_on_all = [&] {
    return objectives.front().loss(kAll ? f : form.outputs(Samples::kBefore, team), team);
  };

  std::int64_t step = options.first_step;
  Monitor& monitor = team.monitor();
  monitor.position = step;
  bool moved = false;  // since outputs were last known to be finite
  try {
    if (!evaluate(step)) {
      record(step);
      return {Status::non_finite, step};
    }
    while (true) {
      if (recorder.due(step)) record(step);
      if (step == options.last_step) {
        record(step);
        return {Status::reached_end, step};
      }
      const auto stop_here = [&](Status status) {
        record(step);
        return DescentOutcome{status, step};
      };
      if (std::isfinite(options.stop.loss_at_most) && samples.looks_at_all(step) &&
          loss_on_all() <= options.stop.loss_at_most)
        return stop_here(Status::loss_target);
      if (std::isfinite(options.stop.seconds) &&
          std::chrono::duration<double>(Clock::now() - start).count() >= options.stop.seconds)
        return stop_here(Status::wall_time);
      const StepInfo info = form.step(r.data(), options.step_size, options.rates,
                                      options.weight_decay, measure, team);
      moved = true;
      if (measure && std::sqrt(info.squared_gradient) <= options.stop.gradient_at_most) {
        form.undo();
        moved = false;
        return stop_here(Status::stationary);
      }
      const bool finite = info.finite && evaluate(step + 1);
      if (!finite) {
        form.undo();
        moved = false;
        evaluate(step);
        return stop_here(Status::non_finite);
      }
      moved = false;
      monitor.position = ++step;
    }
  } catch (const Stopped&) {
    if (moved) form.undo();  // the unfinished step is dropped
    return {Status::interrupted, step};
  }
}

template <class T>
DescentOutcome descend(Form<T>& form, const std::vector<Objective<T>>& objectives,
                       const double* balance, const DescentOptions& options, Recorder<T>& recorder,
                       const Team& team) {
  AllSamples<T> all{objectives.front()};
  return descend(form, all, objectives, balance, options, recorder, team);
}

}  // namespace featcore
