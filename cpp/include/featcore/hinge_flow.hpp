// The exact hinge flow as others see it: what HingeCore carries in double, in their precision.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "featcore/flow_stepper.hpp"
#include "featcore/hinge_core.hpp"
#include "featcore/objective.hpp"

namespace featcore {

template <class T>
struct HingeFlowState : HingeState {
  std::vector<T> W, a, f;
  T rest = 1;
};

template <class T>
class HingeFlow final : public FlowStepper<T> {
 public:
  using typename FlowStepper<T>::Step;
  using typename FlowStepper<T>::Standing;

  // Those samples that share a hyperplane are found among `given`, where the objective's are the
  // same in other coordinates.
  HingeFlow(const NetworkView<T>& net, Activation activation, const Objective<T>& objective,
            const HingeFlowOptions& options, const SplitView<T>* given = nullptr)
      : m_(net.m),
        d_(net.d),
        core_({net.m, net.d, in_double(net.W, m_ * d_).data(), in_double(net.a, m_).data()},
              activation, samples_of(objective, given ? *given : objective.split()), options) {
    if (objective.spec().loss != Loss::hinge)
      throw std::invalid_argument("the exact hinge flow is for the hinge loss only");
    if (objective.spec().weight_decay != 0 || objective.spec().output_penalty != 0)
      throw std::invalid_argument("the exact hinge flow takes no weight decay or output penalty");
    state_.W.assign(net.W, net.W + m_ * d_);
    state_.a.assign(net.a, net.a + m_);
    looked_.W = state_.W;
    looked_.a = state_.a;
  }

  // Goes on from a state of a flow with the same data and options.
  void resume(HingeFlowState<T> state) {
    core_.resume(carried(state));
    state.W = std::move(state_.W);  // inputs that no sample has do not move
    state.a = std::move(state_.a);
    state_ = std::move(state);
    show(state_, state_);
  }

  bool begin(const Team& team) override {
    const bool resumed = core_.begun();
    const bool finite = core_.begin(team);
    if (finite && !resumed) {
      state_.f.assign(core_.outputs().begin(), core_.outputs().end());
      if (core_.begun()) carried(state_) = core_.state();
    }
    return finite;
  }

  Step step(const Team& team) override {
    const Step step = core_.step(team);
    if (step != Step::taken) return step;
    before_.W = state_.W;
    before_.a = state_.a;
    before_.f = state_.f;
    carried(state_) = core_.state();
    show(state_, state_);
    state_.f.assign(core_.outputs().begin(), core_.outputs().end());
    return step;
  }

  bool at_rest(const Team& team) override { return core_.at_rest(team); }
  double squared_gradient(const Team& team) override { return core_.squared_gradient(team); }

  FlowPoint<T> look(double time, const Team& team) override {
    if (time == state_.time) return point(state_);
    show(core_.look(time, team), looked_);
    return point(looked_);
  }

  void look_at_outputs(double time, const Team& team, T* f) override {
    f_.resize(static_cast<std::size_t>(core_.samples().n()));
    core_.outputs(time, team, f_.data());
    std::transform(f_.begin(), f_.end(), f, [](double value) { return static_cast<T>(value); });
  }

  // At the end of the last step, and of all so far.
  const HingeFlowState<T>& state() const { return state_; }
  FlowPoint<T> here() const override { return point(state_); }
  const T* outputs() const override { return state_.f.data(); }
  const FlowCounts& counts() const override { return core_.counts(); }
  double time() const override { return state_.time; }
  // Events of margins have neuron -1.
  const std::vector<FlowEvent>& events() const override { return core_.events(); }

  Standing resumes_from(double time) const override {
    return {core_.resumable(time).time, point(time < state_.time ? before_ : state_)};
  }
  HingeFlowState<T> resumable(double time) const {
    HingeFlowState<T> state = time < state_.time ? before_ : state_;
    carried(state) = core_.resumable(time);
    return state;
  }

 private:
  FlowPoint<T> point(const HingeFlowState<T>& state) const {
    return {{m_, d_, state.W.data(), state.a.data()}, state.rest};
  }

  static HingeState& carried(HingeFlowState<T>& state) { return state; }

  static std::vector<double> in_double(const T* values, Index count) {
    return {values, values + count};
  }

  static HingeSamples samples_of(const Objective<T>& objective, const SplitView<T>& given) {
    const SplitView<T>& split = objective.split();
    const double scale = objective.spec().mean ? 1 / objective.total_weight() : 1.0;
    std::vector<double> weights;
    weights.reserve(static_cast<std::size_t>(split.n));
    for (Index i = 0; i < split.n; ++i) weights.push_back(scale * objective.weight(i));
    const std::vector<double> y = in_double(split.y, split.n);
    const std::vector<double> x = in_double(split.x, split.n * split.d);
    const SplitView<double> wide{split.n, split.d, x.data(), y.data(), nullptr, weights.data()};
    if (given.x == split.x) return {wide, wide};
    const std::vector<double> given_x = in_double(given.x, given.n * given.d);
    return {wide, {given.n, given.d, given_x.data(), nullptr, nullptr, nullptr}};
  }

  // W and a of what the core has.
  void show(const HingeState& from, HingeFlowState<T>& to) const {
    const FlowSamples<double>& lines = core_.samples().lines();
    std::vector<double> row(static_cast<std::size_t>(d_));
    for (Index j = 0; j < m_; ++j) {
      T* W = to.W.data() + j * d_;
      std::copy_n(W, d_, row.begin());  // inputs that no sample has
      lines.scatter(from.w.data() + j * lines.padded_d(), row.data());
      std::copy_n(row.begin(), d_, W);
      to.a[static_cast<std::size_t>(j)] = static_cast<T>(from.heads[static_cast<std::size_t>(j)]);
    }
  }

  Index m_, d_;
  HingeCore core_;
  HingeFlowState<T> state_;
  HingeFlowState<T> before_, looked_;  // W, a and f of them
  std::vector<double> f_;
};

}  // namespace featcore
