// The projected form: where the samples span few directions, W moves in these alone. With an
// orthonormal basis Q of the span, (rank, d), it iterates W Q^T on the samples X Q^T.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "featcore/primal.hpp"
#include "featcore/span_form.hpp"
#include "featcore/ties.hpp"

namespace featcore {

template <class T>
class ProjectedForm final : public SpanForm<T> {
 public:
  // `basis` is (rank, d) and must outlive the form.
  ProjectedForm(const NetworkView<T>& start, Index rank, const T* basis, Activation activation,
                const std::vector<SplitView<T>>& splits, bool signs_of_all_splits,
                const FormState<T>* state, const Team& team)
      : SpanForm<T>(start, rank, basis, state ? form_array(*state, "scale", 1, 1)[0] : T(1), splits,
                    activation, signs_of_all_splits, team),
        whole_(splits[0]),
        x_(static_cast<std::size_t>(whole_.n * rank)),
        D_(start.m, rank) {
    row_products(whole_.n, whole_.x, rank, basis, start.d, team, x_.data());
    std::vector<T> W = this->rows(this->start_products());
    if (activation.by_sign()) {
      keep_ties(start, whole_, rank, x_.data(), team, W.data());
      this->start_products() = Panels<T>(NetworkView<T>{start.m, rank, W.data(), start.a});
    }
    if (state) W = form_array(*state, "weights", start.m, rank);
    inner_ = std::make_unique<PrimalForm<T>>(NetworkView<T>{start.m, rank, W.data(), start.a},
                                             activation, std::vector<SplitView<T>>{samples()},
                                             false, team);
  }

  // The training samples in the coordinates, X Q^T.
  SplitView<T> samples() const {
    return {whole_.n, D_.shape.d, x_.data(), whole_.y, whole_.clean_y, whole_.weights};
  }

  // The weights of the start in the coordinates, W_0 Q^T.
  std::vector<T> start_inside() const { return this->rows(this->start_products()); }

  // Goes on from other weights, (m, rank), and head, with `scale` W_0 outside the span.
  void place(const NetworkView<T>& inside, T scale, const Team& team) {
    inner_->place(inside, team);
    this->moved_to(scale);
  }

  // |s W_0|^2 outside the span.
  double squared_rest(T scale, const Team& team) {
    double sum = 0;
    for (const double square : rest_squares(team)) sum += square;
    const double s = static_cast<double>(scale);
    return s * s * sum;
  }

  // |w_0j|^2 outside the span: of the part itself, since the difference of two squares would know
  // it to half of the digits only.
  const std::vector<double>& rest_squares(const Team& team) {
    if (!rest_.empty()) return rest_;
    const Index d = this->start().d;
    const Index m = D_.shape.m;
    const Index rank = D_.shape.d;
    const std::vector<T> inside = start_inside();
    std::vector<double> squares(static_cast<std::size_t>(m));
    constexpr Index kRows = 64;
    constexpr Index kPromptWork = 100'000'000;  // between two looks for a stop
    const Index columns = std::clamp<Index>(kPromptWork / (kRows * rank), 1, d);
    team.for_work(2.0 * static_cast<double>(m * rank) * static_cast<double>(d))
        .for_each(ceil_div(m, kRows), [&](Index block, const Worker& worker) {
          const Index first = block * kRows;
          const Index count = std::min(kRows, m - first);
          const ConstRows<T> basis(this->basis(), rank, d);
          const ConstRows<T> start(this->start().W + first * d, count, d);
          // In memory of our own: see row_products().
          const RowMatrix<double> coefficients =
              ConstRows<T>(inside.data() + first * rank, count, rank).template cast<double>();
          RowMatrix<double> right;
          RowMatrix<double> rest;
          for (Index k = 0; k < d && !worker.stop(); k += columns) {
            const Index width = std::min(columns, d - k);
            right = basis.middleCols(k, width).template cast<double>();
            rest = start.middleCols(k, width).template cast<double>();
            rest.noalias() -= coefficients * right;
            for (Index j = 0; j < count; ++j)
              squares[static_cast<std::size_t>(first + j)] += rest.row(j).squaredNorm();
          }
        });
    rest_ = std::move(squares);
    return rest_;
  }

  const char* name() const override { return "projected"; }
  double flops() const override { return inner_->flops(); }

  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay, bool measure,
                const Team& team) override {
    const bool decays = rates.W != 0 && weight_decay != 0;
    // may be stopped: goes first
    const double rest = measure && decays ? squared_rest(this->scale(), team) : 0;
    StepInfo info = inner_->step(r, step_size, rates, weight_decay, measure, team);
    info.squared_gradient += weight_decay * weight_decay * rest;
    const LayerMove<T> move(step_size, rates, weight_decay, measure);
    this->moved(move.moves_W ? 1 - move.eta_W * move.decay : T(1));
    return info;
  }

  void undo() override {
    inner_->undo();
    this->moved_back();
  }

  FormState<T> state() const override {
    FormState<T> state = this->span_state();
    const PanelShape<T>& shape = inner_->panels().shape;
    state.push_back({"basis",
                     shape.d,
                     this->start().d,
                     {this->basis(), this->basis() + shape.d * this->start().d}});
    state.push_back({"weights", shape.m, shape.d, this->rows(inner_->panels())});
    return state;
  }

 protected:
  const T* train_outputs(const Team& team) override { return inner_->outputs(0, team); }
  const Signs<T>* train_signs(const Team& team) const override { return inner_->signs(0, team); }
  const Panels<T>& products() override { return inner_->panels(); }

  // D = W Q^T - s W_0 Q^T.
  const Panels<T>& coefficients() override {
    const Panels<T>& now = inner_->panels();
    const T* start = this->start_products().W.data();
    for (Index q = 0; q < now.W.size(); ++q)
      D_.W.data()[q] = now.W.data()[q] - this->scale() * start[q];
    std::copy_n(now.a.data(), now.a.size(), D_.a.data());
    return D_;
  }

 private:
  SplitView<T> whole_;  // the training samples as they were given
  std::vector<T> x_;    // X Q^T, (n, rank)
  std::unique_ptr<PrimalForm<T>> inner_;
  Panels<T> D_;
  std::vector<double> rest_;  // |w_0j|^2 outside the span, once asked for
};

}  // namespace featcore
