#include <algorithm>
#include <memory>

#include "check.hpp"
#include "featcore/form.hpp"
#include "featcore/gradient.hpp"
#include "featcore/inputs.hpp"
#include "featcore/products.hpp"
#include "featcore/span.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

static const char* const kForms[] = {"primal", "gram", "projected"};

struct Shape {
  Index n, d, m;
};

// Remainders of panels (8 to 64 neurons), vectors, blocks of samples; n < d and n > 2 d.
static const std::vector<Shape> kShapes = {{1, 1, 1},    {2, 3, 1},    {1, 5, 70},   {7, 2, 9},
                                           {16, 16, 8},  {17, 40, 65}, {22, 4, 47},  {39, 11, 31},
                                           {70, 90, 33}, {6, 130, 64}, {101, 7, 129}};

template <class T>
static ChosenForm<T> make_form(const std::string& name, const Problem<T>& p,
                               const Named& activation, const std::vector<SplitView<T>>& splits,
                               const Team& team, const FormState<T>* state = nullptr) {
  return choose_form<T>(name, p.net(), activation_by_name(activation.name, activation.slope),
                        splits, activation.name.find("relu") != std::string::npos, state, team,
                        [](const std::string&, double) {});
}

// A form that takes steps towards the labels, with fixed step size and decay.
template <class T>
struct Walk {
  Rates rates;
  double decay = 0.125;
  double step_size = 0.25;

  StepInfo operator()(Form<T>& form, const SplitView<T>& split, const Team& team,
                      bool measure = false) const {
    const T* f = form.outputs(0, team);
    std::vector<T> r(at(split.n));
    for (Index i = 0; i < split.n; ++i)
      r[at(i)] = (split.y[i] - f[i]) / static_cast<T>(split.n * 8);
    return form.step(r.data(), step_size, rates, decay, measure, team);
  }
};

template <class T>
struct Seen {
  std::vector<T> W, a, f, of_test;
  std::vector<bool> signs;

  Seen(Form<T>& form, const Problem<T>& p, const Problem<T>& test, const Team& team)
      : f(at(p.n)), of_test(at(test.n)) {
    std::copy_n(form.outputs(0, team), p.n, f.data());
    std::copy_n(form.outputs(1, team), test.n, of_test.data());
    if (const Signs<T>* seen = form.signs(0, team))
      for (Index j = 0; j < p.m; ++j)
        for (Index i = 0; i < p.n; ++i) signs.push_back(seen->at(j, i));
    const NetworkView<T> net = form.network();
    W.assign(net.W, net.W + p.m * p.d);
    a.assign(net.a, net.a + p.m);
  }
  bool same(const Seen& other) const {
    return same_bits(W, other.W) && same_bits(a, other.a) && same_bits(f, other.f) &&
           same_bits(of_test, other.of_test) && signs == other.signs;
  }
};

