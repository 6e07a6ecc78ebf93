// Activations, by what a kernel may assume of them.
//
// By the sign (ReLU, leaky ReLU, linear): sigma(z) = z for z > 0 and slope*z otherwise, so that one
// bit a pair says sigma'(z), and <w_j, h_j> gives the gradient of the head. Smooth: value and
// derivative are evaluated on whole tiles; the backward pass recomputes z. Either may be less a
// constant, the offset: f is linear in sigma, so kernels subtract it from sums, not from each
// value.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "featcore/transcendental.hpp"
#include "featcore/types.hpp"

namespace featcore {

enum class ActivationKind { homogeneous, tanh, erf, gelu, softplus, hermite };

struct Activation {
  ActivationKind kind = ActivationKind::homogeneous;
  double slope = 0;  // of the negative side, homogeneous only
  double offset = 0;
  // c_0 ... c_degree of sum_k c_k He_k(z), the probabilists' polynomials; hermite only. Somebody
  // else's memory, which must outlive whatever computes with them.
  const double* coefficients = nullptr;
  Index degree = 0;

  // Whether the sign of z says sigma'(z).
  bool by_sign() const { return kind == ActivationKind::homogeneous; }
  // Whether sigma(cz) = c sigma(z) for c > 0.
  bool homogeneous() const { return by_sign() && offset == 0; }
};

inline Activation activation_by_name(const std::string& name, double slope) {
  if (name == "relu" || name == "leaky_relu") return {ActivationKind::homogeneous, slope};
  if (name == "tanh") return {ActivationKind::tanh, 0};
  if (name == "erf") return {ActivationKind::erf, 0};
  if (name == "gelu") return {ActivationKind::gelu, 0};
  if (name == "softplus") return {ActivationKind::softplus, 0};
  throw std::invalid_argument("unknown activation '" + name + "'");
}

inline Activation hermite_activation(const double* coefficients, Index count) {
  if (count < 1) throw std::invalid_argument("a Hermite series needs at least one coefficient");
  return {ActivationKind::hermite, 0, 0, coefficients, count - 1};
}

namespace smooth {

// Each gives sigma(z) and sigma'(z) together, since they share their transcendental function. By
// reference, for loops whose locals are structures do not become vectors.
struct Tanh {
  template <class T>
  static void at(T z, T& value, T& derivative) {
    value = transcendental::tanh(z);
    derivative = (1 - value) * (1 + value);
  }
};

struct Erf {
  template <class T>
  static void at(T z, T& value, T& derivative) {
    const T gauss = transcendental::exp(-z * z);
    value = transcendental::erf(z, gauss);
    derivative = static_cast<T>(1.1283791670955126) * gauss;
  }
};

struct Gelu {
  template <class T>
  static void at(T z, T& value, T& derivative) {
    // erfc keeps relative accuracy in the left tail, where 1 + erf cancels.
    const T cdf = static_cast<T>(0.5) * std::erfc(-z * static_cast<T>(0.70710678118654752));
    const T density = static_cast<T>(0.3989422804014327) * std::exp(static_cast<T>(-0.5) * z * z);
    value = z * cdf;
    derivative = cdf + z * density;
  }
};

struct Softplus {
  template <class T>
  static void at(T z, T& value, T& derivative) {
    const T tail = std::exp(-std::abs(z));
    value = (z > 0 ? z : T(0)) + std::log1p(tail);
    derivative = (z > 0 ? T(1) : tail) / (1 + tail);
  }
};

// An element may be read before the one that is written in its place, so vectors are allowed.
template <class Sigma, class T>
void apply(const T* z, T* value, T* derivative, Index count) {
  if (derivative == nullptr) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) {
      T sigma = 0, slope = 0;
      Sigma::at(z[i], sigma, slope);
      value[i] = sigma;
    }
    return;
  }
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    T sigma = 0, slope = 0;
    Sigma::at(z[i], sigma, slope);
    value[i] = sigma;
    derivative[i] = slope;
  }
}

// sum_{k >= first} weight_k He_{k - first}(z) by Clenshaw's recurrence, weight_k being c_k, or k
// c_k for first = 1: the derivative.
template <class T>
void hermite_sum(Activation series, Index first, const T* z, T* out, Index count) {
  constexpr Index kMost = 64;
  T last[kMost] = {};
  T last_but_one[kMost] = {};
  for (Index k = series.degree; k >= first; --k) {
    const double weight = first == 0 ? 1 : static_cast<double>(k);
    const T coefficient = static_cast<T>(weight * series.coefficients[k]);
    const T back = static_cast<T>(k - first + 1);
#pragma omp simd
    for (Index i = 0; i < count; ++i) {
      const T sum = coefficient + z[i] * last[i] - back * last_but_one[i];
      last_but_one[i] = last[i];
      last[i] = sum;
    }
  }
  std::copy_n(last, count, out);
}

template <class T>
void hermite(Activation series, const T* z, T* value, T* derivative, Index count) {
  constexpr Index kBlock = 64;
  T block[kBlock];  // either may be written over z
  for (Index first = 0; first < count; first += kBlock) {
    const Index width = std::min(kBlock, count - first);
    std::copy_n(z + first, width, block);
    hermite_sum(series, 0, block, value + first, width);
    if (derivative) hermite_sum(series, 1, block, derivative + first, width);
  }
}

}  // namespace smooth

// sigma(z) without its offset, and sigma'(z) unless `derivative` is null, elementwise. Either may
// be written over z.
template <class T>
void activate(Activation activation, const T* z, T* value, T* derivative, Index count) {
  switch (activation.kind) {
    case ActivationKind::tanh:
      return smooth::apply<smooth::Tanh>(z, value, derivative, count);
    case ActivationKind::erf:
      return smooth::apply<smooth::Erf>(z, value, derivative, count);
    case ActivationKind::gelu:
      return smooth::apply<smooth::Gelu>(z, value, derivative, count);
    case ActivationKind::softplus:
      return smooth::apply<smooth::Softplus>(z, value, derivative, count);
    case ActivationKind::hermite:
      return smooth::hermite(activation, z, value, derivative, count);
    case ActivationKind::homogeneous: {
      const T slope = static_cast<T>(activation.slope);
      for (Index i = 0; i < count; ++i) {
        const bool on = z[i] > 0;
        value[i] = on ? z[i] : slope * z[i];
        if (derivative) derivative[i] = on ? T(1) : slope;
      }
    }
  }
}

}  // namespace featcore
