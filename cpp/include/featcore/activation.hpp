// Activations, by what a kernel may assume of them.
//
// Homogeneous (ReLU, leaky ReLU, linear): sigma(z) = z for z > 0 and slope*z otherwise. One bit a
// pair remembers the sign of z, and <w_j, h_j> gives the gradient of the head. Smooth: value and
// derivative are evaluated on whole tiles; the backward pass recomputes z.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>

#include "featcore/types.hpp"

namespace featcore {

enum class ActivationKind { homogeneous, tanh, erf, gelu, softplus };

struct Activation {
  ActivationKind kind = ActivationKind::homogeneous;
  double slope = 0;  // of the negative side, homogeneous only

  bool homogeneous() const { return kind == ActivationKind::homogeneous; }
};

inline Activation activation_by_name(const std::string& name, double slope) {
  if (name == "relu" || name == "leaky_relu") return {ActivationKind::homogeneous, slope};
  if (name == "tanh") return {ActivationKind::tanh, 0};
  if (name == "erf") return {ActivationKind::erf, 0};
  if (name == "gelu") return {ActivationKind::gelu, 0};
  if (name == "softplus") return {ActivationKind::softplus, 0};
  throw std::invalid_argument("unknown activation '" + name + "'");
}

namespace smooth {

// Each gives sigma(z) and sigma'(z) together, since they share their transcendental function.
template <class T>
struct Pair {
  T value;
  T derivative;
};

struct Tanh {
  template <class T>
  static Pair<T> at(T z) {
    const T t = std::tanh(z);
    return {t, (1 - t) * (1 + t)};
  }
};

struct Erf {
  template <class T>
  static Pair<T> at(T z) {
    return {std::erf(z), static_cast<T>(1.1283791670955126) * std::exp(-z * z)};
  }
};

struct Gelu {
  template <class T>
  static Pair<T> at(T z) {
    // erfc keeps relative accuracy in the left tail, where 1 + erf cancels.
    const T cdf = static_cast<T>(0.5) * std::erfc(-z * static_cast<T>(0.70710678118654752));
    const T density = static_cast<T>(0.3989422804014327) * std::exp(static_cast<T>(-0.5) * z * z);
    return {z * cdf, cdf + z * density};
  }
};

struct Softplus {
  template <class T>
  static Pair<T> at(T z) {
    const T tail = std::exp(-std::abs(z));
    const T value = (z > 0 ? z : T(0)) + std::log1p(tail);
    return {value, (z > 0 ? T(1) : tail) / (1 + tail)};
  }
};

template <class Sigma, class T>
void apply(const T* z, T* value, T* derivative, Index count) {
  for (Index i = 0; i < count; ++i) {
    const Pair<T> pair = Sigma::at(z[i]);
    value[i] = pair.value;
    if (derivative) derivative[i] = pair.derivative;
  }
}

}  // namespace smooth

// sigma(z), and sigma'(z) unless `derivative` is null, elementwise. `value` may be `z`.
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
