// The Gram form: iterates the pre-activations Z = W X^T themselves, and the coefficients C of
// W = s W_0 + C^T X. With B_ij = a_j r_i sigma'(z_ij), a step of size eta under weight decay lambda
// is
//
//   Z <- (1 - eta lambda) Z + eta B^T G,   C <- (1 - eta lambda) C + eta B,   s <- (1 - eta lambda)
//   s
//
// with G = X X^T: 2 n^2 m flops instead of 4 n m d. Exact by algebra (docs/kernels.md).
#pragma once

#include <algorithm>
#include <cmath>
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
        kernel_(n_, n_, start.m, gram_.data(), activation, activation.by_sign()),
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
    fields_.assign(static_cast<std::size_t>(shape.panels()), Square());
    kernel_.give(now_.Z.W.data());
    kernel_.gradient_sums(now_.Z, r, team, next_.Z.W.data(), [&](Index p, T* h, const T* g) {
      constexpr Index kPanel = PanelShape<T>::kPanel;
      const Index offset = p * shape.stride();
      const T* z = now_.Z.W.data() + offset;
      const T* a = now_.Z.a.data() + p * kPanel;
      T* b = next_.C.W.data() + offset;
      weigh(r, p, z, b, team);
      StepInfo& info = infos_[static_cast<std::size_t>(p)];
      if (measure && move.moves_W)
        fields_[static_cast<std::size_t>(p)] = squared_field(move, p, h, b, team);
      info.finite = move.weights(n_, z, a, h);
      info.finite = move.weights(n_, now_.C.W.data() + offset, a, b) && info.finite;
      move.head(shape.neurons(p), a, g, next_.Z.a.data() + p * kPanel, info);
      std::copy_n(next_.Z.a.data() + p * kPanel, kPanel, next_.C.a.data() + p * kPanel);
    });
    StepInfo info = total(infos_);
    if (measure && move.moves_W) info.squared_gradient += squared_field(move, r, team);
    std::swap(now_, next_);
    this->moved(move.moves_W ? 1 - move.eta_W * move.decay : T(1));
    return info;
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
  const Signs<T>* train_signs(const Team& team) const override {
    return activation_.by_sign() ? &kernel_.signs(team) : nullptr;
  }
  const Panels<T>& coefficients() override { return now_.C; }
  const Panels<T>& products() override { return now_.Z; }

 private:
  struct Point {
    Panels<T> Z;
    Panels<T> C;
  };

  // A square, and the size of what it is the sum of: far above, if terms cancel.
  struct Square {
    double value = 0;
    double size = 0;
  };

  static Panels<T> copy(const Panels<T>& from) {
    Panels<T> to(from.shape.m, from.shape.d);
    std::copy_n(from.W.data(), from.W.size(), to.W.data());
    std::copy_n(from.a.data(), from.a.size(), to.a.data());
    return to;
  }

  // b = r sigma'(z), (n, kPanel).
  void weigh(const T* r, Index p, const T* z, T* b, const Team& team) const {
    using S = Simd<T>;
    constexpr Index kPanel = PanelShape<T>::kPanel;
    if (activation_.by_sign()) {
      const auto* words = kernel_.signs(team).panel(p);
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
  Square squared_field(const LayerMove<T>& move, Index p, const T* h, const T* b,
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
    double value[kPanel] = {};
    double size[kPanel] = {};
    const auto add = [&](Index l, double term) {
      value[l] += term;
      size[l] += std::abs(term);
    };
    for (Index i = 0; i < n_; ++i) {
      const double square = static_cast<double>(gram_[static_cast<std::size_t>(i * n_ + i)]);
      for (Index l = 0; l < kPanel; ++l) {
        const Index q = i * kPanel + l;
        const double B = static_cast<double>(a[l] * b[q]);
        add(l, B * static_cast<double>(a[l] * h[q]));
        size[l] += B * B * square;  // B^T G may cancel too
        if (decay == 0) continue;
        add(l, -2 * decay * B * static_cast<double>(z[q]));
        add(l, decay * decay * static_cast<double>(c[q]) *
                   (s * static_cast<double>(z_start[q]) + static_cast<double>(z[q])));
      }
    }
    Square sum;
    for (Index l = 0; l < shape.neurons(p); ++l) {
      if (decay != 0)
        add(l, decay * decay * s * s *
                   this->start_squares(team)[static_cast<std::size_t>(p * kPanel + l)]);
      sum.value += value[l];
      sum.size += size[l];
    }
    return sum;
  }

  // Of all panels, from fields_; where that has lost its digits, from the field itself.
  double squared_field(const LayerMove<T>& move, const T* r, const Team& team) {
    constexpr double kDigitsKept = 1e-2;
    Square all;
    for (const Square& field : fields_) {
      all.value += field.value;
      all.size += field.size;
    }
    if (all.value >= kDigitsKept * all.size) return all.value;
    constexpr Index kPanel = PanelShape<T>::kPanel;
    const PanelShape<T>& shape = now_.Z.shape;
    const NetworkView<T>& start = this->start();
    const Index d = start.d;
    const double decay = static_cast<double>(move.decay);
    const double s = static_cast<double>(this->scale());
    team.for_each(shape.panels(), [&](Index p, const Worker& worker) {
      const Index offset = p * shape.stride();
      const T* c = now_.C.W.data() + offset;
      const T* a = now_.C.a.data() + p * kPanel;
      Buffer<T> b(shape.stride());
      weigh(r, p, now_.Z.W.data() + offset, b.data(), team);
      std::vector<double> field(static_cast<std::size_t>(d));
      double sum = 0;
      for (Index l = 0; l < shape.neurons(p); ++l) {
        if (worker.stop(4.0 * static_cast<double>(n_ * d))) return;
        const T* w = start.W + (p * kPanel + l) * d;
        for (Index k = 0; k < d; ++k)
          field[static_cast<std::size_t>(k)] = -decay * s * static_cast<double>(w[k]);
        for (Index i = 0; i < n_; ++i) {
          const Index q = i * kPanel + l;
          const double weight =
              static_cast<double>(a[l] * b.data()[q]) - decay * static_cast<double>(c[q]);
          const T* x = this->basis() + i * d;
          for (Index k = 0; k < d; ++k)
            field[static_cast<std::size_t>(k)] += weight * static_cast<double>(x[k]);
        }
        sum += squared_norm(field.data(), d);
      }
      fields_[static_cast<std::size_t>(p)].value = sum;
    });
    double sum = 0;
    for (const Square& field : fields_) sum += field.value;
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
  std::vector<Square> fields_;  // |gradient|^2 with respect to W, a panel each
};

}  // namespace featcore
