// The primal form: iterates W and a themselves.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
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
      : m_(net.m),
        d_(net.d),
        W_(net.W, net.W + net.m * net.d),
        a_(net.a, net.a + net.m),
        W_next_(W_.size()),
        a_next_(a_.size()) {
    for (const SplitView<T>& split : splits) {
      const bool keep = activation.homogeneous() && (splits_.empty() || signs_of_all_splits);
      splits_.push_back(std::make_unique<Split>(split, m_, activation, keep));
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
    s.kernel.outputs(W_.data(), a_.data(), team, s.f.data());
    return s.f.data();
  }

  const Signs<T>* signs(Index split) const override {
    const Split& s = *splits_[static_cast<std::size_t>(split)];
    return s.keeps_signs ? &s.kernel.signs() : nullptr;
  }

  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay,
                const Team& team) override {
    const T eta_W = static_cast<T>(step_size * rates.W);
    const T eta_a = static_cast<T>(step_size * rates.a);
    const T decay = static_cast<T>(weight_decay);
    constexpr T kMost = std::numeric_limits<T>::max();
    squared_.assign(static_cast<std::size_t>(m_), 0.0);
    finite_.assign(static_cast<std::size_t>(m_), 1);
    splits_[0]->kernel.gradient_sums(
        W_.data(), r, team, W_next_.data(), [&](Index j, T* h, T head) {
          // h becomes the new row in place: no gradient is stored.
          const T a = a_[static_cast<std::size_t>(j)];
          const ConstVector<T> w(W_.data() + j * d_, d_);
          Eigen::Map<Vector<T>> row(h, d_);
          const T field_a = head - decay * a;
          double squared = 0;
          if (rates.W != 0) {
            row = a * row - decay * w;
            squared += row.template cast<double>().squaredNorm();
            row = w + eta_W * row;
          } else {
            row = w;
          }
          if (rates.a != 0) squared += static_cast<double>(field_a) * static_cast<double>(field_a);
          a_next_[static_cast<std::size_t>(j)] = rates.a != 0 ? a + eta_a * field_a : a;
          squared_[static_cast<std::size_t>(j)] = squared;
          finite_[static_cast<std::size_t>(j)] =
              row.cwiseAbs().template maxCoeff<Eigen::PropagateNaN>() <= kMost &&
              std::abs(a_next_[static_cast<std::size_t>(j)]) <= kMost;
        });
    StepInfo info;
    for (Index j = 0; j < m_; ++j) {
      info.squared_gradient += squared_[static_cast<std::size_t>(j)];
      info.finite = info.finite && finite_[static_cast<std::size_t>(j)];
    }
    swap();
    return info;
  }

  void undo() override { swap(); }

  NetworkView<T> network() override { return {m_, d_, W_.data(), a_.data()}; }

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
    W_.swap(W_next_);
    a_.swap(a_next_);
  }

  Index m_;
  Index d_;
  std::vector<T> W_;
  std::vector<T> a_;
  std::vector<T> W_next_;  // after a step: the weights before it
  std::vector<T> a_next_;
  std::vector<double> squared_;
  std::vector<char> finite_;
  std::vector<std::unique_ptr<Split>> splits_;
};

}  // namespace featcore
