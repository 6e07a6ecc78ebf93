// Networks and samples to test on, and what they must give: plain loops in double, written once
// more.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/kernel.hpp"
#include "featcore/objective.hpp"
#include "instances.hpp"

namespace featcore::testing {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Uniform in [-1, 1), the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-52 - 1; }
  Index integer(Index least, Index most) {
    return least + static_cast<Index>(engine_() % static_cast<std::uint64_t>(most - least + 1));
  }

 private:
  std::mt19937_64 engine_;
};

template <class T>
bool same_bits(const std::vector<T>& p, const std::vector<T>& q) {
  return p.size() == q.size() &&
         (p.empty() || std::memcmp(p.data(), q.data(), p.size() * sizeof(T)) == 0);
}

template <class T>
struct Problem {
  Index n, d, m;
  std::vector<T> x, y, weights, W, a;

  NetworkView<T> net() const { return {m, d, W.data(), a.data()}; }
  SplitView<T> split() const { return {n, d, x.data(), y.data(), nullptr, nullptr}; }
  SplitView<T> weighted() const { return {n, d, x.data(), y.data(), nullptr, weights.data()}; }
};

template <class T>
Problem<T> random_problem(Index n, Index d, Index m, std::uint64_t seed = 1) {
  Random random(seed);
  const auto fill = [&](Index count, double scale) {
    std::vector<T> values(at(count));
    for (T& value : values) value = static_cast<T>(scale * random.uniform());
    return values;
  };
  Problem<T> p{n, d, m, fill(n * d, 1.5), {}, {}, fill(m * d, 0.7), fill(m, 0.5)};
  for (Index i = 0; i < n; ++i) {
    p.y.push_back(random.uniform() < 0 ? T(-1) : T(1));
    p.weights.push_back(static_cast<T>(random.integer(0, 3)));
  }
  p.weights[0] = 1;
  return p;
}

// Small integers: every sum is exact in float and double, and many pre-activations are exactly 0.
template <class T>
Problem<T> integer_problem(Index n, Index d, Index m, std::uint64_t seed = 1) {
  Problem<T> p = random_problem<T>(n, d, m, seed);
  Random random(seed + 1);
  for (T& value : p.x) value = static_cast<T>(random.integer(-4, 4));
  for (T& value : p.W) value = static_cast<T>(random.integer(-4, 4));
  for (T& value : p.a) value = static_cast<T>(random.integer(-4, 4));
  return p;
}

struct Named {
  std::string name;
  double slope;
};

inline const std::vector<Named>& homogeneous_activations() {
  static const std::vector<Named> all = {{"relu", 0}, {"leaky_relu", 0.25}, {"leaky_relu", 1}};
  return all;
}

inline const std::vector<Named>& smooth_activations() {
  static const std::vector<Named> all = {{"tanh", 0}, {"erf", 0}, {"gelu", 0}, {"softplus", 0}};
  return all;
}

inline double sigma(const Named& which, double z) {
  if (which.name == "tanh") return std::tanh(z);
  if (which.name == "erf") return std::erf(z);
  if (which.name == "gelu") return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
  if (which.name == "softplus") return std::log1p(std::exp(z));
  return z > 0 ? z : which.slope * z;
}

inline double sigma_prime(const Named& which, double z) {
  constexpr double kPi = 3.14159265358979323846;
  if (which.name == "tanh") return 1 / (std::cosh(z) * std::cosh(z));
  if (which.name == "erf") return 2 / std::sqrt(kPi) * std::exp(-z * z);
  if (which.name == "gelu")
    return 0.5 * (1 + std::erf(z / std::sqrt(2.0))) + z * std::exp(-z * z / 2) / std::sqrt(2 * kPi);
  if (which.name == "softplus") return 1 / (1 + std::exp(-z));
  return z > 0 ? 1 : which.slope;
}

// f_i, and h_j = sum_i r_i sigma'(z_ij) x_i with g_j = sum_i r_i sigma(z_ij).
struct Naive {
  std::vector<double> f, h, g;

  template <class T>
  Naive(const Problem<T>& p, const Named& activation, const std::vector<T>& r)
      : f(at(p.n)), h(at(p.m * p.d)), g(at(p.m)) {
    for (Index i = 0; i < p.n; ++i)
      for (Index j = 0; j < p.m; ++j) {
        double z = 0;
        for (Index k = 0; k < p.d; ++k)
          z +=
              static_cast<double>(p.W[at(j * p.d + k)]) * static_cast<double>(p.x[at(i * p.d + k)]);
        f[at(i)] += static_cast<double>(p.a[at(j)]) * sigma(activation, z);
        g[at(j)] += static_cast<double>(r[at(i)]) * sigma(activation, z);
        const double slope = static_cast<double>(r[at(i)]) * sigma_prime(activation, z);
        for (Index k = 0; k < p.d; ++k)
          h[at(j * p.d + k)] += slope * static_cast<double>(p.x[at(i * p.d + k)]);
      }
  }
};

// The same from the kernel.
template <class T>
struct Computed {
  std::vector<T> f, h, g;

  Computed(const Problem<T>& p, const Named& activation, const std::vector<T>& r, int threads)
      : f(at(p.n)), h(at(p.m * p.d)), g(at(p.m)) {
    Monitor monitor;
    const Team team(threads, monitor);
    const Activation which = activation_by_name(activation.name, activation.slope);
    Kernel<T> kernel(p.n, p.d, p.m, p.x.data(), which, which.homogeneous());
    const Panels<T> net(p.net());
    Buffer<T> sums(net.W.size());
    kernel.outputs(net, team, f.data());
    kernel.gradient_sums(
        net, r.data(), team, sums.data(), [&](Index panel, const T*, const T* head) {
          const Index first = panel * PanelShape<T>::kPanel;
          std::copy_n(head, std::min(PanelShape<T>::kPanel, p.m - first), g.data() + first);
        });
    Panels<T>::rows(net.shape, sums.data(), h.data());
  }
};

// max |got - want| / max(|want|, 1)
template <class T>
double error(const std::vector<T>& got, const std::vector<double>& want) {
  double most = 0, size = 1;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double gap = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(gap <= most)) most = gap;  // keeps a NaN
    size = std::max(size, std::abs(want[i]));
  }
  return most / size;
}

}  // namespace featcore::testing
