#include "check.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

// The bit of one pair, read by the layout that signs.hpp states.
template <class T>
static bool bit(const Signs<T>& signs, const Cut& tiles, Index i, Index j) {
  using Shape = TileShape<T>;
  const Index tile = i / tiles.length;
  const Index within = i - tiles.begin(tile);
  const auto word = signs.at(tile, j)[within % Shape::kLanes];
  return (word >> (within / Shape::kLanes)) & 1;
}

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
      kernel.outputs(p.W.data(), p.a.data(), team, f.data());
      const Cut tiles = Partition<T>(n, d, m).sample_tiles;
      Index zeros = 0;
      for (Index j = 0; j < m; ++j) {
        bool any = false;
        for (Index i = 0; i < n; ++i) {
          T z = 0;
          for (Index k = 0; k < d; ++k) z += p.W[at(j * d + k)] * p.x[at(i * d + k)];
          CHECK(bit(kernel.signs(), tiles, i, j) == (z > 0));
          any = any || z > 0;
          zeros += z == 0;
        }
        CHECK(kernel.signs().any(j) == any);
      }
      if (n * m > 500) CHECK(zeros > 0);  // ties were tested
    }
}

TEST(a_bit_is_set_where_the_preactivation_is_positive) {
  signs_match_preactivations<double>();
  signs_match_preactivations<float>();
}

template <class T>
static void compare_orders_patterns() {
  constexpr Index n = 600, d = 2, m = 12;
  Problem<T> p = random_problem<T>(n, d, m);
  for (Index k = 0; k < d; ++k) {
    p.W[at(5 * d + k)] = 2 * p.W[at(k)];  // neuron 5 points where neuron 0 does
    p.W[at(7 * d + k)] = -p.W[at(k)];
  }
  Monitor monitor;
  Kernel<T> kernel(n, d, m, p.x.data(), activation_by_name("relu", 0), true);
  std::vector<T> f(at(n));
  kernel.outputs(p.W.data(), p.a.data(), Team(1, monitor), f.data());
  const Signs<T>& signs = kernel.signs();
  CHECK(signs.compare(0, 5) == 0);
  CHECK(signs.compare(0, 7) != 0);
  CHECK((signs.compare(0, 7) < 0) == (signs.compare(7, 0) > 0));
}

TEST(equal_patterns_compare_equal) {
  compare_orders_patterns<double>();
  compare_orders_patterns<float>();
}
