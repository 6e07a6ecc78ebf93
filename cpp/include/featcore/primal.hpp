// The primal form: iterates W and a themselves, in panels.
#pragma once

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/kernel.hpp"

namespace featcore {

template <class T>
class PrimalForm final : public Form<T> {
 public:
  // Copies the weights; the samples must outlive the form.
  PrimalForm(const NetworkView<T>& net, Activation activation,
             const std::vector<SplitView<T>>& splits, bool signs_of_all_splits)
      : now_(net), next_(net.m, net.d) {
    for (const SplitView<T>& split : splits) {
      const bool keep = activation.homogeneous() && (splits_.empty() || signs_of_all_splits);
      splits_.push_back(std::make_unique<Split>(split, net.m, activation, keep));
    }
  }

  const char* name() const override { return "primal"; }

  double flops() const override {
    double most = 0;
    for (const auto& split : splits_) most = std::max(most, split->kernel.flops());
    return most;
  }

  const T* outputs(Index split, const Team& team) override {
    Split& s = *splits_[static_cast<std::size_t>(split)];
    s.kernel.outputs(now_, team, s.f.data());
    return s.f.data();
  }

  const Signs<T>* signs(Index split) const override {
    const Split& s = *splits_[static_cast<std::size_t>(split)];
    return s.keeps_signs ? &s.kernel.signs() : nullptr;
  }

  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay, bool measure,
                const Team& team) override {
    const Move move{static_cast<T>(step_size * rates.W), static_cast<T>(step_size * rates.a),
                    static_cast<T>(weight_decay), rates, measure};
    const PanelShape<T>& shape = now_.shape;
    infos_.assign(static_cast<std::size_t>(shape.panels()), StepInfo());
    splits_[0]->kernel.gradient_sums(now_, r, team, next_.W.data(), [&](Index p, T* h, const T* g) {
      infos_[static_cast<std::size_t>(p)] = move_panel(move, p, h, g);
    });
    StepInfo info;
    for (const StepInfo& panel : infos_) {
      info.squared_gradient += panel.squared_gradient;
      info.finite = info.finite && panel.finite;
    }
    std::swap(now_, next_);
    return info;
  }

  void undo() override { std::swap(now_, next_); }

  NetworkView<T> network() override {
    const PanelShape<T>& shape = now_.shape;
    rows_.resize(static_cast<std::size_t>(shape.m * shape.d));
    Panels<T>::rows(shape, now_.W.data(), rows_.data());
    return {shape.m, shape.d, rows_.data(), now_.a.data()};
  }

 private:
  struct Split {
    Split(const SplitView<T>& view, Index m, Activation activation, bool keep_signs)
        : keeps_signs(keep_signs),
          kernel(view.n, view.d, m, view.x, activation, keep_signs),
          f(static_cast<std::size_t>(view.n)) {}

    bool keeps_signs;
    Kernel<T> kernel;
    std::vector<T> f;
  };

  struct Move {
    T eta_W;
    T eta_a;
    T decay;
    Rates rates;
    bool measure;
  };

  // h, where the kernel left its sums, becomes the new weights in place: no gradient is stored.
  StepInfo move_panel(const Move& move, Index p, T* h, const T* g) {
    constexpr Index kPanel = PanelShape<T>::kPanel;
    constexpr T kMost = largest_sound<T>();
    const PanelShape<T>& shape = now_.shape;
    const T* w = now_.W.data() + p * shape.stride();
    const T* a = now_.a.data() + p * kPanel;
    T* a_next = next_.a.data() + p * kPanel;
    double squared[kPanel] = {};
    T bad[kPanel] = {};
    for (Index k = 0; k < shape.d; ++k) {
      T* row = h + k * kPanel;
      const T* old = w + k * kPanel;
      if (move.rates.W == 0) {
        std::copy_n(old, kPanel, row);
        continue;
      }
      if (move.measure)
        for (Index l = 0; l < kPanel; ++l) {
          const double field = static_cast<double>(a[l] * row[l] - move.decay * old[l]);
          squared[l] += field * field;
        }
      for (Index l = 0; l < kPanel; ++l) {
        row[l] = old[l] + move.eta_W * (a[l] * row[l] - move.decay * old[l]);
        bad[l] = std::abs(row[l]) <= kMost ? bad[l] : T(1);
      }
    }
    StepInfo info;
    const Index neurons = std::min(kPanel, shape.m - p * kPanel);  // padding stays zero
    for (Index l = 0; l < neurons; ++l) {
      const T field = g[l] - move.decay * a[l];
      a_next[l] = move.rates.a != 0 ? a[l] + move.eta_a * field : a[l];
      if (move.rates.a != 0) squared[l] += static_cast<double>(field) * static_cast<double>(field);
      info.squared_gradient += squared[l];
      info.finite = info.finite && bad[l] == T(0) && std::abs(a_next[l]) <= kMost;
    }
    return info;
  }

  Panels<T> now_;
  Panels<T> next_;  // after a step: the weights before it
  std::vector<T> rows_;
  std::vector<StepInfo> infos_;
  std::vector<std::unique_ptr<Split>> splits_;
};

}  // namespace featcore
