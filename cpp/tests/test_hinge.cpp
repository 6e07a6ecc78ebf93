// The exact hinge flow and its parts: first roots, minima in a box, series, and flows against
// closed forms.
#include <cmath>
#include <limits>

#include "check.hpp"
#include "featcore/flow.hpp"
#include "featcore/hinge_flow.hpp"
#include "featcore/way_out.hpp"
#include "problem.hpp"
#include "whole_frame.hpp"

using namespace featcore;
using namespace featcore::testing;

TEST(the_first_root_is_found_wherever_it_is) {
  FirstRoot root;
  for (const double where : {1e-12, 1e-3, 0.3, 1.0, 7.0}) {
    CHECK_CLOSE(root({where, -1}, 8), where, 1e-15 * where);
    // (where - t)(2 where - t)(3 where - t)
    const double w = where;
    CHECK_CLOSE(root({6 * w * w * w, -11 * w * w, 6 * w, -1}, 8), w, 1e-14 * w);
  }
  CHECK(root({1, 0, 1}, 5) > 5);
  CHECK(root({1, -1}, 0.5) > 0.5);
  // Two roots close to each other, and a miss as close. The slope there is 2e-5, so that rounding
  // of coefficients and sums (5e-16) moves the root by 2.5e-11.
  CHECK_CLOSE(root({1 - 1e-10, -2, 1}, 3), 1 - 1e-5, 2.5e-11);
  CHECK(root({1 + 1e-10, -2, 1}, 3) > 3);
}

TEST(a_minimum_in_a_box_meets_its_conditions) {
  Random random(3);
  for (int problem = 0; problem < 200; ++problem) {
    const Index count = random.integer(1, 8), rank = random.integer(1, 8);
    ColMatrix<double> J(count, rank);
    Vector<double> d(rank);
    for (Index k = 0; k < rank; ++k) {
      d(k) = 2 * random.uniform();
      for (Index p = 0; p < count; ++p) J(p, k) = random.uniform();
    }
    const ColMatrix<double> K = J * J.transpose();
    const Vector<double> D = J * d;
    Vector<double> x(count);
    for (Index p = 0; p < count; ++p) x(p) = 0.5 + 0.6 * random.uniform();
    minimize_in_box(K, D, Vector<double>::Constant(count, 1e-13), x);
    const Vector<double> gradient = K * x + D;
    for (Index p = 0; p < count; ++p) {
      CHECK(x(p) >= 0 && x(p) <= 1);
      if (x(p) < 1) CHECK(gradient(p) > -1e-10);
      if (x(p) > 0) CHECK(gradient(p) < 1e-10);
    }
  }
}