template <class T>
static std::vector<double> doubles(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

template <class T>
static std::vector<SplitView<T>> splits_of(const Problem<T>& p, const Problem<T>& test) {
  return {p.split(), test.split()};
}

static std::vector<Named> activations() {
  std::vector<Named> all = homogeneous_activations();
  all.push_back(smooth_activations()[0]);
  all.push_back(smooth_activations()[3]);
  return all;
}

// Data are generic: no pre-activation comes within rounding of 0 in two steps.
template <class T>
static void forms_agree(double tolerance) {
  Monitor monitor;
  const Team team(2, monitor);
  for (const Shape& s : kShapes)
    for (const Named& activation : activations())
      for (const Rates rates : {Rates{1, 1}, Rates{1, 0}, Rates{0, 1}}) {
        const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
        const Problem<T> test = random_problem<T>(5, s.d, s.m, 7);
        std::unique_ptr<Seen<T>> want;
        for (const char* name : kForms) {
          const ChosenForm<T> chosen = make_form(name, p, activation, splits_of(p, test), team);
          CHECK(std::string(chosen.form->name()) == name);
          for (int k = 0; k < 2; ++k) Walk<T>{rates}(*chosen.form, p.split(), team);
          const Seen<T> got(*chosen.form, p, test, team);
          if (!want) {
            want = std::make_unique<Seen<T>>(got);
            continue;
          }
          CHECK_CLOSE(error(got.W, doubles(want->W)), 0, tolerance);
          CHECK_CLOSE(error(got.a, doubles(want->a)), 0, tolerance);
          CHECK_CLOSE(error(got.f, doubles(want->f)), 0, tolerance);
          CHECK_CLOSE(error(got.of_test, doubles(want->of_test)), 0, tolerance);
        }
      }
}

TEST(forms_agree) {
  // sums of some 130 terms, of size 100 at most
  forms_agree<double>(1e-12);
  forms_agree<float>(5e-4);
}

template <class T>
static void bits_depend_on_nothing() {
  Monitor monitor;
  const Team one(1, monitor);
  for (const Shape& s : kShapes)
    for (const Named& activation : {homogeneous_activations()[1], smooth_activations()[0]})
      for (const char* name : kForms) {
        const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
        const Problem<T> test = random_problem<T>(5, s.d, s.m, 7);
        const auto splits = splits_of(p, test);
        const auto walk = [&](Form<T>& form, int steps, const Team& team) {
          for (int k = 0; k < steps; ++k) Walk<T>{}(form, p.split(), team);
        };
        const ChosenForm<T> first = make_form(name, p, activation, splits, one);
        walk(*first.form, 3, one);
        const Seen<T> want(*first.form, p, test, one);
        for (const int threads : {2, 3, 5}) {
          const Team team(threads, monitor);
          const ChosenForm<T> again = make_form(name, p, activation, splits, team);
          team.together([&](const Team& gathered) { walk(*again.form, 3, gathered); });
          CHECK(want.same(Seen<T>(*again.form, p, test, team)));
        }
        // A step taken back, twice over, leaves no trace.
        const ChosenForm<T> back = make_form(name, p, activation, splits, one);
        walk(*back.form, 1, one);
        const Seen<T> before(*back.form, p, test, one);
        walk(*back.form, 1, one);
        CHECK(!before.same(Seen<T>(*back.form, p, test, one)));
        back.form->undo();
        CHECK(before.same(Seen<T>(*back.form, p, test, one)));
        walk(*back.form, 2, one);
        CHECK(want.same(Seen<T>(*back.form, p, test, one)));
        // From its state it goes on as if it had never stopped.
        const ChosenForm<T> half = make_form(name, p, activation, splits, one);
        walk(*half.form, 2, one);
        const FormState<T> state = half.form->state();
        Problem<T> rest = p;
        const NetworkView<T> net = half.form->network();
        if (state.empty()) rest.W.assign(net.W, net.W + p.m * p.d);
        rest.a.assign(net.a, net.a + p.m);
        const ChosenForm<T> other =
            make_form(name, rest, activation, splits, one, state.empty() ? nullptr : &state);
        walk(*other.form, 1, one);
        CHECK(want.same(Seen<T>(*other.form, p, test, one)));
      }
}

TEST(bits_depend_on_neither_threads_nor_undone_steps_nor_pauses) {
  bits_depend_on_nothing<double>();
  bits_depend_on_nothing<float>();
}

// Asks for a stop at the `count`-th look.
class StopAt final : public Monitor {
 public:
  explicit StopAt(int count) : left_(count) {}

 protected:
  bool poll() override { return --left_ > 0; }

 private:
  int left_;
};

// Wherever a stop arrives in a step, the step is taken whole or not at all.
static void a_stopped_step_has_not_moved(const char* name, const Problem<double>& p, bool measure,
                                         int looks) {
  const Problem<double> test = random_problem<double>(5, p.d, p.m, 7);
  Monitor quiet;
  const Team calm(2, quiet);
  const Named relu{"relu", 0};
  const auto step = [&](Form<double>& form, const Team& team) {
    std::vector<double> r(at(p.n));
    const double* f = form.outputs(0, team);
    for (Index i = 0; i < p.n; ++i) r[at(i)] = (p.y[at(i)] - f[i]) / 1e4;
    form.step(r.data(), 0.5, Rates{}, 0.25, measure, team);
  };
  const ChosenForm<double> chosen = make_form(name, p, relu, splits_of(p, test), calm);
  Walk<double>{}(*chosen.form, p.split(), calm);
  StopAt monitor(looks);
  const Team team(2, monitor);
  int done = 0;
  try {
    for (;; ++done) step(*chosen.form, team);  // as descend() does
  } catch (const Stopped&) {
  }
  const Seen<double> got(*chosen.form, p, test, calm);
  const ChosenForm<double> other = make_form(name, p, relu, splits_of(p, test), calm);
  Walk<double>{}(*other.form, p.split(), calm);
  for (int k = 0; k < done; ++k) step(*other.form, calm);
  CHECK(got.same(Seen<double>(*other.form, p, test, calm)));
}

TEST(a_stopped_step_has_not_moved) {
  const Problem<double> large = random_problem<double>(300, 400, 300);
  for (const char* name : kForms)
    for (const int looks : {1, 2, 3}) a_stopped_step_has_not_moved(name, large, true, looks);
  // A step that begins the next outputs overwrites those that it was begun with.
  const Problem<double> small = random_problem<double>(60, 20, 1000);
  for (const int looks : {1, 1, 1, 2, 2, 2})
    a_stopped_step_has_not_moved("primal", small, false, looks);
}

// The squared gradient of the projected and the Gram form is that of the primal form, also where
// the field is a small difference.
TEST(gradients_have_the_norm_of_the_primal_form) {
  Monitor monitor;
  const Team team(2, monitor);
  for (const Shape& s : kShapes)
    for (const double decay : {0.0, 0.5}) {
      const Problem<double> p = random_problem<double>(s.n, s.d, s.m);
      const auto splits = splits_of(p, p);
      double want = 0;
      for (const char* name : kForms) {
        const ChosenForm<double> chosen = make_form(name, p, {"relu", 0}, splits, team);
        const Walk<double> walk{Rates{2, 0.5}, decay};
        walk(*chosen.form, p.split(), team);
        const double got = walk(*chosen.form, p.split(), team, true).squared_gradient;
        if (want == 0) want = got;
        CHECK(got > 0);
        CHECK_CLOSE(got, want, 1e-11 * (want + 1e-3));
      }
    }
}

// What Weights answers from coefficients is what numbers of W give.
TEST(weights_answer_from_coefficients_as_from_rows) {
  Monitor monitor;
  const Team team(2, monitor);
  for (const Shape& s : kShapes)
    for (const double decay : {0.125, 4.0}) {  // at step size 0.25 the latter leaves nothing of W_0
      const Problem<double> p = random_problem<double>(s.n, s.d, s.m);
      const Problem<double> other = random_problem<double>(3, s.d, 4, 5);
      for (const char* name : kForms) {
        const ChosenForm<double> chosen = make_form(name, p, {"relu", 0}, splits_of(p, p), team);
        for (int k = 0; k < 3; ++k) Walk<double>{Rates{1, 0}, decay}(*chosen.form, p.split(), team);
        const Weights<double>& weights = chosen.form->weights();
        std::vector<double> norms(at(s.m)), squares(at(s.m)), cosines(at(3 * s.m)), sums(3);
        std::vector<Index> members;
        for (Index j = 0; j < s.m; j += 2) members.push_back(j);
        weights.norms(team, norms.data());
        weights.squared_norms(team, squares.data());
        weights.cosines(other.x.data(), 3, team, cosines.data());
        weights.sum_cosines(members, other.x.data(), 3, team, sums.data());
        const std::vector<double> values = weights.singular_values(2, team);
        const NetworkView<double> net = weights.rows(team);
        std::vector<double> sum(at(s.d));
        for (const Index j : members)
          for (Index k = 0; k < s.d; ++k) sum[at(k)] += net.W[j * s.d + k];
        for (Index j = 0; j < s.m; ++j) {
          const double want = detail::norm(net.W + j * s.d, s.d);
          CHECK_CLOSE(norms[at(j)], want, 1e-12 * want);
          CHECK_CLOSE(squares[at(j)], want * want, 1e-12 * want * want);
          for (Index q = 0; q < 3; ++q)
            CHECK_CLOSE(cosines[at(j * 3 + q)],
                        detail::cosine(net.W + j * s.d, other.x.data() + q * s.d, s.d), 1e-12);
        }
        for (Index q = 0; q < 3; ++q)
          CHECK_CLOSE(sums[at(q)], detail::cosine(sum.data(), other.x.data() + q * s.d, s.d),
                      1e-12);
        const std::vector<double> want = singular_values(net, 2, team);
        for (std::size_t k = 0; k < 2; ++k)
          CHECK_CLOSE(values[k] * values[k], want[k] * want[k], 1e-12 * want[0] * want[0]);
      }
    }
}

// --- span and products

template <class T>
static void basis_spans(double tolerance) {
  Monitor monitor;
  for (const Shape& s : kShapes)
    for (const Index rank : {Index{1}, Index{3}, s.d}) {
      // x of the given rank at most, exact: small integers
      const Problem<T> left = integer_problem<T>(s.n, rank, 1);
      const Problem<T> right = integer_problem<T>(rank, s.d, 1, 3);
      std::vector<T> x(at(s.n * s.d));
      for (Index i = 0; i < s.n; ++i)
        for (Index k = 0; k < s.d; ++k)
          for (Index l = 0; l < rank; ++l)
            x[at(i * s.d + k)] += left.x[at(i * rank + l)] * right.x[at(l * s.d + k)];
      const Index most = std::min({rank, s.n, s.d});
      const Team team(2, monitor);
      const std::vector<T> basis = span_basis(s.n, s.d, x.data(), most, team);
      CHECK(!basis.empty());
      const Index got = static_cast<Index>(basis.size()) / s.d;
      CHECK(got <= most);
      CHECK(same_bits(basis, span_basis(s.n, s.d, x.data(), most, Team(1, monitor))));
      if (got < std::min(s.n, s.d)) CHECK(may_lack_rank(s.n, s.d, x.data(), team));
      if (got > 1) CHECK(span_basis(s.n, s.d, x.data(), got - 1, team).empty());
      const auto dot = [&](const T* u, const T* v) {
        double sum = 0;
        for (Index k = 0; k < s.d; ++k)
          sum += static_cast<double>(u[k]) * static_cast<double>(v[k]);
        return sum;
      };
      for (Index k = 0; k < got; ++k)
        for (Index l = 0; l <= k; ++l)
          CHECK_CLOSE(dot(&basis[at(k * s.d)], &basis[at(l * s.d)]), k == l, tolerance);
      for (Index i = 0; i < s.n; ++i) {
        const T* row = &x[at(i * s.d)];
        double inside = 0;
        for (Index k = 0; k < got; ++k) inside += std::pow(dot(row, &basis[at(k * s.d)]), 2);
        CHECK_CLOSE(inside, dot(row, row), tolerance * dot(row, row));
      }
    }
}

TEST(a_basis_is_orthonormal_and_spans_the_samples) {
  basis_spans<double>(1e-13);
  basis_spans<float>(2e-5);  // 64 eps of a row may stay outside
}

TEST(a_basis_knows_every_row_however_short) {
  Monitor monitor;
  const Team team(1, monitor);
  for (const double scale : {1e-200, 1.0, 1e200}) {
    const std::vector<double> x = {scale, 0, 0, 0, 1e-25 * scale, 0, 3 * scale, 0, 0};
    for (const Index most : {2, 3}) CHECK(span_basis(3, 3, x.data(), most, team).size() == 6);
  }
  const std::vector<double> zero(6);
  CHECK(span_basis<double>(2, 3, zero.data(), 2, team).size() == 3);
  CHECK(may_lack_rank<double>(2, 3, zero.data(), team));
}

// What is left of a row of floats is a number, not rounding.
TEST(a_basis_knows_the_small_entries_of_floats) {
  Monitor monitor;
  const Team team(1, monitor);
  const std::vector<float> x = {1e6f, 1, 0, 1e6f, 0, 1, 1e6f, 1, 1, -1e6f, 2, 0};
  CHECK(span_basis(4, 3, x.data(), 3, team).size() == 9);
  CHECK(span_basis(4, 3, x.data(), 2, team).empty());
}

TEST(inputs_are_alike_unless_one_drowns_many) {
  const Index n = 60, d = 40;
  const auto with = [&](Index inputs, double scale) {
    Problem<double> p = random_problem<double>(n, d, 1);
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < inputs; ++k) p.x[at(i * d + k)] *= scale;
    return inputs_are_alike(n, d, p.x.data());
  };
  CHECK(with(0, 1));
  CHECK(with(1, 500));
  CHECK(!with(1, 3e3));
  CHECK(!with(20, 3e3));
  CHECK(!with(1, 1e300));  // squares would overflow
  CHECK(with(d, 1e-300));
  CHECK(with(3, 1e-9));  // a few pixels at the border
  CHECK(!with(20, 1e-4));
  CHECK(with(30, 0));  // inputs that no sample has
  CHECK(with(d, 0));
}

