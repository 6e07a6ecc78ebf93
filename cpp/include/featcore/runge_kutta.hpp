// Runge-Kutta steps of the whole network: fixed (Euler, Heun, RK4) and adaptive (Tsitouras 5(4)).
// For smooth activations, and to compare with; at a kink their order is lost.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "featcore/descent.hpp"
#include "featcore/flow_stepper.hpp"
#include "featcore/kernel.hpp"
#include "featcore/objective.hpp"

namespace featcore {

enum class RungeKuttaMethod { euler, heun, rk4, tsit5 };

inline RungeKuttaMethod runge_kutta_by_name(const std::string& name) {
  if (name == "euler") return RungeKuttaMethod::euler;
  if (name == "heun") return RungeKuttaMethod::heun;
  if (name == "rk4") return RungeKuttaMethod::rk4;
  if (name == "tsit5") return RungeKuttaMethod::tsit5;
  throw std::invalid_argument("unknown method '" + name + "'");
}

// Lower triangle by rows, weights, and weights of the error estimate (empty: fixed steps).
struct Tableau {
  int order;
  std::vector<std::vector<double>> stages;  // of stages 1, 2, ...; stage 0 is at the start
  std::vector<double> weights;
  std::vector<double> error;  // of all stages and of the field at the end

  static Tableau of(RungeKuttaMethod method) {
    switch (method) {
      case RungeKuttaMethod::euler:
        return {1, {}, {1.0}, {}};
      case RungeKuttaMethod::heun:
        return {2, {{1.0}}, {0.5, 0.5}, {}};
      case RungeKuttaMethod::rk4:
        return {4, {{0.5}, {0.0, 0.5}, {0.0, 0.0, 1.0}}, {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6}, {}};
      case RungeKuttaMethod::tsit5:
        break;
    }
    // Tsitouras, Computers & Mathematics with Applications 62 (2011), table 1
    return {
        5,
        {{0.161},
         {-0.008480655492356988544, 0.3354806554923569885},
         {2.897153057105493432, -6.359448489975074843, 4.362295432869581411},
         {5.325864828439256604, -11.74888356406282788, 7.495539342889836208, -0.09249506636175525},
         {5.861455442946420028, -12.92096931784710929, 8.159367898576158643, -0.071584973281400997,
          -0.02826905039406838291}},
        {0.09646076681806522952, 0.01, 0.4798896504144995748, 1.379008574103741893,
         -3.290069515436080680, 2.324710524099773982},
        {0.09646076681806522952 - 0.09468075576583945808, 0.01 - 0.009183565540343253096,
         0.4798896504144995748 - 0.4877705284247615708, 1.379008574103741893 - 1.234297566930478986,
         -3.290069515436080680 + 2.707712349983525454, 2.324710524099773982 - 1.866628418170587036,
         -1.0 / 66}};
  }
};

struct RungeKuttaOptions {
  RungeKuttaMethod method = RungeKuttaMethod::tsit5;
  double step_size = 0;  // of fixed steps
  double rtol = 1e-6;    // of adaptive ones, elementwise
  double atol = 1e-9;
  Rates rates;
};

template <class T>
struct RungeKuttaState {
  double time = 0;
  double step = 0;          // the length to try next; 0 before the first
  double error_before = 1;  // of the last step, relative to what was allowed
  std::int64_t taken = 0;
  std::vector<T> W, a;
  std::vector<T> f;  // (n), not needed to go on
  T rest = 1;        // what is left of weights that only decay
};

template <class T>
class RungeKutta final : public FlowStepper<T> {
 public:
  using typename FlowStepper<T>::Step;
  using typename FlowStepper<T>::Standing;

  // The samples must outlive the flow.
  RungeKutta(const NetworkView<T>& net, Activation activation, const Objective<T>& objective,
             const RungeKuttaOptions& options)
      : options_(options),
        tableau_(Tableau::of(options.method)),
        objective_(&objective),
        n_(objective.split().n),
        kernel_(n_, net.d, net.m, objective.split().x, activation, activation.by_sign()),
        now_(net),
        next_(net.m, net.d),
        at_(net.m, net.d),
        field_now_(net.m, net.d),
        field_next_(net.m, net.d),
        f_(static_cast<std::size_t>(n_)),
        r_(static_cast<std::size_t>(n_)) {
    if (!adaptive() && !(options.step_size > 0))
      throw std::invalid_argument("step_size must be positive");
    // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
    if (adaptive() && !(options.rtol > 0 && options.atol >= 0))
      throw std::invalid_argument("rtol must be positive and atol must not be negative");
    fields_.emplace_back();  // stage 0 is field_now_
    for (std::size_t s = 0; s < tableau_.stages.size(); ++s) fields_.emplace_back(net.m, net.d);
    state_.W.assign(net.W, net.W + net.m * net.d);
    state_.a.assign(net.a, net.a + net.m);
    state_.f = f_;
    before_ = state_;
  }

