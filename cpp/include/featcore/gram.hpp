// The Gram form: iterates the pre-activations Z = W X^T themselves, and the coefficients C of
// W = s W_0 + C^T X. With B_ij = a_j r_i sigma'(z_ij), a step of size eta under weight decay lambda
// is
//
//   Z <- (1 - eta lambda) Z + eta B^T G,   C <- (1 - eta lambda) C + eta B,   s <- (1 - eta lambda)
//   s
//
// with G = X X^T: 2 n^2 m flops instead of 4 n m d. Exact by algebra (docs/kernels.md).
#pragma once

#include <utility>
#include <vector>

#include "featcore/layer_move.hpp"
#include "featcore/span_form.hpp"

namespace featcore {

template <class T>
class GramForm final : public SpanForm<T> {
 public:
  // From the start of a run, or where `state` was left.
  GramForm(const NetworkView<T>& start, Activation activation,
           const std::vector<SplitView<T>>& splits, bool signs_of_all_splits,
           const FormState<T>* state, const Team& team)
      : SpanForm<T>(start, splits[0].n, splits[0].x,
                    state ? form_array(*state, "scale", 1, 1)[0] : T(1), splits, activation,
                    signs_of_all_splits, team),
        n_(splits[0].n),
        activation_(activation),
        gram_(static_cast<std::size_t>(n_ * n_)),
        kernel_(n_, n_, start.m, gram_.data(), activation, activation.homogeneous()),
        f_(static_cast<std::size_t>(n_)) {
    row_gram(n_, splits[0].x, start.d, team, gram_.data());
    const auto panels = [&](const char* name) {
      const std::vector<T>& values = form_array(*state, name, start.m, n_);
      return Panels<T>(NetworkView<T>{start.m, n_, values.data(), start.a});
    };
    if (state) {
      now_ = {panels("pre_activations"), panels("coefficients")};
    } else {
      now_ = {copy(this->start_products()), Panels<T>(start.m, n_)};
      std::copy_n(start.a, start.m, now_.C.a.data());
    }
    next_ = {Panels<T>(start.m, n_), Panels<T>(start.m, n_)};
  }

  const char* name() const override { return "gram"; }
  double flops() const override { return kernel_.flops(); }

  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay, bool measure,
                const Team& team) override {
    const LayerMove<T> move(step_size, rates, weight_decay, measure);
    const PanelShape<T>& shape = now_.Z.shape;
    if (measure && weight_decay != 0) this->start_squares(team);  // once, not by many threads
    infos_.assign(static_cast<std::size_t>(shape.panels()), StepInfo());
    kernel_.give(now_.Z.W.data());
    kernel_.gradient_sums(now_.Z, r, team, next_.Z.W.data(), [&](Index p, T* h, const T* g) {
      constexpr Index kPanel = PanelShape<T>::kPanel;
      const Index offset = p * shape.stride();
      const T* z = now_.Z.W.data() + offset;
      const T* a = now_.Z.a.data() + p * kPanel;
      T* b = next_.C.W.data() + offset;
      weigh(r, p, z, b);
      StepInfo& info = infos_[static_cast<std::size_t>(p)];
      if (measure && move.moves_W) info.squared_gradient = squared_field(move, p, h, b, team);
      info.finite = move.weights(n_, z, a, h);
      info.finite = move.weights(n_, now_.C.W.data() + offset, a, b) && info.finite;
      move.head(shape.neurons(p), a, g, next_.Z.a.data() + p * kPanel, info);
      std::copy_n(next_.Z.a.data() + p * kPanel, kPanel, next_.C.a.data() + p * kPanel);
    });
    std::swap(now_, next_);
    this->moved(move.moves_W ? 1 - move.eta_W * move.decay : T(1));
    return total(infos_);
  }

  void undo() override {
    std::swap(now_, next_);
    this->moved_back();
  }

