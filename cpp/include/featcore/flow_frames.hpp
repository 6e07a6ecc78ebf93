// The coordinates of flows, and which of them a flow takes.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "featcore/flow_frame.hpp"
#include "featcore/forms.hpp"
#include "featcore/observables.hpp"
#include "featcore/scaled_frame.hpp"

namespace featcore {

// The weights themselves.
template <class T>
class WholeFrame final : public FlowFrame<T> {
 public:
  WholeFrame(const NetworkView<T>& net, Activation activation,
             const std::vector<SplitView<T>>& splits, bool signs_of_all_splits)
      : net_(net), activation_(activation), splits_(splits), signs_(signs_of_all_splits) {}

  const char* name() const override { return "primal"; }
  NetworkView<T> start() const override { return net_; }
  SplitView<T> samples() const override { return splits_.front(); }
  double zero() const override { return 0; }

  void visit(const FlowPoint<T>& point, const Team& team,
             const typename FlowFrame<T>::Body& body) override {
    PrimalForm<T> form(point.net, activation_, splits_, signs_, team);
    body(form, form.weights());
  }

  void write(const FlowPoint<T>& point, const Team&, T* W) override {
    std::copy_n(point.net.W, point.net.m * point.net.d, W);
  }

  double drift(const FlowPoint<T>& point, const double* balance, const Team&) override {
    double most = 0;
    for (Index j = 0; j < point.net.m; ++j)
      most = std::max(most, std::abs(featcore::balance(point.net, j) - balance[j]));
    return most;
  }

  const double* plain(const double* balance) override { return balance; }
  double squared_rest(T, const Team&) override { return 0; }
  const std::vector<T>& basis() const override { return none_; }

 private:
  NetworkView<T> net_;
  Activation activation_;
  std::vector<SplitView<T>> splits_;
  bool signs_;
  std::vector<T> none_;
};

// W Q^T on the samples X Q^T, with orthonormal rows Q that span the samples.
template <class T>
class SpanFrame final : public FlowFrame<T> {
 public:
  // `start` has the weights at the start of the run and the present head; it and the samples must
  // outlive the frame. `basis`: Q, a row after the other.
  SpanFrame(const NetworkView<T>& start, std::vector<T> basis, Activation activation,
            const std::vector<SplitView<T>>& splits, bool signs_of_all_splits, const Team& team)
      : start_(start),
        basis_(std::move(basis)),
        rank_(static_cast<Index>(basis_.size()) / start.d),
        form_(start, rank_, basis_.data(), activation, splits, signs_of_all_splits, nullptr, team),
        inside_(form_.start_inside()) {}

  const char* name() const override { return form_.name(); }
  NetworkView<T> start() const override { return {start_.m, rank_, inside_.data(), start_.a}; }
  SplitView<T> samples() const override { return form_.samples(); }
  double zero() const override {
    return 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
  }

  void visit(const FlowPoint<T>& point, const Team& team,
             const typename FlowFrame<T>::Body& body) override {
    form_.place(point.net, point.rest, team);
    body(form_, form_.weights());
  }

  void write(const FlowPoint<T>& point, const Team& team, T* W) override {
    visit(point, team, [&](Form<T>&, const Weights<T>& weights) { weights.write(team, W); });
  }

  double drift(const FlowPoint<T>& point, const double* balance, const Team& team) override {
    if (offsets_.empty())
      for (Index j = 0; j < start_.m; ++j)  // a_j^2 - |w_j Q^T|^2 at the start of the run
        offsets_.push_back(balance[j] + (squared_norm(start_.W + j * start_.d, start_.d) -
                                         squared_norm(inside_.data() + j * rank_, rank_)));
    const double s = static_cast<double>(point.rest);
    const std::vector<double>* rest = s != 1 ? &form_.rest_squares(team) : nullptr;
    double most = 0;
    for (Index j = 0; j < start_.m; ++j) {
      const auto k = static_cast<std::size_t>(j);
      const double lost = rest ? (1 - s) * (1 + s) * (*rest)[k] : 0;
      most = std::max(most, std::abs(featcore::balance(point.net, j) - offsets_[k] + lost));
    }
    return most;
  }

