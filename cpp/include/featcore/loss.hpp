// Losses of one sample: value, residual r = -dl/df, and log-domain value. u = y f.
#pragma once

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "featcore/transcendental.hpp"

namespace featcore {

enum class Loss { logistic, exponential, hinge, squared };

inline Loss loss_by_name(const std::string& name) {
  if (name == "logistic") return Loss::logistic;
  if (name == "exponential") return Loss::exponential;
  if (name == "hinge") return Loss::hinge;
  if (name == "squared") return Loss::squared;
  throw std::invalid_argument("unknown loss '" + name + "'");
}

// Values are always double: a mean over many samples must not drift in float32.
inline double loss_value(Loss loss, double f, double y) {
  const double u = y * f;
  switch (loss) {
    case Loss::logistic:
      return (u > 0 ? 0.0 : -u) + std::log1p(std::exp(-std::abs(u)));
    case Loss::exponential:
      return std::exp(-u);
    case Loss::hinge:
      return u < 1 ? 1 - u : (u >= 1 ? 0 : std::numeric_limits<double>::quiet_NaN());
    case Loss::squared:
      return 0.5 * (f - y) * (f - y);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// log l, accurate where l itself underflows; -inf where l is exactly zero.
inline double log_loss_value(Loss loss, double f, double y) {
  const double u = y * f;
  if (loss == Loss::exponential) return -u;
  // log log(1 + e^-u) = -u - e^-u/2 + ..., and e^-37 is below rounding
  if (loss == Loss::logistic && u > 37) return -u;
  return std::log(loss_value(loss, f, y));
}

// The margin u at which one sample has the loss e^log_loss.
inline double margin_of_log_loss(Loss loss, double log_loss) {
  switch (loss) {
    case Loss::exponential:
      return -log_loss;
    case Loss::logistic: {  // -log(e^l - 1)
      if (log_loss < -37) return -log_loss;
      const double l = std::exp(log_loss);
      return l > 1 ? -l - std::log1p(-std::exp(-l)) : -std::log(std::expm1(l));
    }
    case Loss::hinge:
    case Loss::squared:
      break;
  }
  throw std::invalid_argument("only the logistic and the exponential loss tell a margin");
}

// Without branches, so that a loop over samples becomes vectors.
template <class T>
[[gnu::always_inline]] inline T logistic_residual(T f, T y) {
  const T u = y * f;
  const T tail = transcendental::exp<true>(u > 0 ? -u : u);
  return y * (u > 0 ? tail : T(1)) / (1 + tail);
}

template <class T>
T residual(Loss loss, T f, T y) {
  const T u = y * f;
  switch (loss) {
    case Loss::logistic:
      return logistic_residual(f, y);
    case Loss::exponential:
      return y * std::exp(-u);
    case Loss::hinge:
      return u < 1 ? y : T(0);
    case Loss::squared:
      return y - f;
  }
  return std::numeric_limits<T>::quiet_NaN();
}

// e^shift times the residual, right where that itself underflows: logistic and exponential loss.
template <class T>
T shifted_residual(Loss loss, T f, T y, double shift) {
  const double u = static_cast<double>(y) * static_cast<double>(f);
  const double size = loss == Loss::exponential ? std::exp(shift - u)
                                                : 1 / (std::exp(-shift) + std::exp(u - shift));
  return y * static_cast<T>(size);
}

}  // namespace featcore