  void resume(RungeKuttaState<T> state) {
    if (state.W.size() != state_.W.size() || state.a.size() != state_.a.size())
      throw std::invalid_argument("the state is not of this flow");
    state.f = state_.f;
    state_ = std::move(state);
    before_ = state_;
    const PanelShape<T>& shape = now_.shape;
    now_ = Panels<T>(NetworkView<T>{shape.m, shape.d, state_.W.data(), state_.a.data()});
  }

  bool begin(const Team& team) override {
    const bool good = evaluate(now_, field_now_, team, &squared_gradient_);
    state_.f = f_;
    return good;
  }

  Step step(const Team& team) override {
    double h = options_.step_size;
    if (adaptive()) h = state_.step > 0 ? state_.step : first_step();
    for (;;) {
      if (!(h > 1e-14 * state_.time) || h < 1e-290)
        return finite_ ? Step::underflow : Step::non_finite;
      double squared = 0;
      finite_ = stages(h, team) && evaluate(next_, field_next_, team, &squared);
      if (!adaptive() && !finite_) return Step::non_finite;
      const double error = !adaptive() ? 0.0 : (finite_ ? estimate(h) : kHuge);
      if (error <= 1) {
        accept(h, error, squared);
        return Step::taken;
      }
      h *= std::clamp(0.9 * std::pow(error, -1.0 / tableau_.order), 0.2, 0.9);
      ++counts_.rejected;
    }
  }

  FlowPoint<T> look(double time, const Team& team) override {
    const double h = last_step_;
    if (std::abs(time - state_.time) <= kSame * h || !(h > 0)) return point(state_);
    if (std::abs(time - before_.time) <= kSame * h) return point(before_);
    const T rest = interpolate(h, (time - before_.time) / h);
    looked_W_.resize(state_.W.size());
    Panels<T>::rows(at_.shape, at_.W.data(), team, looked_W_.data());
    return {{at_.shape.m, at_.shape.d, looked_W_.data(), at_.a.data()}, rest};
  }

  void look_at_outputs(double time, const Team& team, T* f) override {
    kernel_.outputs(Panels<T>(look(time, team).net, team), team, f);
  }

  const RungeKuttaState<T>& state() const { return state_; }
  FlowPoint<T> here() const override { return point(state_); }
  const T* outputs() const override { return state_.f.data(); }
  const FlowCounts& counts() const override { return counts_; }
  double time() const override { return state_.time; }
  double squared_gradient(const Team&) override { return squared_gradient_; }
  const std::vector<FlowEvent>& events() const override { return no_events_; }
  int looks() const override { return 4; }

  Standing resumes_from(double time) const override {
    const RungeKuttaState<T>& from = time < state_.time ? before_ : state_;
    return {from.time, point(from)};
  }
  RungeKuttaState<T> resumable(double time) const {
    if (!(time < state_.time)) return state_;
    RungeKuttaState<T> before = before_;
    before.step = last_step_;
    return before;
  }

 private:
  static constexpr double kHuge = 1e30;
  static constexpr double kSame = 1e-9;  // of a step: the same time but for rounding

  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  FlowPoint<T> point(const RungeKuttaState<T>& state) const {
    return {{now_.shape.m, now_.shape.d, state.W.data(), state.a.data()}, state.rest};
  }

  bool adaptive() const { return !tableau_.error.empty(); }

  // -d objective / d theta at `net`, without the rates. False if outputs or residuals are not
  // finite.
  bool evaluate(const Panels<T>& net, Panels<T>& field, const Team& team, double* squared) {
    ++counts_.evaluations;
    constexpr Index kPanel = PanelShape<T>::kPanel;
    std::atomic<bool> finite{true};
    kernel_.outputs(net, team, f_.data(), [&](Index begin, Index end) {
      objective_->residuals(begin, end, f_.data(), r_.data());
      bool good = true;
      for (Index i = begin; i < end; ++i)
        good = good && std::abs(f_[size(i)]) <= largest_sound<T>() &&
               std::abs(r_[size(i)]) <= largest_sound<T>();
      if (!good) finite.store(false, std::memory_order_relaxed);
    });
    if (!finite.load(std::memory_order_relaxed)) return false;
    const PanelShape<T>& shape = net.shape;
    const T decay = static_cast<T>(objective_->spec().weight_decay);
    std::vector<double> squares(size(shape.panels()));
    kernel_.gradient_sums(net, r_.data(), team, field.W.data(), [&](Index p, T* h, const T* g) {
      const T* w = net.W.data() + p * shape.stride();
      const T* a = net.a.data() + p * kPanel;
      T* heads = field.a.data() + p * kPanel;
      double sum = 0;
      for (Index k = 0; k < shape.d; ++k)
        for (Index l = 0; l < kPanel; ++l) {
          T& row = h[k * kPanel + l];
          row = a[l] * row - decay * w[k * kPanel + l];
          if (options_.rates.W != 0) sum += static_cast<double>(row) * static_cast<double>(row);
        }
      const Index neurons = std::min(kPanel, shape.m - p * kPanel);
      for (Index l = 0; l < kPanel; ++l) {
        heads[l] = l < neurons ? g[l] - decay * a[l] : T(0);
        if (options_.rates.a != 0)
          sum += static_cast<double>(heads[l]) * static_cast<double>(heads[l]);
      }
      squares[size(p)] = sum;
    });
    *squared = 0;
    for (const double sum : squares) *squared += sum;
    return true;
  }