TEST(an_input_that_drowns_the_others_is_not_projected) {
  Problem<float> p = random_problem<float>(60, 64, 30);
  for (Index i = 0; i < p.n; ++i)  // of rank 3
    for (Index k = 3; k < p.d; ++k) p.x[at(i * p.d + k)] = p.x[at(i * p.d + k % 3)];
  Monitor monitor;
  const Team team(1, monitor);
  CHECK(make_form("auto", p, {"relu", 0}, {p.split()}, team).form->name() ==
        std::string("projected"));
  for (Index i = 0; i < p.n; ++i) p.x[at(i * p.d)] = 1.7e9f;
  CHECK(make_form("auto", p, {"relu", 0}, {p.split()}, team).form->name() !=
        std::string("projected"));
}

// Looking at the span takes what the primal form would: of the samples it is trained on.
TEST(the_form_does_not_depend_on_what_else_is_evaluated) {
  constexpr Index n = 19000, d = 450, m = 120;
  const std::vector<float> x(at(n * d)), y(at(n)), W(at(m * d)), a(at(m));
  const SplitView<float> train{n, d, x.data(), y.data(), nullptr, nullptr};
  const SplitView<float> test{30000, d, nullptr, nullptr, nullptr, nullptr};  // not looked at
  struct Chosen {};
  const auto name = [&](const std::vector<SplitView<float>>& splits) {
    Monitor monitor;
    std::string chosen;
    CHECK_THROWS(Chosen,
                 (void)choose_form<float>("auto", {m, d, W.data(), a.data()},
                                          activation_by_name("relu", 0), splits, false, nullptr,
                                          Team(1, monitor), [&](const std::string& form, double) {
                                            chosen = form;
                                            throw Chosen{};
                                          }));
    return chosen;
  };
  CHECK(name({train}) == name({train, test}));
}

