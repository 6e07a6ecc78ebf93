// One gradient step on a panel, from the sums that the kernel left: h becomes the new weights in
// place, so that no gradient is stored.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/panels.hpp"

namespace featcore {

template <class T>
struct LayerMove {
  LayerMove(double step_size, const Rates& rates, double weight_decay, bool measure_)
      : eta_W(static_cast<T>(step_size * rates.W)),
        eta_a(static_cast<T>(step_size * rates.a)),
        decay(static_cast<T>(weight_decay)),
        moves_W(rates.W != 0),
        moves_a(rates.a != 0),
        measure(measure_) {}

  // h <- w + eta (a h - decay w), for `inputs` rows of a panel; false if a new weight is not sound.
  bool weights(Index inputs, const T* w, const T* a, T* h) const {
    using S = Simd<T>;
    using Vector = typename S::Vector;
    const Index count = inputs * S::kPanel;
    if (!moves_W) {
      std::copy_n(w, count, h);
      return true;
    }
    const Vector eta = S::fill(eta_W);
    const Vector shrink = S::fill(decay);
    // Beyond largest_sound() a number times this is infinite, and infinity less itself no number.
    const Vector probe = S::fill(std::numeric_limits<T>::max() / largest_sound<T>());
    Vector unsound{};
    for (Index first = 0; first < count; first += S::kPanel)
      for (int v = 0; v < kPanelVectors; ++v) {
        const Index q = first + v * S::kLanes;
        const Vector old = S::load(w + q);
        const Vector field = S::load(a + v * S::kLanes) * S::load(h + q) - shrink * old;
        const Vector moved = old + eta * field;
        S::store(h + q, moved);
        // NOLINTNEXTLINE(misc-redundant-expression): not where it is infinite
        unsound += moved * probe - moved * probe;
      }
    return S::sum(unsound) == 0;
  }

  // |a h - decay w|^2 over `inputs` rows of a panel.
  double squared_field(Index inputs, const T* w, const T* a, const T* h) const {
    constexpr Index kPanel = PanelShape<T>::kPanel;
    double sum = 0;
    for (Index q = 0; moves_W && q < inputs * kPanel; ++q) {
      const double field = static_cast<double>(a[q % kPanel] * h[q] - decay * w[q]);
      sum += field * field;
    }
    return sum;
  }

  // a_next <- a + eta (g - decay a) for the neurons of a panel; padding stays zero.
  void head(Index neurons, const T* a, const T* g, T* a_next, StepInfo& info) const {
    if (!moves_a) {
      std::copy_n(a, neurons, a_next);
      return;
    }
    int unsound = 0;
    for (Index l = 0; l < neurons; ++l) {
      const T moved = a[l] + eta_a * (g[l] - decay * a[l]);
      a_next[l] = moved;
      unsound |= static_cast<int>(!(std::abs(moved) <= largest_sound<T>()));
    }
    info.finite = info.finite && unsound == 0;
    if (!measure) return;
    double sum = 0;
    for (Index l = 0; l < neurons; ++l) {
      const double field = static_cast<double>(g[l] - decay * a[l]);
      sum += field * field;
    }
    info.squared_gradient += sum;
  }

  T eta_W;
  T eta_a;
  T decay;
  bool moves_W;
  bool moves_a;
  bool measure;  // the gradient
};

// Of all panels, in their order.
inline StepInfo total(const std::vector<StepInfo>& panels) {
  StepInfo info;
  for (const StepInfo& panel : panels) {
    info.squared_gradient += panel.squared_gradient;
    info.finite = info.finite && panel.finite;
  }
  return info;
}

}  // namespace featcore
