#include <functional>

#include "check.hpp"
#include "featcore/event_flow.hpp"
#include "featcore/flow.hpp"
#include "featcore/runge_kutta.hpp"
#include "problem.hpp"
#include "whole_frame.hpp"

using namespace featcore;
using namespace featcore::testing;

TEST(the_grid_reproduces_polynomials) {
  for (int terms = 4; terms <= kTerms; ++terms) {
    const StepGrid grid(terms, 2 * terms - 2);
    CHECK(grid.points() == 2 * terms - 1);
    for (int degree = 0; degree < terms; ++degree)
      for (int l = 0; l < terms; ++l) {
        double coefficient = 0;
        for (int q = 0; q < grid.points(); ++q)
          coefficient += grid.fit(l, q) * std::pow(grid.at(q), degree);
        CHECK_CLOSE(coefficient, l == degree ? 1 : 0, 1e-12);
      }
    for (int degree = 0; degree < grid.points(); ++degree)
      for (int c = 0; c < grid.points(); ++c) {
        double integral = 0;
        for (int q = 0; q < grid.points(); ++q)
          integral += grid.integral(c, q) * std::pow(grid.at(q), degree);
        CHECK_CLOSE(integral,
                    (std::pow(grid.at(c), degree + 1) - std::pow(-1.0, degree + 1)) / (degree + 1),
                    1e-14);
      }
  }
}

TEST(legendre_polynomials_are_shifted) {
  const std::vector<double> rows = StepGrid::monomials(4, 0.5, 2.0);
  const double s = 0.3, x = 0.5 * s + 2.0;
  const double expected[] = {1, x, (3 * x * x - 1) / 2, (5 * x * x * x - 3 * x) / 2};
  for (int l = 0; l < 4; ++l) {
    double value = 0;
    for (int k = 3; k >= 0; --k) value = value * s + rows[at(l * 4 + k)];
    CHECK_CLOSE(value, expected[l], 1e-13);
  }
}

// With v constant a'' = (half kappa)^2 a: hyperbolic functions.
TEST(a_series_is_that_of_constant_residuals) {
  NeuronSeries series;
  const double half = 0.7, kappa = 1.3, a = 0.4, q = -0.2, s0 = -0.6, tau = 1.1;
  Terms Q{}, M[kTerms] = {};
  Q[0] = q;
  M[0][0] = kappa * kappa;
  CHECK(series.expand({half, 1, 1, 0, 0}, 6, s0, a, Q, M, 1.6) == 1.6);
  NeuronSeries::Point point;
  series.at(tau, point);
  const double angle = half * kappa * tau;
  CHECK_CLOSE(point.a, a * std::cosh(angle) + q / kappa * std::sinh(angle), 1e-15);
  CHECK_CLOSE(point.A[0], (a * std::sinh(angle) + q / kappa * (std::cosh(angle) - 1)) / kappa,
              1e-15);
  CHECK(point.decay == 1);
  // decay of both layers at one rate is a factor
  NeuronSeries decaying;
  decaying.expand({half, 1, 1, 0.3, 0.3}, 6, s0, a, Q, M, 1.6);
  NeuronSeries::Point less;
  decaying.at(tau, less);
  const double factor = std::exp(-half * 0.3 * tau);
  CHECK_CLOSE(less.a, factor * point.a, 1e-15);
  CHECK_CLOSE(less.decay, factor, 1e-15);
  CHECK_CLOSE(less.A[0], factor * point.A[0], 1e-15);
}

// a(s) = a0 + half q (s - s0): one change of sign, found wherever it is.
TEST(a_change_of_the_heads_sign_is_found) {
  for (const double where : {1e-9, 1e-3, 0.02, 0.5, 1.0}) {
    NeuronSeries series;
    Terms Q{}, M[kTerms] = {};
    Q[0] = -1;
    series.expand({1, 1, 1, 0, 0}, 5, -0.2, where, Q, M, 1.2);
    double sign = 0;
    CHECK_CLOSE(series.sign_change(1.2, sign), where, 1e-15);
    CHECK(sign == 1);
  }
}

template <class T>
struct Ended {
  std::vector<T> W, a;
  FlowOutcome outcome;
  std::vector<FlowEvent> events;
};

