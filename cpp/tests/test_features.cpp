#include <cmath>
#include <functional>
#include <limits>

#include "check.hpp"
#include "featcore/banded_form.hpp"
#include "featcore/features.hpp"
#include "featcore/gradient.hpp"
#include "featcore/second_moments.hpp"
#include "problem.hpp"

using namespace featcore;
using featcore::testing::at;
using featcore::testing::Problem;
using featcore::testing::random_problem;
using featcore::testing::same_bits;

namespace {

Monitor monitor;
const double kSeries[] = {0.5, 1, -0.25, 0.125};

struct Case {
  Activation activation;
  std::function<double(double)> value;
  std::function<double(double)> derivative;
};

double series(double z) { return 0.5 + z - 0.25 * (z * z - 1) + 0.125 * (z * z * z - 3 * z); }

const std::vector<Case>& cases() {
  constexpr double kOffset = 0.25;
  const auto relu = [](double z) { return z > 0 ? z : 0; };
  const auto step = [](double z) { return z > 0 ? 1.0 : 0.0; };
  Activation centred_relu{ActivationKind::homogeneous, 0};
  centred_relu.offset = kOffset;
  Activation centred_tanh{ActivationKind::tanh, 0};
  centred_tanh.offset = kOffset;
  static const std::vector<Case> all = {
      {{ActivationKind::homogeneous, 0}, relu, step},
      {centred_relu, [=](double z) { return relu(z) - kOffset; }, step},
      {centred_tanh, [](double z) { return std::tanh(z) - kOffset; },
       [](double z) { return 1 / (std::cosh(z) * std::cosh(z)); }},
      {{ActivationKind::erf, 0},
       [](double z) { return std::erf(z); },
       [](double z) { return 2 / std::sqrt(std::acos(-1.0)) * std::exp(-z * z); }},
      {hermite_activation(kSeries, 4), series,
       [](double z) { return 1 - 0.5 * z + 0.375 * (z * z - 1); }},
  };
  return all;
}

struct Shape {
  Index n, d, m;
};
const std::vector<Shape> kShapes = {{1, 1, 1},   {7, 3, 5},    {97, 20, 65},   {30, 600, 40},
                                    {40, 2, 33}, {61, 9, 130}, {13, 2500, 66}, {20, 1030, 200}};

template <class T>
std::vector<double> pre_activations(const Problem<T>& p) {
  std::vector<double> z(at(p.n * p.m));
  for (Index i = 0; i < p.n; ++i)
    for (Index j = 0; j < p.m; ++j)
      for (Index k = 0; k < p.d; ++k)
        z[at(i * p.m + j)] +=
            static_cast<double>(p.x[at(i * p.d + k)]) * static_cast<double>(p.W[at(j * p.d + k)]);
  return z;
}

template <class T>
void features_agree(double tolerance) {
  for (const Shape& s : kShapes)
    for (const Case& c : cases()) {
      Problem<T> p = random_problem<T>(s.n, s.d, s.m);
      for (T& w : p.W) w /= static_cast<T>(std::sqrt(static_cast<double>(s.d)));
      std::vector<double> want = pre_activations(p);
      for (double& z : want) z = c.value(z);
      std::vector<T> got(want.size());
      network_features(p.net(), c.activation, p.n, p.x.data(), Team(1, monitor), got.data());
      CHECK_CLOSE(featcore::testing::error(got, want), 0, tolerance);
      for (const int threads : {2, 5}) {
        std::vector<T> again(want.size());
        network_features(p.net(), c.activation, p.n, p.x.data(), Team(threads, monitor),
                         again.data());
        CHECK(same_bits(got, again));
      }
    }
}

template <class T>
void steps_agree(double tolerance) {
  constexpr double kStep = 0.5;
  std::vector<Shape> shapes = kShapes;
  shapes.push_back({150, 300, 1020});  // several tiles of samples and several chunks of neurons
  for (const Shape& s : shapes)
    for (const Case& c : cases())
      for (const bool full : {false, true}) {
        Problem<T> p = random_problem<T>(s.n, s.d, s.m);
        for (T& w : p.W) w /= static_cast<T>(std::sqrt(static_cast<double>(s.d)));
        const std::vector<double> z = pre_activations(p);
        double total = 0;
        for (const T w : p.weights) total += static_cast<double>(w);
        std::vector<double> want(p.W.begin(), p.W.end());
        for (Index i = 0; i < p.n; ++i) {
          double r = static_cast<double>(p.y[at(i)]);
          for (Index j = 0; full && j < p.m; ++j)
            r -= static_cast<double>(p.a[at(j)]) * c.value(z[at(i * p.m + j)]);
          r *= static_cast<double>(p.weights[at(i)]) / total;
          for (Index j = 0; j < p.m; ++j)
            for (Index k = 0; k < p.d; ++k)
              want[at(j * p.d + k)] += kStep * r * static_cast<double>(p.a[at(j)]) *
                                       c.derivative(z[at(i * p.m + j)]) *
                                       static_cast<double>(p.x[at(i * p.d + k)]);
        }
        std::vector<T> got(want.size());
        first_layer_step(p.net(), c.activation, p.weighted(), full, kStep, Team(2, monitor),
                         got.data());
        CHECK_CLOSE(featcore::testing::error(got, want), 0, tolerance);
        for (const int threads : {1, 3, 5}) {
          std::vector<T> again(want.size());
          first_layer_step(p.net(), c.activation, p.weighted(), full, kStep, Team(threads, monitor),
                           again.data());
          CHECK(same_bits(got, again));
        }
      }
}

template <class T>
void transcendentals_agree(T most, double roundings) {
  const auto check = [&](Activation activation, T z, double value, double derivative) {
    T got = 0;
    T slope = 0;
    activate<T>(activation, &z, &got, &slope, 1);
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    CHECK_CLOSE(static_cast<double>(got), value, roundings * eps * std::abs(value));
    CHECK_CLOSE(static_cast<double>(slope), derivative, roundings * eps);
  };
  for (int k = -4000; k <= 4000; ++k) {
    const T z = most * static_cast<T>(k) / 4000;
    const double exact = static_cast<double>(z);
    const double t = std::tanh(exact);
    check({ActivationKind::tanh, 0}, z, t, (1 - t) * (1 + t));
    check({ActivationKind::erf, 0}, z, std::erf(exact),
          2 / std::sqrt(std::acos(-1.0)) * std::exp(-exact * exact));
  }
}

}  // namespace