  const double* plain(const double* balance) override { return balance; }

  double squared_rest(T rest, const Team& team) override { return form_.squared_rest(rest, team); }

  const std::vector<T>& basis() const override { return basis_; }

 private:
  NetworkView<T> start_;
  std::vector<T> basis_;
  Index rank_;
  ProjectedForm<T> form_;
  std::vector<T> inside_;  // W_0 Q^T
  std::vector<double> offsets_;
};

// Orthonormal rows that span the training samples, where a flow in these coordinates pays; nothing
// elsewhere. Arithmetic on shapes and the rank, never a timing.
template <class T>
std::vector<T> paying_span(const NetworkView<T>& net, const SplitView<T>& split, const Team& team) {
  constexpr Index kFewInputs = 32;
  constexpr Index kPromptRank = 1500;  // a factorisation cannot be interrupted
  constexpr Index kNeuronsLeast = 16;  // a basis of 16 m vectors costs about as much as 20 sweeps
  // Inputs that no sample has cost a flow nothing.
  std::vector<Index> inputs;
  for (Index k = 0; k < split.d; ++k)
    for (Index i = 0; i < split.n; ++i)
      if (split.x[i * split.d + k] != T(0)) {
        inputs.push_back(k);
        break;
      }
  const auto d = static_cast<Index>(inputs.size());
  const Index most = largest_paying_rank(FormCosts::primal(d));
  const Index least = std::min(split.n, d);
  if (d < kFewInputs || most < 1 || least > kPromptRank || least > kNeuronsLeast * net.m ||
      !inputs_are_alike(split.n, split.d, split.x))
    return {};
  if (split.n > most) {
    std::vector<T> x(static_cast<std::size_t>(split.n * d));
    for (Index i = 0; i < split.n; ++i)
      for (Index k = 0; k < d; ++k)
        x[static_cast<std::size_t>(i * d + k)] =
            split.x[i * split.d + inputs[static_cast<std::size_t>(k)]];
    if (!may_lack_rank(split.n, d, x.data(), team)) return {};
  }
  return span_basis(split.n, split.d, split.x, most, team);
}

template <class T>
std::unique_ptr<FlowFrame<T>> choose_frame(
    const std::string& wanted, const NetworkView<T>& start, Activation activation,
    const std::vector<SplitView<T>>& splits, bool signs_of_all_splits, std::vector<T> basis,
    const Team& team, const std::function<void(const std::string&, Index)>& fits) {
  const SplitView<T>& train = splits.front();
  if (wanted == "projected") {
    if (basis.empty()) {
      fits(wanted, Index{0});
      basis = span_basis(train.n, start.d, train.x, std::min(train.n, start.d), team);
    }
  } else if (wanted == "auto") {
    basis = paying_span(start, train, team);
  } else if (wanted != "primal") {
    throw std::invalid_argument("unknown form '" + wanted + "'");
  }
  if (basis.empty()) {
    fits("primal", start.d);
    return std::make_unique<WholeFrame<T>>(start, activation, splits, signs_of_all_splits);
  }
  fits("projected", static_cast<Index>(basis.size()) / start.d);
  return std::make_unique<SpanFrame<T>>(start, std::move(basis), activation, splits,
                                        signs_of_all_splits, team);
}

template <class T>
std::unique_ptr<FlowFrame<T>> scale_frame(std::unique_ptr<FlowFrame<T>> inner,
                                          const NeuronScales& scales, const double* sizes,
                                          Activation activation,
                                          const std::vector<SplitView<T>>& splits,
                                          bool signs_of_all_splits, const Team& team) {
  return std::make_unique<ScaledFrame<T>>(std::move(inner), scales, sizes, activation, splits,
                                          signs_of_all_splits, team);
}

}  // namespace featcore
