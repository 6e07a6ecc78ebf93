#include <cmath>
#include <limits>

#include "check.hpp"
#include "featcore/event_flow.hpp"
#include "featcore/flow.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(a_scale_is_a_power_of_two_and_a_rest) {
  const std::vector<double> log = {-3.0, 0.0, 2.5, -300.0, 17 * std::log(2.0)};
  const NeuronScales scales(log.data(), 5);
  for (Index j = 0; j < 5; ++j)
    for (const std::int64_t k : {-40, 0, 300}) {
      const double expected = 2 * (log[at(j)] + static_cast<double>(k) * std::log(2.0));
      // the scale's own logarithm is known to 1e-16 of itself
      CHECK_CLOSE(std::log(scales.squared(j, k)), expected, 1e-15 * (1 + std::abs(expected)));
      CHECK_CLOSE(scales.log(j, k), 0.5 * expected, 1e-12);
      // handing over 2^k changes no digit
      CHECK(scales.squared(j, k) == std::ldexp(scales.squared(j, 0), static_cast<int>(2 * k)));
    }
  CHECK(scales.squared(1, 0) == 1);
  CHECK(scales.squared(4, 0) == std::ldexp(1.0, 34));
}

TEST(scales_underflow_and_come_back) {
  const std::vector<double> log = {-921.0, -1e300, -kInfinity, 1e300};
  const NeuronScales scales(log.data(), 4);
  CHECK(scales.squared(0, 0) == 0);
  CHECK_CLOSE(scales.squared(0, 1329), std::exp(2 * (1329 * std::log(2.0) - 921)), 1e-12);
  CHECK(scales.squared(1, 1000000) == 0);
  CHECK(!scales.vanishes(1));
  CHECK(scales.vanishes(2));
  CHECK(scales.squared(2, 1000000) == 0);
  CHECK_CLOSE(scales.log(2, 3), 3 * std::log(2.0), 1e-15);
  CHECK(scales.squared(3, 0) == kInfinity);
}

TEST(the_unit_is_the_largest_scale) {
  const std::vector<double> log = {-921.0, -931.0, -kInfinity};
  const NeuronScales scales(log.data(), 3);
  const std::vector<std::int64_t> k = {0, 20, 5000};
  const NeuronScales::Unit unit = scales.unit(k.data());
  CHECK(!unit.vanishing);
  CHECK(unit.size() == 0);
  // -931 + 20 ln 2 is the larger
  const double ratio = scales.size(0, 0, unit) / scales.size(1, 20, unit);
  CHECK_CLOSE(std::log(ratio), 10 - 20 * std::log(2.0), 1e-12);
  CHECK(scales.size(1, 20, unit) > 0.7 && scales.size(1, 20, unit) < 1.5);
  CHECK(scales.size(2, 5000, unit) == 0);
  const NeuronScales limits(log.data() + 2, 1);
  const std::int64_t handed = 5000;
  const NeuronScales::Unit limit = limits.unit(&handed);
  CHECK(limit.vanishing);
  CHECK(limit.size() == 0 && limit.squared() == 0);
  CHECK(limits.size(0, 5000, limit) == 1);
  CHECK(limits.squared(0, 4999, limit) == 0.25);
}

// A flow of mantissas against one of the weights: to the bit where scales are powers of two.
template <class T>
static void same_flow(const std::vector<double>& log, double end, bool exact) {
  const Problem<T> p = random_problem<T>(30, 4, 12, 7);
  Problem<T> plain = p;
  for (Index j = 0; j < p.m; ++j) {
    const double scale = std::exp(log[at(j)]);
    const int power = static_cast<int>(std::lround(log[at(j)] / std::log(2.0)));
    const auto times = [&](T w) {
      return exact ? std::ldexp(w, power) : static_cast<T>(scale * static_cast<double>(w));
    };
    for (Index k = 0; k < p.d; ++k) plain.W[at(j * p.d + k)] = times(p.W[at(j * p.d + k)]);
    plain.a[at(j)] = times(p.a[at(j)]);
  }
  const NeuronScales scales(log.data(), p.m);
  const Objective<T> objective({}, p.split());
  const Activation relu{ActivationKind::homogeneous, 0};
  EventFlow<T> one(p.net(), relu, objective, {1e-5, 0, {}, 0, &scales});
  EventFlow<T> other(plain.net(), relu, objective, {1e-5, 0, {}});
  Monitor monitor;
  Team(2, monitor).together([&](const Team& team) {
    CHECK(one.begin(team) && other.begin(team));
    while (other.time() < end) {
      CHECK(one.step(team) == EventFlow<T>::Step::taken);
      CHECK(other.step(team) == EventFlow<T>::Step::taken);
      if (exact) {
        CHECK(one.time() == other.time());
        CHECK(same_bits(one.state().f, other.state().f));
        CHECK(one.squared_gradient(team) == other.squared_gradient(team));
      }
    }
  });
  const EventFlowState<T>& state = one.state();
  for (Index j = 0; j < p.m; ++j) {
    const double scale = std::sqrt(scales.squared(j, state.exponents[at(j)]));
    CHECK_CLOSE(scale * static_cast<double>(state.a[at(j)]),
                static_cast<double>(other.state().a[at(j)]), exact ? 0.0 : 1e-3);
    // what has moved far has handed over
    CHECK(std::abs(std::ilogb(state.a[at(j)])) <= 40);
  }
}

TEST(mantissas_move_as_weights_do) {
  std::vector<double> powers, others;
  for (int j = 0; j < 12; ++j) {
    powers.push_back(-j * std::log(2.0));
    others.push_back(-0.7 * j);
  }
  same_flow<double>(powers, 5.0, true);
  same_flow<float>(powers, 5.0, true);
  same_flow<double>(others, 5.0, false);
}

TEST(a_flow_goes_on_from_a_state_with_its_exponents_only) {
  const Problem<double> p = random_problem<double>(10, 3, 4, 7);
  const std::vector<double> log(4, -921.0);
  const NeuronScales scales(log.data(), 4);
  const Objective<double> objective({}, p.split());
  const Activation relu{ActivationKind::homogeneous, 0};
  const auto make = [&](const NeuronScales* s) {
    return EventFlow<double>(p.net(), relu, objective, {1e-6, 0, {}, 0, s});
  };
  Monitor monitor;
  const Team team(1, monitor);
  EventFlow<double> whole = make(&scales);
  CHECK(whole.begin(team));
  // nothing but the neurons' own series limits a step
  for (int k = 0; k < 40; ++k) CHECK(whole.step(team) == EventFlow<double>::Step::taken);
  CHECK(whole.counts().rejected == 0);
  EventFlow<double> again = make(&scales);
  again.resume(whole.state());
  CHECK(again.begin(team));
  CHECK(again.step(team) == EventFlow<double>::Step::taken);
  CHECK(whole.step(team) == EventFlow<double>::Step::taken);
  CHECK(same_bits(again.state().W, whole.state().W));
  CHECK(again.state().exponents == whole.state().exponents);
  CHECK_THROWS(std::invalid_argument, make(nullptr).resume(whole.state()));
}
