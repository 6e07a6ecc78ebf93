#include <set>

#include "check.hpp"
#include "featcore/form.hpp"
#include "featcore/observables.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

// A network with its splits evaluated, and one observable of it.
template <class T>
class Observed {
 public:
  explicit Observed(const Problem<T>& p, const Named& activation = {"relu", 0}) : p_(p) {
    for (Index j = 0; j < p.m; ++j)
      balance_.push_back(balance(p.net(), j) - 0.01 * static_cast<double>(j));
    clean_y = p.y;
    clean_y[1] = -clean_y[1];
    SplitView<T> split = p.weighted();
    split.clean_y = clean_y.data();
    const Activation which = activation_by_name(activation.name, activation.slope);
    Monitor monitor;
    form_ = choose_form<T>("primal", p.net(), which, {split, p.split()}, true, nullptr,
                           Team(1, monitor), [](const std::string&, double) {})
                .form;
    objectives_ = {Objective<T>(spec, split), Objective<T>(spec, p.split())};
  }

  std::vector<double> operator()(const std::string& name, Index size,
                                 ObservableRequest request = {}, Index split = 0) {
    Monitor monitor;
    const Team team(2, monitor);
    Snapshot<T> snapshot;
    snapshot.weights = &form_->weights();
    snapshot.balance = balance_.data();
    for (Index k = 0; k < 2; ++k)
      snapshot.splits.push_back(
          {&objectives_[at(k)], form_->outputs(k, team), form_->signs(k, team)});
    std::vector<double> out(at(size), -7);
    request.name = name;
    find_observable<T>(name).evaluate(snapshot, request, split, team, out.data());
    return out;
  }

  double number(const std::string& name, Index split = 0) { return (*this)(name, 1, {}, split)[0]; }

  const ObjectiveSpec spec{Loss::logistic, true, 0.02, 0.1};
  std::vector<T> clean_y;

 private:
  const Problem<T>& p_;
  std::vector<double> balance_;
  std::unique_ptr<Form<T>> form_;
  std::vector<Objective<T>> objectives_;
};

static double norm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

template <class T>
static std::vector<double> row(const std::vector<T>& matrix, Index j, Index d) {
  const auto first = matrix.begin() + j * d;
  return std::vector<double>(first, first + d);
}

static double cosine(const std::vector<double>& v, const std::vector<double>& w) {
  double dot = 0;
  for (std::size_t k = 0; k < v.size(); ++k) dot += v[k] * w[k];
  return dot / (norm(v) * norm(w));
}

template <class T>
static void scalars_of_outputs(double tolerance) {
  const Problem<T> p = random_problem<T>(40, 3, 11);
  Observed<T> observed(p);
  const Naive naive(p, {"relu", 0}, p.y);
  for (const Index split : {0, 1}) {
    double total = 0, loss = 0, right = 0, clean_right = 0, squares = 0, least = 1e300;
    for (Index i = 0; i < p.n; ++i) {
      const double w = split == 0 ? static_cast<double>(p.weights[at(i)]) : 1;
      const double u = naive.f[at(i)] * static_cast<double>(p.y[at(i)]);
      total += w;
      loss += w * std::log1p(std::exp(-u));
      squares += w * naive.f[at(i)] * naive.f[at(i)];
      if (u > 0) right += w;
      if (naive.f[at(i)] * static_cast<double>(observed.clean_y[at(i)]) > 0) clean_right += w;
      least = std::min(least, u);
    }
    const std::vector<double> W(p.W.begin(), p.W.end()), a(p.a.begin(), p.a.end());
    const double square_norm = norm(W) * norm(W) + norm(a) * norm(a);
    CHECK_CLOSE(observed.number("loss", split), loss / total, tolerance);
    CHECK_CLOSE(observed.number("log_loss", split), std::log(loss / total), tolerance);
    CHECK_CLOSE(observed.number("accuracy", split), right / total, 1e-15);
    CHECK_CLOSE(observed.number("margin", split), least, tolerance);
    CHECK_CLOSE(observed.number("normalised_margin", split), least / square_norm, tolerance);
    CHECK_CLOSE(observed.number("smoothed_margin", split),
                -std::log(std::expm1(loss)) / square_norm, tolerance);
    if (split == 0) {
      CHECK_CLOSE(observed.number("clean_accuracy"), clean_right / total, 1e-15);
      CHECK_CLOSE(observed.number("objective"),
                  loss / total + 0.05 * squares / total + 0.01 * square_norm, tolerance);
      const std::vector<double> margins = observed("margins", p.n);
      for (Index i = 0; i < p.n; ++i)
        CHECK_CLOSE(margins[at(i)], naive.f[at(i)] * static_cast<double>(p.y[at(i)]), tolerance);
    }
  }
}

TEST(scalars_of_outputs_agree_with_a_plain_loop) {
  scalars_of_outputs<double>(1e-14);
  scalars_of_outputs<float>(1e-5);
}

TEST(an_output_of_zero_is_wrong) {
  Problem<double> p = random_problem<double>(10, 2, 3);
  for (double& a : p.a) a = 0;
  CHECK(Observed<double>(p).number("accuracy") == 0);
}

TEST(norms_and_heads) {
  const Problem<float> p = random_problem<float>(10, 3, 7);
  Observed<float> observed(p);
  const std::vector<double> norms = observed("norms", p.m), head = observed("head", p.m);
  for (Index j = 0; j < p.m; ++j) {
    CHECK_CLOSE(norms[at(j)], norm(row(p.W, j, p.d)), 1e-15);
    CHECK(head[at(j)] == static_cast<double>(p.a[at(j)]));
  }
}