// Against every choice of who of those that repel is on: each has a concave F, and the steepest
// ascent of all is the longest of the shortest. In the plane none that exists may be missed.
TEST(the_steepest_way_out_of_zero) {
  Random random(11);
  int found = 0, steepest = 0;
  for (int problem = 0; problem < 400; ++problem) {
    const Index d = random.integer(2, 3), count = random.integer(2, 9);
    const double slope = 0.1 * static_cast<double>(random.integer(1, 9));
    KinkedField field;
    field.sign = random.uniform() > 0 ? 1 : -1;
    field.rows.resize(count, d);
    field.off.resize(count);
    field.jumps.resize(count);
    field.noise = Vector<double>::Constant(count, 1e-13);
    std::vector<Index> attracting, repelling;
    for (Index p = 0; p < count; ++p) {
      for (Index k = 0; k < d; ++k) field.rows(p, k) = random.uniform();
      const double r = random.uniform();
      field.off(p) = slope * r;
      field.jumps(p) = (1 - slope) * r;
      (field.sign * r < 0 ? attracting : repelling).push_back(p);
    }
    const auto held = static_cast<Index>(attracting.size());
    RowMatrix<double> steps(held, d);
    for (Index q = 0; q < held; ++q) {
      const Index p = attracting[static_cast<std::size_t>(q)];
      steps.row(q) = field.jumps(p) * field.rows.row(p);
    }
    const ColMatrix<double> K = steps * steps.transpose();
    double most = 0;
    for (int choice = 0; choice < 1 << repelling.size(); ++choice) {
      Eigen::RowVectorXd v = field.off.transpose() * field.rows;
      for (std::size_t q = 0; q < repelling.size(); ++q)
        if ((choice >> q & 1) != 0) v += field.jumps(repelling[q]) * field.rows.row(repelling[q]);
      Vector<double> share = Vector<double>::Constant(held, 0.5);
      minimize_in_box(K, steps * v.transpose(), Vector<double>::Constant(held, 1e-14), share);
      v += share.transpose() * steps;
      most = std::max(most, v.norm());
    }
    const WayOut out = find_way_out(field, 1e-9);
    CHECK(out.speed <= most * (1 + 1e-9));
    if (d == 2) CHECK((out.speed > 0) == (most > 1e-9));
    if (out.speed == 0) continue;
    ++found;
    if (out.speed > most * (1 - 1e-9)) ++steepest;
    // F grows at that speed along the way: rows that are on and off are where they are
    Eigen::RowVectorXd v = field.off.transpose() * field.rows;
    std::vector<Index> inside;
    for (Index p = 0; p < count; ++p) {
      if (out.sides[static_cast<std::size_t>(p)] > 0) v += field.jumps(p) * field.rows.row(p);
      if (out.sides[static_cast<std::size_t>(p)] == 0) inside.push_back(p);
    }
    if (!inside.empty()) {  // off what it slides on
      ColMatrix<double> across(d, static_cast<Index>(inside.size()));
      for (Index q = 0; q < across.cols(); ++q)
        across.col(q) = field.rows.row(inside[static_cast<std::size_t>(q)]).transpose();
      v -= (across * across.completeOrthogonalDecomposition().solve(v.transpose())).transpose();
    }
    CHECK_CLOSE(v.norm(), out.speed, 1e-9);
    const Vector<double> z = field.sign * (field.rows * v.transpose());
    double gain = 0;
    for (Index p = 0; p < count; ++p) {
      CHECK(out.sides[static_cast<std::size_t>(p)] * z(p) > -1e-10);
      gain += field.sign * (field.off(p) * z(p) + field.jumps(p) * std::max(z(p), 0.0));
    }
    CHECK_CLOSE(gain, out.speed * out.speed, 1e-9);
  }
  CHECK(found > 200);
  CHECK(steepest > 0.98 * found);
}

// Neurons that share two support vectors: their margins stay, the balance of each neuron stays, and
// the series is that of its own derivatives.
TEST(a_series_keeps_the_margins_of_support_vectors) {
  Random random(5);
  const Index m = 6, d = 4, held = 2;
  RowMatrix<double> x(held, d), V(m, d), w(m, d);
  HingePiece piece;
  piece.a.resize(m);
  piece.gates.resize(m, held);
  for (Index j = 0; j < m; ++j) {
    piece.a(j) = random.uniform();
    for (Index b = 0; b < held; ++b) piece.gates(j, b) = random.uniform() > 0 ? 0.3 : 0.1;
    for (Index k = 0; k < d; ++k) {
      V(j, k) = random.uniform();
      w(j, k) = random.uniform();
    }
  }
  for (Index b = 0; b < held; ++b)
    for (Index k = 0; k < d; ++k) x(b, k) = random.uniform();
  piece.gram = x * x.transpose();
  piece.y0 = V.cwiseProduct(w).rowwise().sum();
  piece.N00 = V.rowwise().squaredNorm();
  piece.N0 = (V * x.transpose()).cwiseProduct(piece.gates);
  piece.y = (w * x.transpose()).cwiseProduct(piece.gates);
  HingeSeries series;
  const double reach = series.expand(piece, Vector<double>::Ones(m), 0.5);
  CHECK(reach > 0);
  const auto margins = [&](double tau) {
    const RowMatrix<double> moved =
        w + series.A_at(tau).asDiagonal() * V + series.B_at(tau).cwiseProduct(piece.gates) * x;
    const Vector<double> a = series.a_at(tau);
    for (Index j = 0; j < m; ++j)
      CHECK_CLOSE(a(j) * a(j) - moved.row(j).squaredNorm(),
                  piece.a(j) * piece.a(j) - w.row(j).squaredNorm(), 1e-13);
    return Vector<double>((moved * x.transpose()).cwiseProduct(piece.gates).transpose() * a);
  };
  const Vector<double> start = margins(0), end = margins(reach);
  for (Index b = 0; b < held; ++b) CHECK_CLOSE(end(b), start(b), 1e-13);
  CHECK((series.eta_at(reach) - series.eta_at(0)).norm() > 1e-3 * reach);
}

