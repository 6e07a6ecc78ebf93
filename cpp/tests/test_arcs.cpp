#include "featcore/arcs.hpp"

#include "check.hpp"
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
        for (Index i = 0; i < n; ++i) CHECK(warm.signs().at(j, i) == cold.signs().at(j, i));
    }
  }
}

TEST(where_a_neuron_was_does_not_matter) {
  positions_do_not_depend_on_where_they_were<double>();
  positions_do_not_depend_on_where_they_were<float>();
}
