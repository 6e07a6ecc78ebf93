#include "check.hpp"
#include "featcore/objective.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

static Monitor monitor;
static const Team alone(1, monitor);

static const std::vector<Loss> kLosses = {Loss::logistic, Loss::exponential, Loss::hinge,
                                          Loss::squared};

static double textbook(Loss loss, double f, double y) {
  switch (loss) {
    case Loss::logistic:
      return std::log(1 + std::exp(-y * f));
    case Loss::exponential:
      return std::exp(-y * f);
    case Loss::hinge:
      return std::max(0.0, 1 - y * f);
    case Loss::squared:
      return 0.5 * (f - y) * (f - y);
  }
  return 0;
}

TEST(losses_are_those_of_the_textbook) {
  for (const Loss loss : kLosses)
    for (const double y : {-1.0, 1.0})
      for (double f = -6; f <= 6; f += 0.37) {
        const double want = textbook(loss, f, y);
        CHECK_CLOSE(loss_value(loss, f, y), want, 1e-15 * (1 + want));
        if (want > 0) CHECK_CLOSE(log_loss_value(loss, f, y), std::log(want), 1e-13);
      }
}

TEST(residuals_are_minus_the_derivative) {
  constexpr double h = 1e-6;
  for (const Loss loss : kLosses)
    for (const double y : {-1.0, 1.0})
      for (double f = -5.03; f <= 5; f += 0.37) {
        const double slope = (loss_value(loss, f + h, y) - loss_value(loss, f - h, y)) / (2 * h);
        CHECK_CLOSE(residual(loss, f, y), -slope, 1e-7 * (1 + std::abs(slope)));
      }
}

TEST(losses_survive_extreme_outputs) {
  CHECK(loss_value(Loss::logistic, 1e4, 1) == 0);
  CHECK(loss_value(Loss::logistic, -1e4, 1) == 1e4);
  CHECK(residual(Loss::logistic, -1e4, 1.0) == 1);
  CHECK(residual(Loss::logistic, 1e4f, 1.0f) == 0);
  CHECK(log_loss_value(Loss::logistic, 1e4, 1) == -1e4);
  CHECK(log_loss_value(Loss::exponential, 1e4, 1) == -1e4);
  CHECK_CLOSE(log_loss_value(Loss::logistic, 36.9, 1),
              log_loss_value(Loss::logistic, 37.1, 1) + 0.2, 1e-12);
  for (const Loss loss : kLosses) CHECK(std::isnan(loss_value(loss, std::nan(""), 1)));
}

// To two roundings, and to half of the smallest number where residuals are no normal numbers.
template <class T>
static void logistic_residuals_are_right(T most) {
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double smallest = static_cast<double>(std::numeric_limits<T>::denorm_min());
  for (int k = -5000; k <= 5000; ++k) {
    const T u = most * static_cast<T>(k) / 5000;
    const long double tail = std::exp(-std::abs(static_cast<long double>(u)));
    const double want = static_cast<double>((u > 0 ? tail : 1) / (1 + tail));
    for (const T y : {T(1), T(-1)})
      CHECK_CLOSE(static_cast<double>(y * residual(Loss::logistic, y * u, y)), want,
                  2.5 * eps * want + 0.6 * smallest);
  }
  CHECK(std::isnan(residual(Loss::logistic, std::numeric_limits<T>::quiet_NaN(), T(1))));
  CHECK(residual(Loss::logistic, std::numeric_limits<T>::infinity(), T(1)) == 0);
  CHECK(residual(Loss::logistic, -std::numeric_limits<T>::infinity(), T(1)) == 1);
}

TEST(logistic_residuals_are_right_to_the_smallest_numbers) {
  logistic_residuals_are_right<double>(760);
  logistic_residuals_are_right<float>(110);
}

// sum_i c_i l_i + (mu/2) sum_i p_i f_i^2, as objective.hpp states it.
template <class T>
static double stated(const ObjectiveSpec& spec, const Problem<T>& p, const std::vector<double>& f,
                     bool weighted) {
  double total = 0, loss = 0, squares = 0;
  for (Index i = 0; i < p.n; ++i) {
    const double w = weighted ? static_cast<double>(p.weights[at(i)]) : 1;
    total += w;
    loss += w * textbook(spec.loss, f[at(i)], static_cast<double>(p.y[at(i)]));
    squares += w * f[at(i)] * f[at(i)];
  }
  return (spec.mean ? loss / total : loss) + 0.5 * spec.output_penalty * squares / total;
}

