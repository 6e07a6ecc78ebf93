#include <set>

#include "check.hpp"
#include "featcore/signs.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

template <class T>
static void signs_match_preactivations() {
  for (const Index n : {1, 8, 15, 16, 17, 512, 513, 700})
    for (const Index m : {1, 9, 65}) {
      constexpr Index d = 3;
      const Problem<T> p = integer_problem<T>(n, d, m);
      Monitor monitor;
      const Team team(2, monitor);
      Kernel<T> kernel(n, d, m, p.x.data(), activation_by_name("relu", 0), true);
      std::vector<T> f(at(n));
      kernel.outputs(Panels<T>(p.net()), team, f.data());
      Index zeros = 0;
      Index dead = 0;
      for (Index j = 0; j < m; ++j) {
        bool any = false;
        for (Index i = 0; i < n; ++i) {
          T z = 0;
          for (Index k = 0; k < d; ++k) z += p.W[at(j * d + k)] * p.x[at(i * d + k)];
          CHECK(kernel.signs(team).at(j, i) == (z > 0));
          any = any || z > 0;
          zeros += z == 0;
        }
        dead += !any;
      }
      for (Index panel = 0; panel < ceil_div(m, Kernel<T>::kPanel); ++panel)
        for (Index first = 0; first < n; first += 32) {
          const Index samples = std::min<Index>(32, n - first);
          std::vector<std::uint32_t> columns(at(Kernel<T>::kPanel));
          kernel.signs(team).columns(panel, first, samples, columns.data());
          for (Index l = 0; l < Kernel<T>::kPanel; ++l)
            for (Index i = 0; i < 32; ++i) {
              const Index j = panel * Kernel<T>::kPanel + l;
              const bool wanted = j < m && i < samples && kernel.signs(team).at(j, first + i);
              CHECK((columns[at(l)] >> i & 1) == wanted);
            }
        }
      CHECK(kernel.signs(team).dead(team) == dead);
      if (n * m > 500) CHECK(zeros > 0);  // ties were tested
    }
}

TEST(a_bit_is_set_where_the_preactivation_is_positive) {
  signs_match_preactivations<double>();
  signs_match_preactivations<float>();
}

template <class T>
static void patterns_are_counted() {
  constexpr Index n = 600, d = 2, m = 12;
  Problem<T> p = random_problem<T>(n, d, m);
  const auto count = [&] {
    Monitor monitor;
    Kernel<T> kernel(n, d, m, p.x.data(), activation_by_name("relu", 0), true);
    std::vector<T> f(at(n));
    const Team team(1, monitor);
    kernel.outputs(Panels<T>(p.net()), team, f.data());
    const Index patterns = kernel.signs(team).patterns(team);
    CHECK(patterns == kernel.signs(team).patterns(Team(3, monitor)));
    return patterns;
  };
  CHECK(count() == m);  // 600 samples tell 12 random directions apart
  for (Index k = 0; k < d; ++k) {
    p.W[at(5 * d + k)] = 2 * p.W[at(k)];  // neuron 5 points where neuron 0 does
    p.W[at(7 * d + k)] = -p.W[at(k)];     // and neuron 7 the other way
  }
  CHECK(count() == m - 1);
}

// Against sets of rows of bits.
template <class T>
static void patterns_are_those_of_sets() {
  for (const Index n : {1, 3, 31, 32, 33, 200})
    for (const Index m : {1, 7, 65, 300}) {
      const Problem<T> p = integer_problem<T>(n, 2, m);
      Monitor monitor;
      const Team team(3, monitor);
      Kernel<T> kernel(n, 2, m, p.x.data(), activation_by_name("relu", 0), true);
      std::vector<T> f(at(n));
      kernel.outputs(Panels<T>(p.net()), team, f.data());
      const Signs<T>& signs = kernel.signs(team);
      std::set<std::vector<bool>> rows;
      Index dead = 0;
      for (Index j = 0; j < m; ++j) {
        std::vector<bool> row;
        for (Index i = 0; i < n; ++i) row.push_back(signs.at(j, i));
        dead += std::find(row.begin(), row.end(), true) == row.end();
        rows.insert(row);
      }
      CHECK(signs.patterns(team) == static_cast<Index>(rows.size()));
      CHECK(signs.dead(team) == dead);
    }
}

TEST(patterns_are_those_that_differ) {
  patterns_are_those_of_sets<double>();
  patterns_are_those_of_sets<float>();
}

TEST(signs_that_differ_in_one_sample_are_two_patterns) {
  const Index n = 1000;
  for (const Index sample : {0, 31, 32, 500, 999}) {
    Signs<double> signs(n, 2);
    Monitor monitor;
    const Team team(1, monitor);
    CHECK(signs.patterns(team) == 1);
    signs.panel(0)[sample] = 1;
    CHECK(signs.patterns(team) == 2);
    signs.panel(0)[sample] = 3;
    CHECK(signs.patterns(team) == 1);
  }
}

TEST(a_stop_is_heard_while_signs_are_counted) {
  for (const Index d : {2, 3}) {  // written down where they are asked for, or before
    const Problem<double> p = random_problem<double>(100, d, 70);
    Monitor monitor, asked;
    asked.request_stop();
    const Team team(2, monitor), stopped(2, asked);
    Kernel<double> kernel(p.n, d, p.m, p.x.data(), activation_by_name("relu", 0), true);
    std::vector<double> f(at(p.n));
    kernel.outputs(Panels<double>(p.net()), team, f.data());
    if (d == 2) CHECK_THROWS(Stopped, (void)kernel.signs(stopped));
    const Signs<double>& signs = kernel.signs(team);
    CHECK_THROWS(Stopped, (void)signs.dead(stopped));
    CHECK_THROWS(Stopped, (void)signs.patterns(stopped));
    CHECK(signs.dead(team) + signs.patterns(team) > 0);
  }
}

TEST(equal_patterns_count_once) {
  patterns_are_counted<double>();
  patterns_are_counted<float>();
}
