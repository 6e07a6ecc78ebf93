#include "check.hpp"
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
          CHECK(kernel.signs().at(j, i) == (z > 0));
          any = any || z > 0;
          zeros += z == 0;
        }
        dead += !any;
      }
      for (Index panel = 0; panel < ceil_div(m, Kernel<T>::kPanel); ++panel)
        for (Index first = 0; first < n; first += 32) {
          const Index samples = std::min<Index>(32, n - first);
          std::vector<std::uint32_t> columns(at(Kernel<T>::kPanel));
          kernel.signs().columns(panel, first, samples, columns.data());
          for (Index l = 0; l < Kernel<T>::kPanel; ++l)
            for (Index i = 0; i < 32; ++i) {
              const Index j = panel * Kernel<T>::kPanel + l;
              const bool wanted = j < m && i < samples && kernel.signs().at(j, first + i);
              CHECK((columns[at(l)] >> i & 1) == wanted);
            }
        }
      CHECK(kernel.signs().dead() == dead);
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
    kernel.outputs(Panels<T>(p.net()), Team(1, monitor), f.data());
    return kernel.signs().patterns();
  };
  CHECK(count() == m);  // 600 samples tell 12 random directions apart
  for (Index k = 0; k < d; ++k) {
    p.W[at(5 * d + k)] = 2 * p.W[at(k)];  // neuron 5 points where neuron 0 does
    p.W[at(7 * d + k)] = -p.W[at(k)];     // and neuron 7 the other way
  }
  CHECK(count() == m - 1);
}

TEST(equal_patterns_count_once) {
  patterns_are_counted<double>();
  patterns_are_counted<float>();
}