template <class T>
static void objective_is_as_stated(double tolerance) {
  const Problem<T> p = random_problem<T>(23, 2, 3);
  Random random(4);
  std::vector<double> f(at(p.n));
  for (double& value : f) value = static_cast<double>(static_cast<T>(2 * random.uniform()));
  const std::vector<T> outputs(f.begin(), f.end());
  for (const Loss loss : kLosses)
    for (const bool mean : {true, false})
      for (const bool weighted : {true, false})
        for (const double mu : {0.0, 0.3}) {
          const ObjectiveSpec spec{loss, mean, 0, mu};
          const Objective<T> objective(spec, weighted ? p.weighted() : p.split());
          const double want = stated(spec, p, f, weighted);
          const double got =
              objective.loss(outputs.data(), alone) + objective.output_penalty(outputs.data());
          CHECK_CLOSE(got, want, 1e-14 * want);
          CHECK_CLOSE(objective.log_loss(outputs.data(), alone),
                      std::log(objective.loss(outputs.data(), alone)), 1e-13);
          std::vector<T> r(at(p.n));
          objective.residuals(0, 10, outputs.data(), r.data());  // in two parts, as blocks do
          objective.residuals(10, p.n, outputs.data(), r.data());
          for (Index i = 0; i < p.n; ++i) {
            constexpr double h = 1e-5;
            std::vector<double> up = f, down = f;
            up[at(i)] += h;
            down[at(i)] -= h;
            const double slope =
                (stated(spec, p, up, weighted) - stated(spec, p, down, weighted)) / (2 * h);
            CHECK_CLOSE(r[at(i)], -slope, tolerance * (1 + std::abs(slope)));
          }
        }
}

TEST(the_objective_and_its_residuals_are_as_stated) {
  objective_is_as_stated<double>(1e-8);
  objective_is_as_stated<float>(1e-6);
}

TEST(a_loss_tells_the_margin) {
  for (const Loss loss : {Loss::logistic, Loss::exponential})
    for (const double u : {-1e4, -50.0, -1.0, -1e-3, 0.0, 0.3, 2.0, 36.9, 37.1, 700.0, 1e4})
      CHECK_CLOSE(margin_of_log_loss(loss, log_loss_value(loss, u, 1)), u,
                  1e-14 * std::max(1.0, std::abs(u)));
  for (const Loss loss : {Loss::hinge, Loss::squared})
    CHECK_THROWS(std::invalid_argument, margin_of_log_loss(loss, -1));
}

TEST(log_loss_is_right_where_the_loss_underflows) {
  const std::vector<double> x(3), y = {1, 1, 1}, f = {1000, 1001, 1002};
  const Objective<double> objective({Loss::exponential, true, 0, 0},
                                    {3, 1, x.data(), y.data(), nullptr, nullptr});
  CHECK(objective.loss(f.data(), alone) == 0);
  const double want = -1000 + std::log((1 + std::exp(-1.0) + std::exp(-2.0)) / 3);
  CHECK_CLOSE(objective.log_loss(f.data(), alone), want, 1e-12);
}

TEST(a_sample_of_weight_zero_is_not_there) {
  const std::vector<double> x(2), y = {1, 1}, weights = {2, 0}, f = {0.5, -1e4};  // exp(1e4) = inf
  const Objective<double> objective({Loss::exponential, true, 0, 0},
                                    {2, 1, x.data(), y.data(), nullptr, weights.data()});
  CHECK_CLOSE(objective.loss(f.data(), alone), std::exp(-0.5), 1e-15);
  CHECK_CLOSE(objective.log_loss(f.data(), alone), -0.5, 1e-15);
  std::vector<double> r(2);
  objective.residuals(0, 2, f.data(), r.data());
  CHECK_CLOSE(r[0], std::exp(-0.5), 1e-15);
  CHECK(r[1] == 0);
}

TEST(splits_without_weight_are_refused) {
  const std::vector<double> x(2), y = {1, 1}, zero = {0, 0};
  const ObjectiveSpec spec;
  CHECK_THROWS(std::invalid_argument,
               Objective<double>(spec, {0, 1, x.data(), y.data(), nullptr, nullptr}));
  CHECK_THROWS(std::invalid_argument,
               Objective<double>(spec, {2, 1, x.data(), y.data(), nullptr, zero.data()}));
  CHECK_THROWS(std::invalid_argument, loss_by_name("absolute"));
  CHECK_THROWS(std::invalid_argument, activation_by_name("sigmoid", 0));
}
