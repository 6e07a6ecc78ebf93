// What the forms share that move W within the span of fixed rows B: W = s W_0 + D^T B.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "featcore/expansion.hpp"
#include "featcore/form.hpp"
#include "featcore/kernel.hpp"

namespace featcore {

// The array `name` of a state, of the given shape.
template <class T>
const std::vector<T>& form_array(const FormState<T>& state, const std::string& name, Index rows,
                                 Index columns) {
  for (const FormArray<T>& array : state)
    if (array.name == name && array.rows == rows && array.columns == columns) return array.values;
  throw std::invalid_argument("the state has no array '" + name + "' of the right shape");
}

// A split that is only evaluated: z = s <w_0, x> + sum_k D_k <b_k, x>.
template <class T>
class CrossSplit {
 public:
  CrossSplit(const SplitView<T>& view, const NetworkView<T>& start, Index rank, const T* basis,
             Activation activation, bool keep_signs, const Team& team)
      : keeps_signs_(keep_signs),
        cross_(static_cast<std::size_t>(view.n * rank)),
        start_(products_in_panels(start, view.n, view.x, team)),
        kernel_(view.n, rank, start.m, cross_.data(), activation, keep_signs),
        f_(static_cast<std::size_t>(view.n)) {
    row_products(view.n, view.x, rank, basis, view.d, team, cross_.data());
  }

  const T* outputs(const Panels<T>& D, T scale, const Team& team) {
    kernel_.shift(start_.W.data(), scale);
    kernel_.outputs(D, team, f_.data());
    return f_.data();
  }

  const Signs<T>* signs(const Team& team) const {
    return keeps_signs_ ? &kernel_.signs(team) : nullptr;
  }
  void share_memory(const CrossSplit& other) { kernel_.share_memory(other.kernel_); }

  // <w_j, x_i> as (panel, sample, neuron), with the head of the network.
  static Panels<T> products_in_panels(const NetworkView<T>& net, Index n, const T* x,
                                      const Team& team) {
    std::vector<T> rows(static_cast<std::size_t>(net.m * n));
    row_products(net.m, net.W, n, x, net.d, team, rows.data());
    return Panels<T>(NetworkView<T>{net.m, n, rows.data(), net.a}, team);
  }

 private:
  bool keeps_signs_;
  std::vector<T> cross_;  // X B^T, (n, rank)
  Panels<T> start_;       // X W_0^T
  Kernel<T> kernel_;
  std::vector<T> f_;
};

// W_0 and the samples must outlive the form; the network's weights are those of the start, its head
// is the present one.
template <class T>
class SpanForm : public Form<T> {
 public:
  const T* outputs(Index split, const Team& team) final {
    if (split == 0) return train_outputs(team);
    return splits_[static_cast<std::size_t>(split - 1)]->outputs(coefficients(), scale_, team);
  }

  const Signs<T>* signs(Index split, const Team& team) const final {
    return split == 0 ? train_signs(team)
                      : splits_[static_cast<std::size_t>(split - 1)]->signs(team);
  }

  void train_on(const SplitView<T>&) final {
    throw std::logic_error("only the primal form can be trained on other samples");
  }

  const Weights<T>& weights() final {
    if (!weights_) {
      const Panels<T>& D = coefficients();
      const Panels<T>& P = products();
      weights_ = std::make_unique<ExpandedWeights<T>>(
          Expansion<T>{{start_.m, start_.d, start_.W, P.a.data()},
                       scale_,
                       rank_,
                       basis_,
                       &D,
                       &P,
                       &start_products_},
          constants_);
    }
    return *weights_;
  }

 protected:
  // `basis` is (rank, d).
  SpanForm(const NetworkView<T>& start, Index rank, const T* basis, T scale,
           const std::vector<SplitView<T>>& splits, Activation activation, bool signs_of_all_splits,
           const Team& team)
      : start_(start),
        rank_(rank),
        basis_(basis),
        scale_(scale),
        start_products_(CrossSplit<T>::products_in_panels(start, rank, basis, team)) {
    for (std::size_t k = 1; k < splits.size(); ++k) {
      splits_.push_back(std::make_unique<CrossSplit<T>>(splits[k], start, rank, basis, activation,
                                                        signs_of_all_splits && activation.by_sign(),
                                                        team));
      splits_.back()->share_memory(*splits_.front());
    }
  }

  virtual const T* train_outputs(const Team& team) = 0;
  virtual const Signs<T>* train_signs(const Team& team) const = 0;
  virtual const Panels<T>& coefficients() = 0;  // D, with the present head
  virtual const Panels<T>& products() = 0;      // W B^T, with the present head

  // After every step: `keep` is what remains of W_0.
  void moved(T keep) {
    previous_scale_ = scale_;
    scale_ *= keep;
    weights_.reset();
  }
  void moved_back() {
    scale_ = previous_scale_;
    weights_.reset();
  }
  void moved_to(T scale) {
    scale_ = scale;
    weights_.reset();
  }

  FormState<T> span_state() const {
    return {{"start", start_.m, start_.d, {start_.W, start_.W + start_.m * start_.d}},
            {"scale", 1, 1, {scale_}}};
  }

  static std::vector<T> rows(const Panels<T>& panels) {
    std::vector<T> values(static_cast<std::size_t>(panels.shape.m * panels.shape.d));
    Panels<T>::rows(panels.shape, panels.W.data(), values.data());
    return values;
  }

  const NetworkView<T>& start() const { return start_; }
  const T* basis() const { return basis_; }
  const Panels<T>& start_products() const { return start_products_; }
  Panels<T>& start_products() { return start_products_; }
  T scale() const { return scale_; }
  const std::vector<double>& start_squares(const Team& team) {
    return constants_.squared_norms(start_, team);
  }

 private:
  NetworkView<T> start_;
  Index rank_;
  const T* basis_;
  T scale_;
  T previous_scale_ = 1;
  Panels<T> start_products_;
  ExpansionConstants<T> constants_;
  std::vector<std::unique_ptr<CrossSplit<T>>> splits_;
  std::unique_ptr<ExpandedWeights<T>> weights_;
};

}  // namespace featcore
