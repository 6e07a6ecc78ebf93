// A flow that is carried in double, as others see it in T: what it shows is rounded, what it goes
// on from is not.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "featcore/flow_stepper.hpp"
#include "featcore/objective.hpp"

namespace featcore {

// A network and samples of type T, in double.
template <class T>
class InDouble {
 public:
  // `given`: the same samples in the coordinates they were given in.
  InDouble(const NetworkView<T>& net, const Objective<T>& objective, const SplitView<T>& given)
      : m_(net.m), d_(net.d), W_(net.W, net.W + net.m * net.d), a_(net.a, net.a + net.m) {
    const SplitView<T>& split = objective.split();
    x_.assign(split.x, split.x + split.n * split.d);
    y_.assign(split.y, split.y + split.n);
    if (split.weights) weights_.assign(split.weights, split.weights + split.n);
    samples_ = {split.n,   split.d, x_.data(),
                y_.data(), nullptr, split.weights ? weights_.data() : nullptr};
    given_ = samples_;
    if (given.x != split.x) {
      given_x_.assign(given.x, given.x + given.n * given.d);
      given_ = {given.n, given.d, given_x_.data(), nullptr, nullptr, nullptr};
    }
    objective_ = std::make_unique<Objective<double>>(objective.spec(), samples_);
  }

  NetworkView<double> net() const { return {m_, d_, W_.data(), a_.data()}; }
  const Objective<double>& objective() const { return *objective_; }
  const SplitView<double>& given() const { return given_; }

 private:
  Index m_, d_;
  std::vector<double> W_, a_, x_, y_, weights_, given_x_;
  SplitView<double> samples_, given_;
  std::unique_ptr<Objective<double>> objective_;
};

// `Inner` is a FlowStepper<double> with state(), resume() and resumable().
template <class T, class Inner>
class RoundedFlow final : public FlowStepper<T> {
 public:
  using typename FlowStepper<T>::Step;
  using typename FlowStepper<T>::Standing;

  // make(net, objective, given) returns the flow in double.
  template <class Make>
  RoundedFlow(const NetworkView<T>& net, const Objective<T>& objective, const SplitView<T>& given,
              Make&& make)
      : wide_(net, objective, given), inner_(make(wide_.net(), wide_.objective(), wide_.given())) {}

  template <class State>
  void resume(State state) {
    inner_->resume(std::move(state));
  }
  const auto& state() const { return inner_->state(); }
  auto resumable(double time) const { return inner_->resumable(time); }

  // What T cannot show is not finite, as it is for steppers of T.
  bool begin(const Team& team) override {
    const bool finite = inner_->begin(team);
    keep_outputs();
    return finite && std::all_of(f_.begin(), f_.end(), [](T f) { return std::isfinite(f); });
  }
  Step step(const Team& team) override {
    const Step step = inner_->step(team);
    if (step == Step::taken) keep_outputs();
    return step;
  }
  bool at_rest(const Team& team) override { return inner_->at_rest(team); }
  double squared_gradient(const Team& team) override { return inner_->squared_gradient(team); }

  double time() const override { return inner_->time(); }
  FlowPoint<T> here() const override { return rounded(inner_->here(), here_); }
  const T* outputs() const override { return f_.data(); }
  FlowPoint<T> look(double time, const Team& team) override {
    return rounded(inner_->look(time, team), looked_);
  }
  void look_at_outputs(double time, const Team& team, T* f) override {
    wide_f_.resize(f_.size());
    inner_->look_at_outputs(time, team, wide_f_.data());
    std::transform(wide_f_.begin(), wide_f_.end(), f, round);
  }
  int looks() const override { return inner_->looks(); }
  Standing resumes_from(double time) const override {
    const auto from = inner_->resumes_from(time);
    return {from.time, rounded(from.point, resumed_)};
  }
  const FlowCounts& counts() const override { return inner_->counts(); }
  const std::vector<FlowEvent>& events() const override { return inner_->events(); }

 private:
  struct Network {
    std::vector<T> W, a;
  };

  static T round(double value) { return static_cast<T>(value); }

  static FlowPoint<T> rounded(const FlowPoint<double>& point, Network& to) {
    const NetworkView<double>& net = point.net;
    to.W.resize(static_cast<std::size_t>(net.m * net.d));
    to.a.resize(static_cast<std::size_t>(net.m));
    std::transform(net.W, net.W + net.m * net.d, to.W.begin(), round);
    std::transform(net.a, net.a + net.m, to.a.begin(), round);
    return {{net.m, net.d, to.W.data(), to.a.data()}, round(point.rest), point.exponents};
  }

  void keep_outputs() {
    f_.resize(static_cast<std::size_t>(wide_.objective().split().n));
    std::transform(inner_->outputs(), inner_->outputs() + f_.size(), f_.begin(), round);
  }

  InDouble<T> wide_;
  std::unique_ptr<Inner> inner_;
  std::vector<T> f_;
  std::vector<double> wide_f_;
  mutable Network here_, resumed_;
  Network looked_;
};

}  // namespace featcore
