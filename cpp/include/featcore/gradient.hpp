// The objective of a network on one split, and its gradient.
#pragma once

#include <vector>

#include "featcore/kernel.hpp"
#include "featcore/objective.hpp"

namespace featcore {

// Returns the objective and writes its gradient with respect to W, (m, d), and a, (m,).
template <class T>
double loss_and_gradient(const NetworkView<T>& net, Activation activation,
                         const Objective<T>& objective, const Team& team, T* grad_W, T* grad_a) {
  const DefaultFloats floats;
  constexpr Index kPanel = PanelShape<T>::kPanel;
  const SplitView<T>& split = objective.split();
  const ObjectiveSpec& spec = objective.spec();
  Kernel<T> kernel(split.n, split.d, net.m, split.x, activation, activation.homogeneous());
  const Panels<T> panels(net, team);
  Buffer<T> sums(panels.W.size());
  std::vector<T> f(static_cast<std::size_t>(split.n));
  std::vector<T> r(f.size());
  kernel.outputs(panels, team, f.data(), [&](Index begin, Index end) {
    objective.residuals(begin, end, f.data(), r.data());
  });
  const T decay = static_cast<T>(spec.weight_decay);
  kernel.gradient_sums(panels, r.data(), team, sums.data(), [&](Index p, T* h, const T* g) {
    const T* w = panels.W.data() + p * panels.shape.stride();
    const T* a = panels.a.data() + p * kPanel;
    for (Index k = 0; k < net.d; ++k)
      for (Index l = 0; l < kPanel; ++l)
        h[k * kPanel + l] = decay * w[k * kPanel + l] - a[l] * h[k * kPanel + l];
    for (Index l = 0; l < std::min(kPanel, net.m - p * kPanel); ++l)
      grad_a[p * kPanel + l] = decay * a[l] - g[l];
  });
  Panels<T>::rows(panels.shape, sums.data(), team, grad_W);
  double value = objective.loss(f.data(), team) + objective.output_penalty(f.data());
  if (spec.weight_decay != 0) value += 0.5 * spec.weight_decay * parameter_norm_squared(net);
  return value;
}

// f on the rows of x, (n, d).
template <class T>
void network_outputs(const NetworkView<T>& net, Activation activation, Index n, const T* x,
                     const Team& team, T* f) {
  const DefaultFloats floats;
  Kernel<T> kernel(n, net.d, net.m, x, activation, false);
  kernel.outputs(Panels<T>(net, team), team, f);
}

}  // namespace featcore