namespace {

ObjectiveSpec hinge() {
  ObjectiveSpec spec;
  spec.loss = Loss::hinge;
  return spec;
}

struct Ended {
  FlowStatus status = FlowStatus::interrupted;
  double time = 0;
  std::vector<double> W, a;
  std::vector<FlowEvent> events;
  std::int64_t steps = 0;
};

Ended follow(const Problem<double>& p, double end, int threads = 1, double slope = 0,
             const HingeFlowOptions& how = {},
             std::int64_t max_steps = std::numeric_limits<std::int64_t>::max()) {
  const std::vector<Objective<double>> objectives = {Objective<double>(hinge(), p.split())};
  HingeFlow<double> stepper(p.net(), {ActivationKind::homogeneous, slope}, objectives.front(), how);
  std::vector<double> balances;
  for (Index j = 0; j < p.m; ++j) balances.push_back(balance(p.net(), j));
  std::int64_t row = 0;
  Recorder<double> recorder({}, {}, &row);
  FlowOptions options;
  options.end = end;
  options.max_steps = max_steps;
  options.max_events = 1 << 20;
  FlowTrace<double> trace;
  const std::vector<double> times;
  const auto frame = whole_frame<double>(p, {ActivationKind::homogeneous, slope});
  FlowRun<double> flow(stepper, *frame, objectives, balances.data(), times, options, recorder,
                       trace);
  Monitor monitor;
  Team(threads, monitor).together([&](const Team& team) { flow(team); });
  CHECK(trace.outcome.drift < 1e-12);
  return {trace.outcome.status, trace.outcome.time,           trace.W, trace.a,
          trace.events,         trace.outcome.counts.accepted};
}

}  // namespace

// u = P^2 exp(2 kappa s) - M^2 exp(-2 kappa s) over kappa, and t = s.
TEST(one_neuron_on_one_sample_reaches_its_margin_in_time) {
  const double kappa = 1.3, y = 0.2, z = -0.1;
  const Problem<double> p{1, 2, 1, {kappa, 0}, {1}, {1}, {y / kappa, 0.4}, {z}};
  const Ended end = follow(p, 100);
  CHECK(end.status == FlowStatus::stationary);
  const double P = (y + kappa * z) / 2, M = (y - kappa * z) / 2;
  const double A = P * P, B = M * M;
  const double X = (kappa + std::sqrt(kappa * kappa + 4 * A * B)) / (2 * A);
  CHECK_CLOSE(end.time, std::log(X) / (2 * kappa), 1e-12);
  CHECK_CLOSE(end.a[0] * end.W[0] * kappa, 1, 1e-13);
  CHECK(end.W[1] == 0.4);
  CHECK(end.events.size() == 1 && end.events[0].neuron == -1 &&
        end.events[0].kind == EventKind::off);
}

TEST(margins_are_reached_or_nothing_moves) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const Problem<double> p = random_problem<double>(9, 4, 12, seed);
    const Ended end = follow(p, 1e4, 1, seed % 2 == 0 ? 0.2 : 0.0);
    CHECK(end.status == FlowStatus::stationary);
  }
}

TEST(hinge_bits_do_not_depend_on_threads) {
  const Problem<double> p = random_problem<double>(40, 6, 100);
  const Ended one = follow(p, 2);
  CHECK(one.events.size() > 20);
  for (const int threads : {2, 3, 5}) {
    const Ended other = follow(p, 2, threads);
    CHECK(same_bits(other.W, one.W));
    CHECK(same_bits(other.a, one.a));
    CHECK(other.time == one.time);
    CHECK(other.events.size() == one.events.size());
  }
}