template <class T>
static Ended<T> run(FlowStepper<T>& stepper, const Problem<T>& p,
                    const std::vector<Objective<T>>& objectives, double end, int threads) {
  std::vector<double> balances;
  for (Index j = 0; j < p.m; ++j) balances.push_back(balance(p.net(), j));
  std::int64_t row = 0;
  Recorder<T> recorder({}, {}, &row);
  FlowOptions options;
  options.end = end;
  options.max_events = 1 << 20;
  FlowTrace<T> trace;
  const std::vector<double> times;
  const auto frame = whole_frame<T>(p, {ActivationKind::homogeneous, 0});
  FlowRun<T> flow(stepper, *frame, objectives, balances.data(), times, options, recorder, trace);
  Monitor monitor;
  Team(threads, monitor).together([&](const Team& team) { flow(team); });
  return {trace.W, trace.a, trace.outcome, trace.events};
}

template <class T>
static Ended<T> event_flow(const Problem<T>& p, double end, double rtol, int threads = 1,
                           const ObjectiveSpec& spec = {}, double slope = 0) {
  const std::vector<Objective<T>> objectives = {Objective<T>(spec, p.split())};
  EventFlow<T> stepper(p.net(), {ActivationKind::homogeneous, slope}, objectives.front(),
                       {rtol, 0, {}});
  return run<T>(stepper, p, objectives, end, threads);
}

template <class T>
static double distance(const Ended<T>& p, const Ended<T>& q) {
  double sum = 0, size = 0;
  for (std::size_t k = 0; k < p.W.size(); ++k) {
    sum += std::pow(static_cast<double>(p.W[k] - q.W[k]), 2);
    size += std::pow(static_cast<double>(q.W[k]), 2);
  }
  return std::sqrt(sum / size);
}

TEST(the_error_is_what_was_asked_for) {
  const Problem<double> p = random_problem<double>(40, 5, 30, 3);
  for (const Loss loss : {Loss::logistic, Loss::exponential, Loss::squared})
    for (const double slope : {0.0, 0.3}) {
      const ObjectiveSpec spec{loss, true, 0.01, 0.1};
      const Ended<double> exact = event_flow(p, 5.0, 1e-10, 1, spec, slope);
      CHECK(exact.outcome.status == FlowStatus::reached_end);
      for (const double rtol : {1e-4, 1e-6, 1e-8})
        CHECK(distance(event_flow(p, 5.0, rtol, 1, spec, slope), exact) <= 5 * rtol);
    }
}

template <class T>
static void check_products(Index n, Index d, Index count) {
  Problem<T> p = random_problem<T>(n, d, count, 11);
  for (Index i = 0; i < n; ++i) p.x[at(i * d + d / 2)] = 0;  // an input that no sample has
  const FlowSamples<T> samples(p.split());
  CHECK(samples.n() == n);
  CHECK(samples.d() == d - 1);
  CHECK(samples.idle_inputs() == std::vector<Index>{d / 2});
  std::vector<double> w(at(count * samples.padded_d()));
  for (Index j = 0; j < count; ++j)
    samples.gather(p.W.data() + j * d, w.data() + j * samples.padded_d());
  Buffer<T> out(count * samples.padded_n());
  samples.multiply(w.data(), samples.padded_d(), count, out.data());
  for (Index j = 0; j < count; ++j)
    for (Index i = 0; i < n; ++i) {
      double sum = 0, size = 0;
      for (Index k = 0; k < d; ++k) {
        const double part =
            static_cast<double>(p.W[at(j * d + k)]) * static_cast<double>(p.x[at(i * d + k)]);
        sum += part;
        size += std::abs(part);
      }
      CHECK_CLOSE(
          out.data()[j * samples.padded_n() + i], sum,
          static_cast<double>(d) * static_cast<double>(std::numeric_limits<T>::epsilon()) * size);
    }
}

TEST(products_of_samples_and_vectors) {
  for (const Index n : {2, 17, 64, 100})
    for (const Index d : {3, 9, 31})
      for (const Index count : {1, 5, 6, 9}) {
        check_products<double>(n, d, count);
        check_products<float>(n, d, count);
      }
}

