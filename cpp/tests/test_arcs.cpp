#include <limits>
#include <utility>

#include "check.hpp"
#include "featcore/arcs.hpp"
#include "featcore/kernel.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

__extension__ using Wide = __int128;

// Whole numbers of 52 bits, whose products differ by less than doubles can tell.
TEST(sides_are_exact) {
  Random random(1);
  int ties = 0, rounded_ties = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const auto number = [&] {
      return static_cast<long long>(random.integer(1, (Index{1} << 52) - 9));
    };
    const long long p = number(), q = number();
    const long long u0 = q + random.integer(-1, 1), u1 = -(p + random.integer(-1, 1));
    const Wide exact = static_cast<Wide>(p) * u0 + static_cast<Wide>(q) * u1;
    const int want = (exact > 0) - (exact < 0);
    const detail::Pair v{static_cast<double>(p), static_cast<double>(q)};
    const detail::Pair u{static_cast<double>(u0), static_cast<double>(u1)};
    CHECK(detail::side_of(v, u) == want);
    ties += want == 0;
    rounded_ties += want != 0 && v[0] * u[0] == -(v[1] * u[1]);
  }
  CHECK(ties > 100);
  CHECK(rounded_ties > 100);
}

// The same network met for the first time and after others: bits, and signs, may not tell.
template <class T>
static void positions_do_not_depend_on_where_they_were() {
  const Index n = 200, m = 90;
  const Activation relu = activation_by_name("relu", 0);
  Monitor monitor;
  const Team team(1, monitor);
  for (const bool lattice : {false, true}) {
    const auto problem = [&](int seed) {
      Problem<T> p = lattice ? integer_problem<T>(n, 2, m) : random_problem<T>(n, 2, m);
      Random random(static_cast<unsigned>(seed));
      for (T& w : p.W)
        w = lattice ? static_cast<T>(random.integer(-3, 3)) : w * static_cast<T>(random.uniform());
      return p;
    };
    const Problem<T> first = problem(1);
    Kernel<T> warm(n, 2, m, first.x.data(), relu, true);
    std::vector<T> f(at(n)), want(at(n));
    for (int seed = 2; seed < 8; ++seed) {
      const Problem<T> p = problem(seed);
      warm.outputs(Panels<T>(p.net()), team, f.data());
      Kernel<T> cold(n, 2, m, first.x.data(), relu, true);
      cold.outputs(Panels<T>(p.net()), team, want.data());
      CHECK(same_bits(f, want));
      for (Index j = 0; j < m; ++j)
        for (Index i = 0; i < n; ++i) CHECK(warm.signs(team).at(j, i) == cold.signs(team).at(j, i));
    }
  }
}

// The exact sign of <v, u>: whole numbers times powers of two.
static int exact_side(detail::Pair v, detail::Pair u) {
  const auto product = [](double a, double b) {
    int exponents[2];
    const double p = std::frexp(a, &exponents[0]), q = std::frexp(b, &exponents[1]);
    return std::pair<Wide, int>(
        static_cast<Wide>(std::ldexp(p, 53)) * static_cast<Wide>(std::ldexp(q, 53)),
        exponents[0] + exponents[1]);
  };
  auto [left, left_scale] = product(v[0], u[0]);
  auto [right, right_scale] = product(-v[1], u[1]);
  const auto sign = [](Wide x) { return (x > 0) - (x < 0); };
  if (sign(left) != sign(right) || left == 0)
    return sign(left) > sign(right) ? 1 : sign(left) - sign(right);
  while (left_scale > right_scale && std::abs(static_cast<double>(left)) < 0x1p120)
    left *= 2, --left_scale;
  while (right_scale > left_scale && std::abs(static_cast<double>(right)) < 0x1p120)
    right *= 2, --right_scale;
  if (left_scale != right_scale) return left_scale > right_scale ? sign(left) : -sign(left);
  return (left > right) - (left < right);
}

// Neurons nearly across samples, of every size down to the smallest number: signs are exact, so
// that outputs have the same bits wherever the search begins.
TEST(signs_of_tiny_weights_are_exact) {
  const Index n = 64, m = 120;
  Random random(3);
  Problem<double> p = random_problem<double>(n, 2, m);
  for (Index i = 0; i < n; ++i) {  // a narrow fan, of samples of any length
    const double length =
        std::ldexp(i % 2 != 0 ? 1.0 : -1.0, static_cast<int>(random.integer(-1000, 900)));
    p.x[at(2 * i)] = length * (1 + static_cast<double>(random.integer(0, 40)) * 0x1p-52);
    p.x[at(2 * i + 1)] = length * (i % 3 != 0 ? 1.5 : 0x1p-20);
  }
  CHECK(Arcs<double>::orders(n, p.x.data()));
  const Activation relu = activation_by_name("relu", 0);
  Monitor monitor;
  const Team team(2, monitor);
  Kernel<double> warm(n, 2, m, p.x.data(), relu, true);
  std::vector<double> f(at(n)), want(at(n));
  for (int round = 0; round < 6; ++round) {
    for (Index j = 0; j < m; ++j) {
      const Index i = random.integer(0, n - 1);
      const double length = std::abs(p.x[at(2 * i)]);
      const double scale = std::ldexp(1 / length, -static_cast<int>(random.integer(0, 1070)));
      const double turn = random.integer(0, 1) != 0 ? 1 : -1;
      p.W[at(2 * j)] = turn * p.x[at(2 * i + 1)] / length * (scale * length);
      p.W[at(2 * j + 1)] = -turn * p.x[at(2 * i)] / length * (scale * length);
    }
    warm.outputs(Panels<double>(p.net()), team, f.data());
    Kernel<double> cold(n, 2, m, p.x.data(), relu, true);
    cold.outputs(Panels<double>(p.net()), team, want.data());
    CHECK(same_bits(f, want));
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i)
        CHECK(warm.signs(team).at(j, i) ==
              (exact_side(detail::Pair{p.W[at(2 * j)], p.W[at(2 * j + 1)]},
                          detail::Pair{p.x[at(2 * i)], p.x[at(2 * i + 1)]}) > 0));
  }
}

