// The primal form: iterates W and a themselves, in panels.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/kernel.hpp"
#include "featcore/layer_move.hpp"
#include "featcore/row_weights.hpp"

namespace featcore {

template <class T>
class PrimalForm final : public Form<T> {
 public:
  // Copies the weights; the samples must outlive the form.
  PrimalForm(const NetworkView<T>& net, Activation activation,
             const std::vector<SplitView<T>>& splits, bool signs_of_all_splits, const Team& team)
      : now_(net, team), next_(net.m, net.d, team), activation_(activation) {
    for (const SplitView<T>& split : splits) {
      const bool keep = activation.by_sign() && (splits_.empty() || signs_of_all_splits);
      splits_.push_back(std::make_unique<Split>(split, net.m, activation, keep));
      // The training outputs may be begun while others are made.
      if (splits_.size() > 2) splits_.back()->kernel.share_memory(splits_[1]->kernel);
    }
  }

  // Goes on from weights of the same shape.
  void place(const NetworkView<T>& net, const Team& team) {
    now_ = Panels<T>(net, team);
    weights_.reset();
    begun_ = false;
  }

  void train_on(const SplitView<T>& split) override {
    splits_.front() =
        std::make_unique<Split>(split, now_.shape.m, activation_, activation_.by_sign());
    begun_ = false;
    keeps_samples_ = false;
  }

  const char* name() const override { return "primal"; }

  double flops() const override {
    double most = 0;
    for (const auto& split : splits_) most = std::max(most, split->kernel.flops());
    return most;
  }

  const T* outputs(Index split, const Team& team) override {
    Split& s = *splits_[static_cast<std::size_t>(split)];
    if (split == 0 && begun_)
      s.kernel.begun_outputs(team, s.f.data(), [](Index, Index) {});
    else
      s.kernel.outputs(now_, team, s.f.data());
    return s.f.data();
  }

  const Signs<T>* signs(Index split, const Team& team) const override {
    const Split& s = *splits_[static_cast<std::size_t>(split)];
    return s.keeps_signs ? &s.kernel.signs(team) : nullptr;
  }

  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay, bool measure,
                const Team& team) override {
    const LayerMove<T> move(step_size, rates, weight_decay, measure);
    const PanelShape<T>& shape = now_.shape;
    infos_.assign(static_cast<std::size_t>(shape.panels()), StepInfo());
    Kernel<T>& kernel = splits_[0]->kernel;
    const auto move_panel = [&](Index p, T* h, const T* g) {
      constexpr Index kPanel = PanelShape<T>::kPanel;
      const T* w = now_.W.data() + p * shape.stride();
      const T* a = now_.a.data() + p * kPanel;
      StepInfo& info = infos_[static_cast<std::size_t>(p)];
      if (measure) info.squared_gradient = move.squared_field(shape.d, w, a, h);
      info.finite = move.weights(shape.d, w, a, h);
      move.head(shape.neurons(p), a, g, next_.a.data() + p * kPanel, info);
    };
    // A step that may be taken back for its gradient leaves the signs of the outputs alone.
    const bool ahead = !measure && keeps_samples_ && kernel.can_begin_outputs();
    begun_ = false;  // also if this is stopped: what was begun is overwritten
    kernel.gradient_sums(now_, r, team, next_.W.data(), move_panel, ahead ? &next_ : nullptr);
    swap();
    begun_ = ahead;
    return total(infos_);
  }

  void undo() override { swap(); }

  const Weights<T>& weights() override {
    if (!weights_) {
      const PanelShape<T>& shape = now_.shape;
      weights_ = std::make_unique<RowWeights<T>>(
          shape.m, shape.d, now_.a.data(),
          [this](const Team& team, T* W) { Panels<T>::rows(now_.shape, now_.W.data(), team, W); });
    }
    return *weights_;
  }

  const Panels<T>& panels() const { return now_; }

  FormState<T> state() const override { return {}; }

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

  void swap() {
    std::swap(now_, next_);
    weights_.reset();
    begun_ = false;
  }

  Panels<T> now_;
  Panels<T> next_;  // after a step: the weights before it
  Activation activation_;
  std::unique_ptr<RowWeights<T>> weights_;  // of now_, once asked for
  std::vector<StepInfo> infos_;
  bool begun_ = false;         // the outputs of now_ on split 0, by the step that led there
  bool keeps_samples_ = true;  // split 0 is trained on in every step
  std::vector<std::unique_ptr<Split>> splits_;
};

}  // namespace featcore