namespace {

// That it stopped after some steps, and stands where it would have been told to after as many.
void check_underflow(const Problem<double>& p, const HingeFlowOptions& how, double slope = 0) {
  const Ended stopped = follow(p, 100, 1, slope, how);
  CHECK(stopped.status == FlowStatus::step_underflow);
  CHECK(stopped.steps > 0);
  const Ended told = follow(p, 100, 1, slope, {}, stopped.steps);
  CHECK(told.status == FlowStatus::max_steps);
  CHECK(same_bits(stopped.W, told.W));
  CHECK(same_bits(stopped.a, told.a));
  CHECK(stopped.time == told.time);
  CHECK(stopped.events.size() == told.events.size());
}

}  // namespace

TEST(steps_that_lead_nowhere_are_an_underflow_and_nothing_is_lost) {
  HingeFlowOptions how;
  how.stalls = 0;
  how.shortest = 4e-5;  // some events are closer than 4 % of the unit
  check_underflow(random_problem<double>(12, 4, 9, 3), how);
}

TEST(a_choice_that_comes_to_no_end_is_an_underflow_and_nothing_is_lost) {
  HingeFlowOptions how;
  how.rounds = 0;  // of the first sample that comes to its margin
  check_underflow(random_problem<double>(12, 4, 9, 3), how);
  // at the start: the margin is 1
  const Problem<double> p{1, 2, 1, {1, 0}, {1}, {1}, {1, 0.5}, {1}};
  const Ended end = follow(p, 1, 1, 0, how);
  CHECK(end.status == FlowStatus::step_underflow);
  CHECK(end.steps == 0 && end.time == 0);
  CHECK(same_bits(end.W, p.W));
  CHECK(follow(p, 1).status == FlowStatus::stationary);
}

// Small whole numbers: neurons on hyperplanes and at 0, heads of 0, margins of exactly 1.
TEST(ties_are_settled_in_few_rounds) {
  Random random(7);
  HingeFlowOptions how;
  how.rounds = 4;
  for (int problem = 0; problem < 300; ++problem) {
    const Index n = random.integer(1, 12), d = random.integer(1, 5), m = random.integer(1, 12);
    Problem<double> p{n, d, m, {}, {}, {}, {}, {}};
    const auto fill = [&](std::vector<double>& to, Index count) {
      for (Index k = 0; k < count; ++k) to.push_back(static_cast<double>(random.integer(-1, 1)));
    };
    fill(p.x, n * d);
    fill(p.W, m * d);
    fill(p.a, m);
    for (Index i = 0; i < n; ++i) p.y.push_back(random.uniform() > 0 ? 1 : -1);
    const Ended end = follow(p, 1e5, 1, problem % 3 == 0 ? 0.5 : 0.0, how);
    CHECK(end.status == FlowStatus::stationary);
  }
}

// A network whose squares underflow moves as one that is larger does.
TEST(a_scale_whose_square_underflows_is_no_rest) {
  Problem<double> p = random_problem<double>(9, 4, 6, 2);
  for (double& w : p.W) w = std::ldexp(w, -600);
  for (double& a : p.a) a = std::ldexp(a, -600);
  const Ended end = follow(p, 1e5);
  CHECK(end.time > 100);
  CHECK(end.events.size() > 5);
}

TEST(what_the_hinge_flow_cannot_follow_is_refused) {
  const Problem<double> p = random_problem<double>(5, 2, 3);
  const auto make = [&](ObjectiveSpec spec, Activation activation) {
    const Objective<double> objective(spec, p.split());
    HingeFlow<double>(p.net(), activation, objective, {});
  };
  const Activation relu{ActivationKind::homogeneous, 0};
  ObjectiveSpec decaying = hinge(), penalised = hinge();
  decaying.weight_decay = 0.1;
  penalised.output_penalty = 0.1;
  CHECK_THROWS(std::invalid_argument, make(ObjectiveSpec(), relu));
  CHECK_THROWS(std::invalid_argument, make(decaying, relu));
  CHECK_THROWS(std::invalid_argument, make(penalised, relu));
  CHECK_THROWS(std::invalid_argument, make(hinge(), {ActivationKind::tanh, 0}));
}
