// The objective of a network on one split, its gradient, and one step along it.
#pragma once

#include <vector>

#include "featcore/kernel.hpp"
#include "featcore/layer_move.hpp"
#include "featcore/objective.hpp"
#include "featcore/smooth_step.hpp"

namespace featcore {

// Returns the objective and writes its gradient with respect to W, (m, d), and a, (m,).
template <class T>
double loss_and_gradient(const NetworkView<T>& net, Activation activation,
                         const Objective<T>& objective, const Team& team, T* grad_W, T* grad_a) {
  const DefaultFloats floats;
  constexpr Index kPanel = PanelShape<T>::kPanel;
  const SplitView<T>& split = objective.split();
  const ObjectiveSpec& spec = objective.spec();
  Kernel<T> kernel(split.n, split.d, net.m, split.x, activation, activation.by_sign());
  const Panels<T> panels(net, team);
  auto sums = Buffer<T>::unset(panels.W.size());
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

// W + eta G, (m, d), with G_j = sum_i p_i r_i a_j sigma'(z_ij) x_i, p_i = weight_i / sum of
// weights, and r_i = y_i - f_i, or y_i unless `full`: a step of the squared loss, or of its first
// order in a.
template <class T>
void first_layer_step(const NetworkView<T>& net, Activation activation, const SplitView<T>& split,
                      bool full, double step_size, const Team& team, T* out) {
  const DefaultFloats floats;
  constexpr Index kPanel = PanelShape<T>::kPanel;
  const Objective<T> objective({Loss::squared, true, 0, 0}, split);
  const LayerMove<T> move(step_size, Rates{1, 0}, 0, false);
  std::vector<T> f(static_cast<std::size_t>(split.n));
  std::vector<T> r(f.size());
  if (!full) {
    objective.residuals(0, split.n, f.data(), r.data());
    if (smooth_step_pays<T>(activation, split.n, net.d, net.m)) {
      smooth_step(net, activation, split.n, split.x, r.data(), move, team, out);
      return;
    }
  }
  Kernel<T> kernel(split.n, split.d, net.m, split.x, activation, activation.by_sign());
  kernel.allow_copy();
  const Panels<T> panels(net, team);
  auto sums = Buffer<T>::unset(panels.W.size());
  // Where the sign of z says sigma', the sums need outputs to have been made.
  if (full || activation.by_sign()) {
    team.monitor().stage(kernel.share_of_outputs(), kernel.flops() / team.threads());
    kernel.outputs(panels, team, f.data());
  }
  if (full) objective.residuals(0, split.n, f.data(), r.data());
  team.monitor().stage(1, kernel.work_of_sums() / team.threads());
  kernel.gradient_sums(panels, r.data(), team, sums.data(), [&](Index p, T* h, const T*) {
    move.weights(net.d, panels.W.data() + p * panels.shape.stride(), panels.a.data() + p * kPanel,
                 h);
  });
  Panels<T>::rows(panels.shape, sums.data(), team, out);
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
