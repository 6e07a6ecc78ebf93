// What a flow takes in memory, before it begins.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "featcore/form_memory.hpp"

namespace featcore {

// In bytes, beyond the samples and the weights that come and go. `coordinates`: of a neuron, in the
// form; 0 while these are not known, and the span is made.
template <class T>
double flow_memory(const std::string& form, const std::string& method, const NetworkView<T>& net,
                   const std::vector<SplitView<T>>& splits, Index coordinates, int threads) {
  constexpr double kSize = sizeof(T);
  const double n = static_cast<double>(splits[0].n);
  const double m = static_cast<double>(net.m);
  const double k = static_cast<double>(coordinates);
  const double weights = kSize * m * k;
  // A copy of the samples in double: for their span, or to find those on one line.
  const double look = 8 * n * static_cast<double>(net.d);
  if (coordinates == 0) return 3 * look;
  const double common = form_memory(form, net, splits, coordinates) + look;
  if (method == "event") {
    constexpr double kBatch = 16.0 * 1024 * 1024;  // of a thread
    constexpr double kSums = 2.0 * 64 * 12;        // chunks and points, of a sample
    constexpr double kPolynomials = 1000;          // of a sample, in bytes
    constexpr double kMostGram = 6000;
    constexpr double kDouble = 8;  // in which it is carried
    double samples = n * k * (16 + kDouble) + (n <= kMostGram ? kDouble * n * n : 0.0);
    double networks = 6 * kDouble * m * k;
    if (kSize < kDouble) {  // copies to carry, and what is shown
      samples += kDouble * n * (k + static_cast<double>(net.d));
      networks += kDouble * m * k + 3 * weights;
    }
    return common + samples + n * (kSums * kDouble + kPolynomials) + threads * (kBatch + 4096 * k) +
           networks + 5 * m * n;
  }
  if (method == "hinge") {
    // of a step: where it began, where it ends, what was looked at and what is shown
    constexpr double kStates = 5;
    const double pairs = 8 * (kStates + 4) + kStates;
    const double neurons = m * (k + 1) * (8 * (kStates + 4) + kSize * kStates);
    constexpr double kSeries = 8.0 * 3 * 27;  // of a neuron and a support vector
    const double held = std::min(n, m * (k + 1));
    return common + n * (k * 24 + 8 * std::min(n, 6000.0)) + pairs * m * n + neurons +
           kSeries * m * held;
  }
  constexpr double kTiles = 64.0 * 1024 * 1024;  // the stepper has a kernel of its own
  const double stages = method == "tsit5" ? 6 : (method == "rk4" ? 4 : (method == "heun" ? 2 : 1));
  return common + kTiles + (11 + stages) * weights;
}

}  // namespace featcore