// With v = 0 but for what is given here, a is constant: z_i is the integral of its field.
TEST(the_first_of_several_crossings_is_found) {
  constexpr int L = 4;
  constexpr Index kCount = 16;
  NeuronSeries series;
  const Terms M[kTerms] = {};
  series.expand({1, 1, 1, 0, 0}, L, -1, 2, Terms{}, M, 2);  // dz/ds = 2 U(s)
  Buffer<double> z(kCount), side(kCount), U(kTerms * kCount);
  const auto set = [&](Index i, double start, double on, double u0, double u1) {
    z.data()[i] = start;
    side.data()[i] = on;
    U.data()[i] = u0;
    U.data()[kCount + i] = u1;
  };
  const SampleRows<double> rows{z.data(), side.data(), U.data(), kCount, kCount};
  CrossingSearch<double> search;
  CHECK(search.first<L>(rows, series, 2).sample == -1);
  set(1, 1.0, 1, -0.5, 0);    // z = 1 - tau
  set(3, -0.6, -1, 0.25, 0);  // at tau = 1.2
  set(4, 0.1, 1, 1, 0);       // goes away
  set(7, 0.0, 1, 0.5, 0);     // has just crossed
  set(12, -9.0, -1, 1, 0);    // is too far away
  auto found = search.first<L>(rows, series, 2);
  CHECK(found.sample == 1);
  CHECK_CLOSE(found.tau, 1.0, 1e-14);
  CHECK(search.first<L>(rows, series, 0.9).sample == -1);
  // z = 0.15 + 2 (-0.8 tau + tau (tau + 2 s0) / 2 + ...), to and fro: 2 U(s) = 2 s + 0.4, from
  // z = 0.15: z(tau) = 0.15 - 1.6 tau + tau^2, which is back above 0 at the end
  set(9, 0.15, 1, 0.2, 1);
  found = search.first<L>(rows, series, 2);
  CHECK(found.sample == 9);
  CHECK_CLOSE(found.tau, 0.8 - std::sqrt(0.64 - 0.15), 1e-14);
}

TEST(many_samples_are_followed_in_windows) {
  Problem<double> p = random_problem<double>(300, 6, 40, 13);
  for (Index i = 0; i < p.n; ++i) p.x[at(i * p.d)] += 2 * p.y[at(i)];
  for (double& w : p.W) w *= 1e-3;
  for (double& a : p.a) a *= 1e-3;
  for (const double slope : {0.0, 0.2}) {
    const ObjectiveSpec spec{Loss::logistic, true, 0.01, 0};
    const Ended<double> exact = event_flow(p, 8.0, 1e-9, 1, spec, slope);
    CHECK(exact.outcome.status == FlowStatus::reached_end);
    CHECK(exact.outcome.counts.crossings > p.n * p.m / 4);
    for (const double rtol : {1e-4, 1e-6})
      CHECK(distance(event_flow(p, 8.0, rtol, 1, spec, slope), exact) <= 5 * rtol);
  }
}

TEST(balance_is_conserved_to_rounding) {
  Problem<double> p = random_problem<double>(50, 4, 40, 5);
  for (double& w : p.W) w *= 0.01;
  for (double& a : p.a) a *= 0.01;
  const Ended<double> end = event_flow(p, 60.0, 1e-4);
  CHECK(end.outcome.counts.crossings > 100);
  CHECK(end.outcome.counts.slidings > 0);
  CHECK(end.outcome.drift < 1e-13);
}

template <class T>
static void check_bits() {
  const Problem<T> p = random_problem<T>(45, 6, 70, 7);
  const Ended<T> one = event_flow(p, 3.0, 1e-4, 1);
  CHECK(one.outcome.status == FlowStatus::reached_end);
  for (const int threads : {2, 3, 5}) {
    const Ended<T> other = event_flow(p, 3.0, 1e-4, threads);
    CHECK(same_bits(one.W, other.W));
    CHECK(same_bits(one.a, other.a));
    CHECK(one.events.size() == other.events.size());
  }
}

TEST(bits_do_not_depend_on_threads) {
  check_bits<double>();
  check_bits<float>();
}

TEST(a_state_goes_on_with_the_same_bits) {
  const Problem<double> p = random_problem<double>(30, 4, 20, 9);
  const std::vector<Objective<double>> objectives = {Objective<double>({}, p.split())};
  const auto make = [&] {
    return EventFlow<double>(p.net(), {ActivationKind::homogeneous, 0}, objectives.front(),
                             {1e-6, 0, {}});
  };
  EventFlow<double> whole = make();
  const Ended<double> expected = run<double>(whole, p, objectives, 6.0, 1);
  EventFlow<double> first = make();
  run<double>(first, p, objectives, 2.5, 1);
  EventFlow<double> second = make();
  second.resume(first.resumable(2.5));
  CHECK(second.time() <= 2.5);
  const Ended<double> end = run<double>(second, p, objectives, 6.0, 1);
  CHECK(same_bits(end.W, expected.W));
  EventFlow<double> third = make();
  CHECK_THROWS(std::invalid_argument, third.resume({}));
}