  FormState<T> state() const override {
    FormState<T> state = this->span_state();
    const Index m = now_.Z.shape.m;
    state.push_back({"pre_activations", m, n_, this->rows(now_.Z)});
    state.push_back({"coefficients", m, n_, this->rows(now_.C)});
    return state;
  }

 protected:
  const T* train_outputs(const Team& team) override {
    kernel_.give(now_.Z.W.data());
    kernel_.outputs(now_.Z, team, f_.data());
    return f_.data();
  }
  const Signs<T>* train_signs() const override {
    return activation_.homogeneous() ? &kernel_.signs() : nullptr;
  }
  const Panels<T>& coefficients() override { return now_.C; }
  const Panels<T>& products() override { return now_.Z; }

 private:
  struct Point {
    Panels<T> Z;
    Panels<T> C;
  };

  static Panels<T> copy(const Panels<T>& from) {
    Panels<T> to(from.shape.m, from.shape.d);
    std::copy_n(from.W.data(), from.W.size(), to.W.data());
    std::copy_n(from.a.data(), from.a.size(), to.a.data());
    return to;
  }

  // b = r sigma'(z), (n, kPanel).
  void weigh(const T* r, Index p, const T* z, T* b) const {
    using S = Simd<T>;
    constexpr Index kPanel = PanelShape<T>::kPanel;
    if (activation_.homogeneous()) {
      const auto* words = kernel_.signs().panel(p);
      const T slope = static_cast<T>(activation_.slope);
      for (Index i = 0; i < n_; ++i) {
        typename S::Vector row[kPanelVectors];
        micro::weigh<T, kPanelVectors, true>(words + i, r[i], slope, row);
        micro::unroll<kPanelVectors>(
            FEATCORE_EACH(v) { S::store(b + i * kPanel + v * S::kLanes, row[v]); });
      }
      return;
    }
    T value[kPanel];
    for (Index i = 0; i < n_; ++i) {
      activate<T>(activation_, z + i * kPanel, value, b + i * kPanel, kPanel);
      for (Index l = 0; l < kPanel; ++l) b[i * kPanel + l] *= r[i];
    }
  }

  // |lambda W - B^T X|^2 over a panel, from h = B^T G / a and b = B / a:
  // sum_i B_i (B^T G - 2 lambda Z)_i + lambda^2 |w|^2.
  double squared_field(const LayerMove<T>& move, Index p, const T* h, const T* b,
                       const Team& team) {
    constexpr Index kPanel = PanelShape<T>::kPanel;
    const PanelShape<T>& shape = now_.Z.shape;
    const Index offset = p * shape.stride();
    const T* z = now_.Z.W.data() + offset;
    const T* z_start = this->start_products().W.data() + offset;
    const T* c = now_.C.W.data() + offset;
    const T* a = now_.Z.a.data() + p * kPanel;
    const double decay = static_cast<double>(move.decay);
    const double s = static_cast<double>(this->scale());
    double squared[kPanel] = {};
    for (Index i = 0; i < n_; ++i)
      for (Index l = 0; l < kPanel; ++l) {
        const Index q = i * kPanel + l;
        const double B = static_cast<double>(a[l] * b[q]);
        squared[l] +=
            B * (static_cast<double>(a[l] * h[q]) - 2 * decay * static_cast<double>(z[q]));
        if (decay != 0)
          squared[l] += decay * decay * static_cast<double>(c[q]) *
                        (s * static_cast<double>(z_start[q]) + static_cast<double>(z[q]));
      }
    double sum = 0;
    for (Index l = 0; l < shape.neurons(p); ++l) {
      if (decay != 0)
        squared[l] += decay * decay * s * s *
                      this->start_squares(team)[static_cast<std::size_t>(p * kPanel + l)];
      sum += std::max(0.0, squared[l]);
    }
    return sum;
  }

  Index n_;
  Activation activation_;
  std::vector<T> gram_;  // X X^T
  Kernel<T> kernel_;
  std::vector<T> f_;
  Point now_;
  Point next_;  // after a step: the point before it
  std::vector<StepInfo> infos_;
};

}  // namespace featcore