  const Panels<T>& field(std::size_t stage) const {
    return stage == 0 ? field_now_ : (stage < fields_.size() ? fields_[stage] : field_next_);
  }

  // out = base + h * sum_s weights[s] rate field(s)
  void combine(const Panels<T>& base, double h, const std::vector<double>& weights,
               Panels<T>& out) {
    const auto add = [&](const Buffer<T>& from, double rate, Buffer<T>& to, auto part) {
      std::copy_n(from.data(), from.size(), to.data());
      for (std::size_t s = 0; s < weights.size(); ++s) {
        const T eta = static_cast<T>(h * rate * weights[s]);
        if (eta == T(0)) continue;
        const T* k = part(field(s)).data();
        T* y = to.data();
        for (Index i = 0; i < from.size(); ++i) y[i] += eta * k[i];
      }
    };
    add(base.W, options_.rates.W, out.W,
        [](const Panels<T>& p) -> const Buffer<T>& { return p.W; });
    add(base.a, options_.rates.a, out.a,
        [](const Panels<T>& p) -> const Buffer<T>& { return p.a; });
  }

  // A weight of 1 that feels the decay only, as the method moves it: at the stages of a step.
  std::vector<T> decaying(double h) const {
    std::vector<T> stages(1, T(1));
    for (const std::vector<double>& weights : tableau_.stages)
      stages.push_back(decayed(h, weights, stages));
    return stages;
  }
  T decayed(double h, const std::vector<double>& weights, const std::vector<T>& stages) const {
    const T decay = static_cast<T>(objective_->spec().weight_decay);
    T sum = 1;
    for (std::size_t s = 0; s < weights.size(); ++s)
      sum -= static_cast<T>(h * options_.rates.W * weights[s]) * (decay * stages[s]);
    return sum;
  }

  // All stages of a step, and the weights at its end.
  bool stages(double h, const Team& team) {
    for (std::size_t s = 0; s < tableau_.stages.size(); ++s) {
      combine(now_, h, tableau_.stages[s], at_);
      double unused = 0;
      if (!evaluate(at_, fields_[s + 1], team, &unused)) return false;
    }
    combine(now_, h, tableau_.weights, next_);
    return true;
  }

  // Root mean square of the error estimate over what is allowed, of the layers that move.
  double estimate(double h) {
    Panels<T>& error = at_;
    std::fill_n(error.W.data(), error.W.size(), T(0));
    std::fill_n(error.a.data(), error.a.size(), T(0));
    combine(error, h, tableau_.error, error);
    double sum = 0;
    const auto add = [&](const Buffer<T>& e, const Buffer<T>& p, const Buffer<T>& q) {
      for (Index i = 0; i < e.size(); ++i) {
        const double most = std::max(std::abs(static_cast<double>(p.data()[i])),
                                     std::abs(static_cast<double>(q.data()[i])));
        const double allowed = options_.atol + options_.rtol * most;
        const double value = static_cast<double>(e.data()[i]);
        if (value != 0) sum += (value / allowed) * (value / allowed);
      }
    };
    add(error.W, now_.W, next_.W);
    add(error.a, now_.a, next_.a);
    const double count = static_cast<double>(now_.shape.m) *
                         ((options_.rates.W != 0 ? static_cast<double>(now_.shape.d) : 0.0) +
                          (options_.rates.a != 0 ? 1.0 : 0.0));
    const double mean = std::sqrt(sum / std::max(1.0, count));
    return std::isfinite(mean) ? mean : kHuge;
  }