TEST(full_rank_is_seen_at_a_glance) {
  Monitor monitor;
  const Team team(2, monitor);
  for (const Shape& s : kShapes) {
    const Problem<double> p = random_problem<double>(s.n, s.d, s.m);
    CHECK(!may_lack_rank(s.n, s.d, p.x.data(), team));
  }
}

TEST(row_products_are_exact_on_integers) {
  Monitor monitor;
  for (const Shape& s : kShapes) {
    const Problem<double> p = integer_problem<double>(s.n, s.d, s.m);
    std::vector<double> out(at(s.m * s.n));
    row_products(s.m, p.W.data(), s.n, p.x.data(), s.d, Team(3, monitor), out.data());
    for (Index j = 0; j < s.m; ++j)
      for (Index i = 0; i < s.n; ++i) {
        double want = 0;
        for (Index k = 0; k < s.d; ++k) want += p.W[at(j * s.d + k)] * p.x[at(i * s.d + k)];
        CHECK(out[at(j * s.n + i)] == want);
      }
  }
}

TEST(packed_inputs_hold_every_input_once) {
  for (const Index d : {1, 2, 3, 5, 6, 7, 11, 12, 17})
    for (const Index samples : {1, 4, 9}) {
      std::vector<double> x(at(samples * d)), packed(at(samples * d));
      for (std::size_t q = 0; q < x.size(); ++q) x[q] = static_cast<double>(q);
      pack_inputs(x.data(), samples, d, packed.data());
      micro::blocks(d, [&](auto width, Index k) {
        for (Index i = 0; i < samples; ++i)
          for (Index b = 0; b < width(); ++b)
            CHECK(packed[at(k * samples + i * width() + b)] == x[at(i * d + k + b)]);
      });
    }
}

// --- the choice

TEST(the_form_is_asked_for_before_it_is_made) {
  const Problem<double> p = random_problem<double>(20, 100, 30);
  Monitor monitor;
  const Team team(1, monitor);
  struct TooMuch {};
  for (const char* wanted : {"auto", "primal", "gram", "projected"}) {
    double asked = 0;
    CHECK_THROWS(TooMuch, (void)choose_form<double>(wanted, p.net(), activation_by_name("relu", 0),
                                                    {p.split()}, false, nullptr, team,
                                                    [&](const std::string&, double bytes) {
                                                      asked = bytes;
                                                      throw TooMuch{};
                                                    }));
    CHECK(asked > 0);
  }
  CHECK_THROWS(std::invalid_argument, make_form("dual", p, {"relu", 0}, {p.split()}, team));
}