TEST(features_agree_with_a_plain_loop_on_any_number_of_threads) {
  features_agree<double>(1e-13);
  features_agree<float>(2e-5);
}

TEST(a_step_on_the_first_layer_agrees_with_a_plain_loop) {
  steps_agree<double>(1e-13);
  steps_agree<float>(2e-5);
}

TEST(tanh_and_erf_are_right_to_three_roundings) {
  transcendentals_agree<double>(25, 3);
  transcendentals_agree<float>(12, 3);
}

TEST(limits_and_what_is_not_a_number_stay_so) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double z[] = {kInfinity, -kInfinity, 1e300, std::nan("")};
  for (const ActivationKind kind : {ActivationKind::tanh, ActivationKind::erf}) {
    double value[4] = {};
    activate<double>({kind, 0}, z, value, nullptr, 4);
    CHECK(value[0] == 1);
    CHECK(value[1] == -1);
    CHECK(value[2] == 1);
    CHECK(std::isnan(value[3]));
  }
}

TEST(values_and_derivatives_may_be_written_over_their_argument) {
  for (const Case& c : cases()) {
    std::vector<double> z(100);
    for (Index i = 0; i < 100; ++i) z[at(i)] = 0.07 * static_cast<double>(i) - 3.3;
    std::vector<double> value(100), derivative = z, in_place = z;
    activate<double>(c.activation, derivative.data(), value.data(), derivative.data(), 100);
    activate<double>(c.activation, in_place.data(), in_place.data(), nullptr, 100);
    for (Index i = 0; i < 100; ++i) {
      const double offset = c.activation.offset;
      CHECK_CLOSE(value[at(i)] - offset, c.value(z[at(i)]), 1e-13);
      CHECK_CLOSE(derivative[at(i)], c.derivative(z[at(i)]), 1e-13);
      CHECK_CLOSE(in_place[at(i)] - offset, c.value(z[at(i)]), 1e-13);
    }
  }
}

TEST(second_moments_agree_with_a_plain_loop) {
  for (const Shape& s : kShapes) {
    const Problem<float> p = random_problem<float>(s.n, s.d, 1);
    for (const bool of_columns : {true, false}) {
      const Index size = of_columns ? s.d : s.n;
      std::vector<double> want(at(size * size));
      for (Index i = 0; i < s.n; ++i)
        for (Index k = 0; k < s.d; ++k)
          for (Index other = 0; other < size; ++other) {
            const Index self = of_columns ? k : i;
            const Index there = of_columns ? i * s.d + other : other * s.d + k;
            want[at(self * size + other)] +=
                static_cast<double>(p.x[at(i * s.d + k)]) * static_cast<double>(p.x[at(there)]);
          }
      std::vector<double> got(want.size());
      second_moments(s.n, s.d, p.x.data(), of_columns, Team(2, monitor), got.data());
      CHECK_CLOSE(featcore::testing::error(got, want), 0, 1e-13);
    }
  }
}

// Stages know beforehand what the calling thread will tell of its work: alone it gets to the end.
template <class T>
static void progress_ends_at_one() {
  const auto at_the_end = [](auto&& body) {
    Monitor told;
    CHECK(told.fraction() == 0);
    body(Team(1, told));
    return told.fraction();
  };
  for (const Shape& s : {Shape{600, 130, 400}, Shape{1111, 97, 333}, Shape{4000, 12, 900}}) {
    const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
    std::vector<T> W(p.W.size()), F(at(s.n * s.m));
    std::vector<double> G(at(s.m * s.m)), x(at(s.m), 1.0);
    for (const Activation activation :
         {activation_by_name("relu", 0), activation_by_name("leaky_relu", 0.3),
          activation_by_name("tanh", 0)}) {
      for (const bool full : {false, true})
        CHECK_CLOSE(at_the_end([&](const Team& team) {
                      first_layer_step(p.net(), activation, p.split(), full, 1.0, team, W.data());
                    }),
                    0.96, 0.05);
      CHECK_CLOSE(at_the_end([&](const Team& team) {
                    network_features(p.net(), activation, s.n, p.x.data(), team, F.data());
                  }),
                  0.96, 0.05);
    }
    CHECK_CLOSE(at_the_end([&](const Team& team) {
                  second_moments(s.n, s.m, F.data(), true, team, G.data());
                }),
                0.96, 0.05);
    const double shift = static_cast<double>(s.n);
    CHECK_CLOSE(at_the_end([&](const Team& team) {
                  BandedForm(s.m, G.data(), team).solve(1, &shift, x.data(), team, x.data());
                }),
                0.9, 0.1);
  }
}

TEST(progress_is_told_to_the_end) {
  progress_ends_at_one<double>();
  progress_ends_at_one<float>();
}

TEST(an_empty_series_is_refused) {
  CHECK_THROWS(std::invalid_argument, hermite_activation(kSeries, 0));
}