  // The weights move by a hundredth of their norm.
  double first_step() const {
    const double norm =
        std::sqrt(squared_norm(state_.W.data(), static_cast<Index>(state_.W.size())) +
                  squared_norm(state_.a.data(), static_cast<Index>(state_.a.size())));
    const double speed =
        std::sqrt(squared_gradient_) * std::max(options_.rates.W, options_.rates.a);
    return speed > 0 && norm > 0 ? 0.01 * norm / speed : 1e-3;
  }

  void accept(double h, double error, double squared) {
    std::swap(before_, state_);
    state_.taken = before_.taken + 1;
    state_.rest = before_.rest * decayed(h, tableau_.weights, decaying(h));
    // as descend counts, so that times agree to the last bit
    state_.time = adaptive() ? before_.time + h : static_cast<double>(state_.taken) * h;
    if (adaptive()) {
      constexpr double kLeastError = 1e-10;
      state_.error_before = std::max(error, kLeastError);
      const double order = static_cast<double>(tableau_.order);
      const double factor = 0.9 * std::pow(state_.error_before, -0.7 / order) *
                            std::pow(before_.error_before, 0.4 / order);
      state_.step = h * std::clamp(factor, 0.2, 10.0);
    }
    std::swap(now_, next_);
    std::swap(field_now_, field_next_);  // now the one at the start is in field_next_
    squared_gradient_ = squared;
    state_.W.resize(before_.W.size());
    Panels<T>::rows(now_.shape, now_.W.data(), state_.W.data());
    state_.a.assign(now_.a.data(), now_.a.data() + now_.shape.m);
    state_.f = f_;
    last_step_ = h;
    ++counts_.accepted;
  }

  // at_ = the weights at share x of the last step. Returns what is left there of those that only
  // decay.
  T interpolate(double h, double x) {
    std::vector<T> stages = decaying(h);
    const T left = decayed(h, tableau_.weights, stages);
    if (adaptive()) {  // Tsitouras' own, of order 4
      const double xx = x * x;
      const std::vector<double> b = {
          -1.0530884977290216 * x * (x - 1.3299890189751412) *
              (xx - 1.4364028541716351 * x + 0.7139816917074209),
          0.1017 * xx * (xx - 2.1966568338249754 * x + 1.2949852507374631),
          2.490627285651252793 * xx * (xx - 2.38535645472061657 * x + 1.57803468208092486),
          -16.54810288924490272 * (x - 1.21712927295533244) * (x - 0.61620406037800089) * xx,
          47.37952196281928122 * (x - 1.203071208372362603) * (x - 0.658047292653547382) * xx,
          -34.87065786149660974 * (x - 1.2) * (x - 0.666666666666666667) * xx,
          2.5 * (x - 1) * (x - 0.6) * xx};
      std::swap(field_now_, field_next_);
      combine(next_, h, b, at_);
      std::swap(field_now_, field_next_);
      stages.push_back(left);
      return before_.rest * decayed(h, b, stages);
    }
    // Hermite's cubic through both ends
    const double y0 = (1 + 2 * x) * (1 - x) * (1 - x), y1 = x * x * (3 - 2 * x);
    const double k0 = h * x * (1 - x) * (1 - x), k1 = h * x * x * (x - 1);
    const auto blend = [&](const Buffer<T>& from, const Buffer<T>& to, const Buffer<T>& start,
                           const Buffer<T>& end, double rate, Buffer<T>& out) {
      for (Index i = 0; i < out.size(); ++i)
        out.data()[i] = static_cast<T>(y0 * static_cast<double>(from.data()[i]) +
                                       y1 * static_cast<double>(to.data()[i]) +
                                       rate * (k0 * static_cast<double>(start.data()[i]) +
                                               k1 * static_cast<double>(end.data()[i])));
    };
    blend(next_.W, now_.W, field_next_.W, field_now_.W, options_.rates.W, at_.W);
    blend(next_.a, now_.a, field_next_.a, field_now_.a, options_.rates.a, at_.a);
    const double decay = options_.rates.W * objective_->spec().weight_decay;
    return before_.rest *
           static_cast<T>(y0 - decay * k0 + (y1 - decay * k1) * static_cast<double>(left));
  }

  RungeKuttaOptions options_;
  Tableau tableau_;
  const Objective<T>* objective_;
  Index n_;
  Kernel<T> kernel_;
  Panels<T> now_, next_;  // after a step, next_ is the one before it
  Panels<T> at_;
  Panels<T> field_now_, field_next_;  // likewise
  std::vector<Panels<T>> fields_;     // of the stages between
  std::vector<T> f_, r_;
  RungeKuttaState<T> state_, before_;
  std::vector<T> looked_W_;
  std::vector<FlowEvent> no_events_;
  FlowCounts counts_;
  double squared_gradient_ = std::numeric_limits<double>::infinity();
  double last_step_ = 0;
  bool finite_ = true;
};

}  // namespace featcore