// Both samples pull the neuron to w_1 = 0, from one side each.
TEST(a_neuron_is_held_and_let_go) {
  Problem<double> p{2, 2, 1, {1, 0, 1, 1}, {-1, 1}, {1, 1}, {-0.1, 1}, {0.9}};
  const Ended<double> end = event_flow(p, 3.0, 1e-9);
  CHECK(end.events.size() == 1);
  CHECK(end.events[0].kind == EventKind::held);
  CHECK(end.events[0].sample == 0);
  CHECK_CLOSE(end.W[0], 0, 1e-15);
  CHECK(event_flow(p, 30.0, 1e-6, 1, {}, 0.2).outcome.status == FlowStatus::reached_end);
}

TEST(everything_may_happen_at_once) {
  // Integers: many pairs are on a kink at the start, and samples are repeated and mirrored.
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const Problem<double> p = integer_problem<double>(25, 2, 12, seed);
    Problem<double> small = p;
    for (double& w : small.W) w *= 0.1;
    for (double& a : small.a) a *= 0.1;
    const Ended<double> end = event_flow(small, 2.0, 1e-5);
    CHECK(end.outcome.status == FlowStatus::reached_end);
    CHECK(distance(end, event_flow(small, 2.0, 1e-8)) < 1e-4);
  }
}

// One sample, and the same in parts: of other lengths, on the other side, with labels of both
// signs.
TEST(samples_on_a_line_act_as_one) {
  const FlowSamples<double> lines(
      SplitView<double>{5, 2, std::vector<double>{1, 2, 3, 1, -2, -4, 0, 0, 0.1, 0.2}.data(),
                        nullptr, nullptr, nullptr});
  CHECK(lines.n() == 3);
  CHECK(lines.line(0) == 0 && lines.line(2) == 0 && lines.line(4) == 0);
  CHECK(lines.line(1) == 1 && lines.line(3) == 2);
  CHECK_CLOSE(lines.factor(2), -2, 1e-15);
  CHECK_CLOSE(lines.factor(4), 0.1, 1e-15);
  CHECK(lines.mirrored());
  // Found among the samples as given, whatever a change of coordinates leaves of them.
  const std::vector<double> given = {1, 2, 3, 1, -2, -4, 0, 0, 0.1, 0.2};
  std::vector<double> turned = given;
  turned[5] += 1e-13;
  turned[9] -= 1e-14;
  const SplitView<double> before{5, 2, given.data(), nullptr, nullptr, nullptr};
  const SplitView<double> after{5, 2, turned.data(), nullptr, nullptr, nullptr};
  CHECK(FlowSamples<double>(after).n() == 5);
  CHECK(FlowSamples<double>(after, before).n() == 3);

  Problem<double> p = random_problem<double>(12, 3, 10, 4);
  Problem<double> q = p;
  const auto add = [&](Index i, double factor, double y) {
    for (Index k = 0; k < p.d; ++k) q.x.push_back(factor * p.x[at(i * p.d + k)]);
    q.y.push_back(y);
    ++q.n;
  };
  for (Index i = 0; i < 6; ++i) {
    add(i, 1, -p.y[at(i)]);
    add(i, -1.5, p.y[at(i)]);
  }
  for (const double slope : {0.0, 0.2}) {
    const Ended<double> exact = event_flow(q, 6.0, 1e-9, 1, {}, slope);
    CHECK(exact.outcome.status == FlowStatus::reached_end);
    // small steps of the plain gradient tend to it at first order
    const std::vector<Objective<double>> objectives = {Objective<double>({}, q.split())};
    double errors[2];
    for (int k = 0; k < 2; ++k) {
      RungeKutta<double> stepper(q.net(), {ActivationKind::homogeneous, slope}, objectives.front(),
                                 {RungeKuttaMethod::euler, k == 0 ? 2e-3 : 5e-4, 0, 0, {}});
      errors[k] = distance(run<double>(stepper, q, objectives, 6.0, 1), exact);
    }
    CHECK(errors[1] < 1e-3);
    CHECK(errors[0] > 2 * errors[1]);
  }
}

TEST(a_neuron_held_by_as_many_samples_as_inputs_rests) {
  // Both samples of the second class push the neuron to w = 0 and keep it there.
  Problem<double> p{2, 2, 1, {1, 0, 0, 1}, {-1, -1}, {1, 1}, {0.1, 0.2}, {2}};
  const Ended<double> end = event_flow(p, 10.0, 1e-6);
  CHECK(end.outcome.status == FlowStatus::reached_end);
  CHECK(end.W[0] == 0 && end.W[1] == 0);
  CHECK_CLOSE(end.a[0], std::sqrt(4 - 0.05), 1e-12);
}