// Where one input is drowned by the other angles cannot be told apart in double.
TEST(samples_that_doubles_cannot_order_meet_every_neuron) {
  const Index n = 200, m = 300;
  Problem<double> p = random_problem<double>(n, 2, m);
  CHECK(Arcs<double>::orders(n, p.x.data()));
  for (Index i = 0; i < n; i += 3) p.x[at(2 * i)] = -1, p.x[at(2 * i + 1)] = 5e-324;
  for (Index i = 1; i < n; i += 3) p.x[at(2 * i)] = 1, p.x[at(2 * i + 1)] = 0;
  CHECK(!Arcs<double>::orders(n, p.x.data()));
  const std::vector<double> r(at(n), 0.1);
  const Naive want(p, {"relu", 0}, r);
  const Computed<double> got(p, {"relu", 0}, r, 2);
  CHECK(error(got.f, want.f) < 1e-12);
  CHECK(error(got.h, want.h) < 1e-12);
  const std::vector<float> smallest = {1e38f, 1e-45f, -1e-45f, 1e-45f};
  CHECK(Arcs<float>::orders(2, smallest.data()));
  const std::vector<double> zeros(4), infinite = {1, std::numeric_limits<double>::infinity()};
  CHECK(!Arcs<double>::orders(2, zeros.data()));
  CHECK(!Arcs<double>::orders(1, infinite.data()));
}

TEST(where_a_neuron_was_does_not_matter) {
  positions_do_not_depend_on_where_they_were<double>();
  positions_do_not_depend_on_where_they_were<float>();
}

// Chunks of neurons, and blocks of positions, with samples across neurons in each of them.
template <class T>
static void ties_in_every_chunk_agree_with_plain_loops(double tolerance) {
  struct Size {
    Index n, m;
  };
  for (const Size size : {Size{40, 9000}, Size{6000, 300}, Size{2100, 9000}}) {
    const Problem<T> lattice = integer_problem<T>(size.n, 2, size.m, 5);
    Problem<T> p = random_problem<T>(size.n, 2, size.m, 6);
    for (Index j = 0; j < size.m; ++j)
      if (j % 64 < 5 && j > size.m / 2)  // a chunk without ties comes first
        for (const Index k : {2 * j, 2 * j + 1}) p.W[at(k)] = lattice.W[at(k)];
    for (Index i = 0; i < size.n; i += 2)
      for (const Index k : {2 * i, 2 * i + 1}) p.x[at(k)] = lattice.x[at(k)];
    std::vector<T> r(at(size.n));
    Random random(7);
    for (T& value : r) value = static_cast<T>(random.uniform());
    for (const Named& activation : homogeneous_activations()) {
      const Naive want(p, activation, r);
      const Computed<T> one(p, activation, r, 1), got(p, activation, r, 3);
      CHECK(error(got.f, want.f) < tolerance);
      CHECK(error(got.h, want.h) < tolerance);
      CHECK(error(got.g, want.g) < tolerance);
      CHECK(same_bits(got.f, one.f));
      CHECK(same_bits(got.h, one.h));
    }
  }
}

TEST(ties_agree_with_plain_loops) {
  ties_in_every_chunk_agree_with_plain_loops<double>(1e-12);
  ties_in_every_chunk_agree_with_plain_loops<float>(2e-6);
}

// Tables of ties are made when needed, and are those of this network, not of one before.
TEST(ties_leave_nothing_behind) {
  for (const Index m : {200, 9000}) {  // one chunk of neurons, and several
    const Index n = 60;
    const Problem<double> tied = integer_problem<double>(n, 2, m);
    Problem<double> free = random_problem<double>(n, 2, m);
    free.x = tied.x;
    const Activation relu = activation_by_name("relu", 0);
    Monitor monitor;
    const Team team(1, monitor);
    std::vector<double> f(at(n)), want(at(n));
    Kernel<double> warm(n, 2, m, tied.x.data(), relu, true);
    Kernel<double> cold(n, 2, m, tied.x.data(), relu, true);
    cold.outputs(Panels<double>(free.net()), team, want.data());
    for (const Panels<double>& net : {Panels<double>(tied.net()), Panels<double>(free.net())})
      warm.outputs(net, team, f.data());
    CHECK(same_bits(f, want));
  }
}