TEST(norms_of_tiny_weights_do_not_underflow) {
  Problem<double> p = random_problem<double>(10, 2, 2);
  p.W = {3e-200, 4e-200, 0, 0};
  const std::vector<double> norms = Observed<double>(p)("norms", 2);
  CHECK_CLOSE(norms[0] / 5e-200, 1, 1e-15);
  CHECK(norms[1] == 0);
}

template <class T>
static void cosines_and_alignment(double tolerance) {
  const Problem<T> p = random_problem<T>(10, 5, 100);
  Observed<T> observed(p);
  Random random(3);
  std::vector<double> directions(at(2 * p.d));
  for (double& value : directions) value = random.uniform();
  for (const bool absolute : {false, true}) {
    ObservableRequest request;
    request.directions = directions.data();
    request.direction_count = 2;
    request.absolute = absolute;
    const auto maybe_abs = [&](double c) { return absolute ? std::abs(c) : c; };
    const std::vector<double> cosines = observed("cosines", p.m * 2, request);
    const std::vector<double> alignment = observed("alignment", 2 * 2 * 4, request);
    for (Index q = 0; q < 2; ++q) {
      const std::vector<double> v = row(directions, q, p.d);
      for (const Index sign : {0, 1}) {
        double sum = 0, least = 2, most = -2, members = 0;
        std::vector<double> mean(at(p.d));
        for (Index j = 0; j < p.m; ++j) {
          const std::vector<double> w = row(p.W, j, p.d);
          const double c = maybe_abs(cosine(w, v));
          CHECK_CLOSE(cosines[at(j * 2 + q)], c, tolerance);
          if ((p.a[at(j)] > 0) != (sign == 0)) continue;
          ++members;
          sum += c;
          least = std::min(least, c);
          most = std::max(most, c);
          for (Index k = 0; k < p.d; ++k) mean[at(k)] += w[at(k)];
        }
        const double* got = &alignment[at((q * 2 + sign) * 4)];
        CHECK_CLOSE(got[0], sum / members, tolerance);
        CHECK_CLOSE(got[1], least, tolerance);
        CHECK_CLOSE(got[2], most, tolerance);
        CHECK_CLOSE(got[3], maybe_abs(cosine(mean, v)), tolerance);
      }
    }
  }
}

TEST(cosines_and_alignment_agree_with_a_plain_loop) {
  cosines_and_alignment<double>(1e-14);
  cosines_and_alignment<float>(1e-14);
}

TEST(a_sign_without_neurons_has_no_alignment) {
  Problem<double> p = random_problem<double>(10, 2, 3);
  for (double& a : p.a) a = std::abs(a);
  ObservableRequest request;
  const std::vector<double> direction = {1, 0};
  request.directions = direction.data();
  request.direction_count = 1;
  const std::vector<double> got = Observed<double>(p)("alignment", 8, request);
  for (Index k = 0; k < 4; ++k) CHECK(std::isfinite(got[at(k)]) && std::isnan(got[at(4 + k)]));
}

template <class T>
static void patterns_and_dead() {
  // 2 samples in the plane cut it into at most 4 cells; with many neurons each pattern occurs.
  for (const Index n : {2, 30, 600}) {
    Problem<T> p = integer_problem<T>(n, 2, 90);
    p.W[0] = p.W[1] = 0;  // never active
    std::set<std::vector<bool>> patterns;
    Index dead = 0;
    for (Index j = 0; j < p.m; ++j) {
      std::vector<bool> pattern;
      for (Index i = 0; i < n; ++i)
        pattern.push_back(
            p.W[at(2 * j)] * p.x[at(2 * i)] + p.W[at(2 * j + 1)] * p.x[at(2 * i + 1)] > 0);
      dead += pattern == std::vector<bool>(at(n));
      patterns.insert(pattern);
    }
    Observed<T> observed(p);
    for (const Index split : {0, 1}) {
      CHECK(observed.number("patterns", split) == static_cast<double>(patterns.size()));
      CHECK(observed.number("dead", split) == static_cast<double>(dead));
    }
  }
}

TEST(patterns_and_dead_neurons_are_counted) {
  patterns_and_dead<double>();
  patterns_and_dead<float>();
}

TEST(spectra_and_drift) {
  Problem<double> p = random_problem<double>(10, 2, 3);
  p.W = {3, 0, 0, 4, 0, 0};  // singular values 4 and 3
  Observed<double> observed(p);
  CHECK_CLOSE(observed.number("stable_rank"), 25.0 / 16, 1e-14);
  ObservableRequest request;
  request.count = 3;
  const std::vector<double> values = observed("singular_values", 3, request);
  CHECK_CLOSE(values[0], 4, 1e-14);
  CHECK_CLOSE(values[1], 3, 1e-14);
  CHECK(values[2] == 0);
  CHECK_CLOSE(observed.number("balance_drift"), 0.02, 1e-14);  // 0.01 j, by construction
}

TEST(every_observable_is_in_the_table_once) {
  std::set<std::string> names;
  for (const ObservableEntry<double>& entry : observable_table<double>()) {
    CHECK(names.insert(entry.name).second);
    CHECK(find_observable<float>(entry.name).dims == std::string(entry.dims));
  }
  CHECK_THROWS(std::invalid_argument, find_observable<double>("no such thing"));
}