TEST(a_network_without_life_stays) {
  Problem<double> p = random_problem<double>(10, 3, 4, 2);
  for (double& w : p.W) w = 0;
  const Ended<double> end = event_flow(p, 5.0, 1e-6);
  CHECK(end.outcome.status == FlowStatus::reached_end);
  CHECK(same_bits(end.W, p.W));
  CHECK(same_bits(end.a, p.a));
}

TEST(what_cannot_be_followed_is_refused) {
  const Problem<double> p = random_problem<double>(5, 2, 3);
  const auto make = [&](Loss loss, Activation activation, double rtol) {
    const Objective<double> objective({loss, true, 0, 0}, p.split());
    EventFlow<double>(p.net(), activation, objective, {rtol, 0, {}});
  };
  const Activation relu{ActivationKind::homogeneous, 0};
  CHECK_THROWS(std::invalid_argument, make(Loss::hinge, relu, 1e-6));
  CHECK_THROWS(std::invalid_argument, make(Loss::logistic, {ActivationKind::tanh, 0}, 1e-6));
  CHECK_THROWS(std::invalid_argument, make(Loss::logistic, relu, 0));
}

TEST(a_stop_drops_the_unfinished_step) {
  struct Impatient final : Monitor {
    bool poll() override { return false; }
  };
  const Problem<double> p = random_problem<double>(300, 20, 200, 4);
  const std::vector<Objective<double>> objectives = {Objective<double>({}, p.split())};
  EventFlow<double> stepper(p.net(), {ActivationKind::homogeneous, 0}, objectives.front(),
                            {1e-9, 0, {}});
  std::vector<double> balances(at(p.m));
  std::int64_t row = 0;
  Recorder<double> recorder({}, {}, &row);
  FlowOptions options;
  options.end = 1e3;
  FlowTrace<double> trace;
  const std::vector<double> times;
  const auto frame = whole_frame<double>(p, {ActivationKind::homogeneous, 0});
  FlowRun<double> flow(stepper, *frame, objectives, balances.data(), times, options, recorder,
                       trace);
  Impatient monitor;
  flow(Team(1, monitor));
  CHECK(trace.outcome.status == FlowStatus::interrupted);
  CHECK(trace.outcome.time == stepper.time());
  CHECK(trace.W.empty() || same_bits(trace.W, stepper.state().W));
}

// The first sides and outputs of so many neurons take longer than a monitor waits.
TEST(a_stop_before_the_first_step_leaves_a_flow_that_has_not_begun) {
  struct Impatient final : Monitor {
    bool poll() override { return false; }
  };
  const Problem<double> p = random_problem<double>(40, 20, 200000, 4);
  const Objective<double> objective({}, p.split());
  const Activation relu{ActivationKind::homogeneous, 0};
  EventFlow<double> stepper(p.net(), relu, objective, {1e-9, 0, {}});
  Impatient monitor;
  CHECK_THROWS(Stopped, stepper.begin(Team(2, monitor)));
  CHECK(stepper.state().sides.empty());
  CHECK(stepper.state().f.empty());
  Monitor calm;
  stepper.begin(Team(2, calm));
  EventFlow<double> other(p.net(), relu, objective, {1e-9, 0, {}});
  other.begin(Team(2, calm));
  CHECK(stepper.state().sides == other.state().sides);
  CHECK(same_bits(stepper.state().f, other.state().f));
}

TEST(orders_of_convergence) {
  const Problem<double> p = random_problem<double>(20, 3, 8, 6);
  const std::vector<Objective<double>> objectives = {Objective<double>({}, p.split())};
  const auto end = [&](const RungeKuttaOptions& options) {
    RungeKutta<double> stepper(p.net(), {ActivationKind::tanh, 0}, objectives.front(), options);
    return run<double>(stepper, p, objectives, 2.0, 1);
  };
  const Ended<double> exact = end({RungeKuttaMethod::tsit5, 0, 1e-12, 1e-15, {}});
  const std::pair<RungeKuttaMethod, double> methods[] = {
      {RungeKuttaMethod::euler, 1}, {RungeKuttaMethod::heun, 2}, {RungeKuttaMethod::rk4, 4}};
  for (const auto& [method, order] : methods) {
    const double coarse = distance(end({method, 0.1, 0, 0, {}}), exact);
    const double fine = distance(end({method, 0.05, 0, 0, {}}), exact);
    CHECK_CLOSE(std::log2(coarse / fine), order, 0.3);
    // and so between steps
    const double inside_coarse = distance(end({method, 0.3, 0, 0, {}}), exact);
    CHECK(inside_coarse > coarse);
  }
  CHECK(distance(end({RungeKuttaMethod::tsit5, 0, 1e-6, 1e-9, {}}), exact) < 1e-6);
}
