#include <algorithm>

#include "check.hpp"
#include "featcore/spectrum.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

// Singular values by one-sided Jacobi: rotate pairs of columns until all are orthogonal. Slow,
// accurate to rounding of each value, and nothing like what it tests.
template <class T>
static std::vector<double> jacobi(const std::vector<T>& W, Index m, Index d) {
  const bool tall = m >= d;
  const Index length = std::max(m, d), count = std::min(m, d);
  std::vector<std::vector<double>> columns(at(count), std::vector<double>(at(length)));
  double largest = 0;
  for (Index j = 0; j < m; ++j)
    for (Index k = 0; k < d; ++k) {
      const double w = static_cast<double>(W[at(j * d + k)]);
      (tall ? columns[at(k)][at(j)] : columns[at(j)][at(k)]) = w;
      largest = std::max(largest, std::abs(w));
    }
  if (largest == 0) largest = 1;
  for (auto& column : columns)
    for (double& w : column) w /= largest;
  for (bool rotated = true; rotated;) {
    rotated = false;
    for (std::size_t p = 0; p < columns.size(); ++p)
      for (std::size_t q = p + 1; q < columns.size(); ++q) {
        auto &u = columns[p], &v = columns[q];
        double uu = 0, uv = 0, vv = 0;
        for (std::size_t i = 0; i < u.size(); ++i) {
          uu += u[i] * u[i];
          uv += u[i] * v[i];
          vv += v[i] * v[i];
        }
        if (std::abs(uv) <= 1e-15 * std::sqrt(uu * vv) + 1e-35) continue;
        rotated = true;
        const double zeta = (vv - uu) / (2 * uv);
        const double t = std::copysign(1 / (std::abs(zeta) + std::hypot(1, zeta)), zeta);
        const double c = 1 / std::hypot(1, t), s = c * t;
        for (std::size_t i = 0; i < u.size(); ++i) {
          const double old = u[i];
          u[i] = c * old - s * v[i];
          v[i] = s * old + c * v[i];
        }
      }
  }
  std::vector<double> values;
  for (const auto& column : columns) {
    double square = 0;
    for (const double w : column) square += w * w;
    values.push_back(largest * std::sqrt(square));
  }
  std::sort(values.rbegin(), values.rend());
  return values;
}

template <class T>
static std::vector<double> ours(const std::vector<T>& W, Index m, Index d, Index count,
                                int threads = 2) {
  Monitor monitor;
  const std::vector<T> a(at(m));
  return singular_values(NetworkView<T>{m, d, W.data(), a.data()}, count, Team(threads, monitor));
}

template <class T>
static std::vector<T> random_matrix(Index m, Index d, double scale = 1) {
  Random random(static_cast<std::uint64_t>(m * 1000 + d));
  std::vector<T> W(at(m * d));
  for (T& value : W) value = static_cast<T>(scale * random.uniform());
  return W;
}

template <class T>
static void agrees_with_jacobi(Index m, Index d, Index count, double scale = 1) {
  const std::vector<T> W = random_matrix<T>(m, d, scale);
  const std::vector<double> want = jacobi(W, m, d);
  const std::vector<double> got = ours(W, m, d, count);
  CHECK(static_cast<Index>(got.size()) == count);
  for (Index k = 0; k < count; ++k) {
    const double expected = k < std::min(m, d) ? want[at(k)] : 0;
    CHECK_CLOSE(got[at(k)], expected, 1e-12 * want[0]);
  }
}

TEST(dense_singular_values_agree_with_jacobi) {
  for (const Index m : {1, 2, 30, 64, 65, 300})
    for (const Index d : {1, 3, 64, 70})
      for (const Index count : {1, 3, 80}) {
        agrees_with_jacobi<double>(m, d, count);
        agrees_with_jacobi<float>(m, d, count);
      }
}

TEST(krylov_singular_values_agree_with_jacobi) {
  agrees_with_jacobi<double>(150, 140, 1);
  agrees_with_jacobi<double>(140, 200, 5);
  agrees_with_jacobi<double>(200, 150, 3);
  agrees_with_jacobi<float>(200, 150, 3);
}

TEST(tiny_and_large_weights_are_scaled) {
  agrees_with_jacobi<double>(40, 10, 3, 1e-200);
  agrees_with_jacobi<double>(200, 150, 2, 1e-200);
  agrees_with_jacobi<double>(40, 10, 3, 1e200);
  agrees_with_jacobi<float>(40, 10, 3, 1e-30);
}

TEST(zero_weights_have_zero_singular_values) {
  const std::vector<double> zero(at(200 * 150));
  for (const double value : ours(zero, 200, 150, 3)) CHECK(value == 0);
  for (const double value : ours(zero, 20, 15, 3)) CHECK(value == 0);
}

// W = sum of a few outer products, as after alignment, on top of what is left of the
// initialisation.
static void low_rank(Index rank, double noise, Index count) {
  constexpr Index m = 200, d = 160;
  std::vector<double> W = random_matrix<double>(m, d, noise);
  for (Index q = 0; q < rank; ++q) {
    const std::vector<double> u = random_matrix<double>(m, q + 1),
                              v = random_matrix<double>(d, q + 2);
    for (Index j = 0; j < m; ++j)
      for (Index k = 0; k < d; ++k)
        W[at(j * d + k)] += u[at(j * (q + 1))] * v[at(k * (q + 2))] / static_cast<double>(q + 1);
  }
  const std::vector<double> want = jacobi(W, m, d);
  const std::vector<double> got = ours(W, m, d, count);
  // Through W^T W a value is known to the square root of rounding.
  for (Index k = 0; k < count; ++k) CHECK_CLOSE(got[at(k)], want[at(k)], 1e-7 * want[0]);
  CHECK_CLOSE(got[0], want[0], 1e-12 * want[0]);
}

TEST(low_rank_weights) {
  for (const double noise : {0.0, 1e-10, 1e-6, 1e-3}) {
    low_rank(1, noise, 1);
    low_rank(1, noise, 3);
    low_rank(2, noise, 5);
  }
}

// A few neurons on coordinate axes: blocks of the Krylov space vanish exactly.
TEST(axis_aligned_weights) {
  constexpr Index m = 200, d = 200;
  std::vector<double> W(at(m * d));
  W[0] = 3;
  W[at(1 * d + 1)] = 2;
  W[at(2 * d + 2)] = 1;
  for (const Index count : {1, 2, 3, 5}) {
    const std::vector<double> got = ours(W, m, d, count);
    for (Index k = 0; k < count; ++k)
      CHECK_CLOSE(got[at(k)], k < 3 ? 3.0 - static_cast<double>(k) : 0.0, 1e-7);
  }
}

TEST(equal_singular_values) {
  constexpr Index size = 160;
  std::vector<double> W(at(size * size));
  for (Index k = 0; k < size; ++k) W[at(k * size + k)] = 2;
  for (const double value : ours(W, size, size, 4)) CHECK_CLOSE(value, 2, 1e-12);
}

TEST(threads_do_not_change_singular_values) {
  for (const Index d : {60, 200}) {
    const std::vector<float> W = random_matrix<float>(500, d);
    CHECK(same_bits(ours(W, 500, d, 3, 1), ours(W, 500, d, 3, 3)));
  }
}

TEST(a_stop_is_heard_between_krylov_steps) {
  Monitor monitor;
  monitor.request_stop();
  const std::vector<double> W = random_matrix<double>(300, 200), a(300);
  CHECK_THROWS(Stopped, singular_values(NetworkView<double>{300, 200, W.data(), a.data()}, 2,
                                        Team(2, monitor)));
}
