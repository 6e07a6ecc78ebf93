// W = s W_0 + D^T B: weights that moved only within the span of a few fixed rows B, and shrank as
// a whole. Norms, cosines and singular values come from the coefficients, without W.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "featcore/panels.hpp"
#include "featcore/products.hpp"
#include "featcore/row_weights.hpp"

namespace featcore {

template <class T>
struct Expansion {
  NetworkView<T> start;                // W_0, (m, d); `a` is the present head
  T scale = 1;                         // s
  Index rank = 0;                      // k
  const T* basis = nullptr;            // B, (k, d)
  const Panels<T>* D = nullptr;        // (panel, k, neuron)
  const Panels<T>* P = nullptr;        // W B^T, same layout
  const Panels<T>* P_start = nullptr;  // W_0 B^T
};

// What does not change during a run; computed when first asked for.
template <class T>
class ExpansionConstants {
 public:
  const std::vector<double>& squared_norms(const NetworkView<T>& start, const Team& team) {
    if (squares_.empty()) {
      std::vector<double> squares(static_cast<std::size_t>(start.m));
      team.for_work(2.0 * static_cast<double>(start.m * start.d))
          .for_each(start.m, [&](Index j, const Worker&) {
            squares[static_cast<std::size_t>(j)] = squared_norm(start.W + j * start.d, start.d);
          });
      squares_ = std::move(squares);  // whole, or not at all
    }
    return squares_;
  }

  struct Directions {
    std::vector<double> lengths;  // |v_q|
    ColMatrix<double> start;      // <w_0j, v_q>, (m, count)
    ColMatrix<double> basis;      // <b_k, v_q>, (rank, count)
  };

  const Directions& directions(const Expansion<T>& e, const double* v, Index count,
                               const Team& team) {
    const auto found = directions_.find({v, count});
    if (found != directions_.end()) return found->second;
    Directions result;
    const Index d = e.start.d;
    result.start.resize(e.start.m, count);
    result.basis.resize(e.rank, count);
    for (Index q = 0; q < count; ++q) result.lengths.push_back(detail::norm(v + q * d, d));
    const auto project = [&](const T* rows, ColMatrix<double>& out) {
      team.for_work(2.0 * static_cast<double>(out.rows() * d * count))
          .for_each(out.rows(), [&](Index j, const Worker&) {
            for (Index q = 0; q < count; ++q) {
              double sum = 0;
              for (Index k = 0; k < d; ++k)
                sum += static_cast<double>(rows[j * d + k]) * v[q * d + k];
              out(j, q) = sum;
            }
          });
    };
    project(e.start.W, result.start);
    project(e.basis, result.basis);
    return directions_.emplace(std::make_pair(v, count), std::move(result)).first->second;
  }

  // |sum of w_0j over `members`|^2: signs of the head change rarely.
  double sum_squared(const NetworkView<T>& start, const std::vector<Index>& members) {
    const auto found = sums_.find(members);
    if (found != sums_.end()) return found->second;
    if (sums_.size() > kFewSums) sums_.clear();
    std::vector<double> sum(static_cast<std::size_t>(start.d), 0.0);
    for (const Index j : members)
      for (Index k = 0; k < start.d; ++k)
        sum[static_cast<std::size_t>(k)] += static_cast<double>(start.W[j * start.d + k]);
    return sums_[members] = squared_norm(sum.data(), start.d);
  }

  // W_0 W_0^T, (m, m).
  const ColMatrix<double>& gram(const NetworkView<T>& start, const Team& team) {
    if (gram_.size() == 0) gram_ = detail::gram_matrix(start, false, 1.0, team);
    return gram_;
  }

 private:
  static constexpr std::size_t kFewSums = 16;

  std::vector<double> squares_;
  std::map<std::pair<const double*, Index>, Directions> directions_;
  std::map<std::vector<Index>, double> sums_;
  ColMatrix<double> gram_;
};

// Falls back to W itself wherever the coefficients would lose digits: where terms cancel, or
// squares leave the range of double.
template <class T>
class ExpandedWeights final : public PlainWeights<T> {
 public:
  ExpandedWeights(const Expansion<T>& expansion, ExpansionConstants<T>& constants)
      : e_(expansion), constants_(constants) {}

  Index m() const override { return e_.start.m; }
  Index d() const override { return e_.start.d; }
  const T* head() const override { return e_.start.a; }

  NetworkView<T> rows(const Team& team) const override { return laid_out(team).rows(team); }

  void write(const Team& team, T* W) const override {
    std::vector<T> D(static_cast<std::size_t>(m() * e_.rank));
    Panels<T>::rows(e_.D->shape, e_.D->W.data(), D.data());
    constexpr Index kRows = 64;
    constexpr Index kPromptWork = 100'000'000;  // between two looks for a stop
    const Index columns = std::clamp<Index>(kPromptWork / (kRows * e_.rank), 1, d());
    team.for_work(2.0 * static_cast<double>(m() * e_.rank) * static_cast<double>(d()))
        .for_each(ceil_div(m(), kRows), [&](Index block, const Worker& worker) {
          const Index first = block * kRows;
          const Index count = std::min(kRows, m() - first);
          const ConstRows<T> basis(e_.basis, e_.rank, d());
          const ConstRows<T> start(e_.start.W + first * d(), count, d());
          // In memory of our own: see row_products().
          const RowMatrix<T> coefficients =
              ConstRows<T>(D.data() + first * e_.rank, count, e_.rank);
          RowMatrix<T> right;
          RowMatrix<T> part;
          RowMatrix<T> unmoved;
          Rows<T> out(W + first * d(), count, d());
          for (Index k = 0; k < d() && !worker.stop(); k += columns) {
            const Index width = std::min(columns, d() - k);
            right = basis.middleCols(k, width);
            unmoved = start.middleCols(k, width);
            part.noalias() = coefficients * right;
            part += e_.scale * unmoved;
            out.middleCols(k, width) = part;
          }
        });
  }

  void norms(const Team& team, double* out) const override {
    if (!squares(team, out)) return laid_out(team).norms(team, out);
    for (Index j = 0; j < m(); ++j) out[j] = std::sqrt(out[j]);
  }

  void squared_norms(const Team& team, double* out) const override {
    if (!squares(team, out)) laid_out(team).squared_norms(team, out);
  }

  void cosines(const double* directions, Index count, const Team& team,
               double* out) const override {
    std::vector<double> square(static_cast<std::size_t>(m()));
    const auto& v = constants_.directions(e_, directions, count, team);
    if (!squares(team, square.data()) || !sound_lengths(v.lengths))
      return laid_out(team).cosines(directions, count, team, out);
    products(v, team, out);
    for (Index j = 0; j < m(); ++j)
      for (Index q = 0; q < count; ++q) {
        const double length =
            std::sqrt(square[static_cast<std::size_t>(j)]) * v.lengths[static_cast<std::size_t>(q)];
        out[j * count + q] = std::clamp(out[j * count + q] / length, -1.0, 1.0);
      }
  }

  void sum_cosines(const std::vector<Index>& members, const double* directions, Index count,
                   const Team& team, double* out) const override {
    const auto& v = constants_.directions(e_, directions, count, team);
    const double s = static_cast<double>(e_.scale);
    const double of_start = s * s * constants_.sum_squared(e_.start, members);
    double cross = 0, size = of_start;
    std::vector<double> D(static_cast<std::size_t>(e_.rank));
    for (Index k = 0; k < e_.rank; ++k) {
      double both = 0;
      for (const Index j : members) {
        D[static_cast<std::size_t>(k)] += at(*e_.D, j, k);
        both += s * at(*e_.P_start, j, k) + at(*e_.P, j, k);
      }
      cross += D[static_cast<std::size_t>(k)] * both;
      size += std::abs(D[static_cast<std::size_t>(k)] * both);
    }
    if (!sound(of_start + cross, size) || !sound_lengths(v.lengths))
      return laid_out(team).sum_cosines(members, directions, count, team, out);
    for (Index q = 0; q < count; ++q) {
      double sum = 0;
      for (const Index j : members) sum += s * v.start(j, q);
      for (Index k = 0; k < e_.rank; ++k) sum += D[static_cast<std::size_t>(k)] * v.basis(k, q);
      const double length = std::sqrt(of_start + cross) * v.lengths[static_cast<std::size_t>(q)];
      out[q] = std::clamp(sum / length, -1.0, 1.0);
    }
  }

  std::vector<double> singular_values(Index count, const Team& team) const override {
    // A float's rounding in W W^T would drown all values but the first.
    if (m() > d() || (sizeof(T) < 8 && count > 1))
      return laid_out(team).singular_values(count, team);
    std::vector<double> square(static_cast<std::size_t>(m()));
    if (!squares(team, square.data())) return laid_out(team).singular_values(count, team);
    // W W^T = s^2 W_0 W_0^T + D^T P + s P_0^T D
    const double s = static_cast<double>(e_.scale);
    const ColMatrix<double> D = columns(*e_.D);
    ColMatrix<double> right(2 * e_.rank, m());
    right << columns(*e_.P), s * D;
    ColMatrix<double> left(2 * e_.rank, m());
    left << D, columns(*e_.P_start);
    ColMatrix<double> gram = s * s * constants_.gram(e_.start, team);
    constexpr Index kBlock = 64;
    team.for_work(4.0 * static_cast<double>(e_.rank * m() * m()))
        .for_each(ceil_div(m(), kBlock), [&](Index block, const Worker&) {
          const Index first = block * kBlock;
          const Index width = std::min(kBlock, m() - first);
          gram.middleCols(first, width).noalias() +=
              left.transpose() * right.middleCols(first, width);
        });
    const double top = std::sqrt(*std::max_element(square.begin(), square.end()));
    gram /= top * top;  // to order one: squares of these would underflow
    return featcore::singular_values_of_gram(gram, top, count, team);
  }

 private:
  static constexpr Index kPanel = PanelShape<T>::kPanel;

  static double at(const Panels<T>& panels, Index j, Index k) {
    return static_cast<double>(
        panels.W.data()[j / kPanel * panels.shape.stride() + k * kPanel + j % kPanel]);
  }

  ColMatrix<double> columns(const Panels<T>& panels) const {
    ColMatrix<double> result(e_.rank, m());
    for (Index j = 0; j < m(); ++j)
      for (Index k = 0; k < e_.rank; ++k) result(k, j) = at(panels, j, k);
    return result;
  }

  // Whether a square, the sum of terms of this size altogether, has most of its digits.
  static bool sound(double square, double size) {
    constexpr double kTiny = 1e-200;
    constexpr double kDigitsKept = 1e-2;
    return square > kTiny && square < 1 / kTiny && square >= kDigitsKept * size;
  }

  static bool sound_lengths(const std::vector<double>& lengths) {
    return std::all_of(lengths.begin(), lengths.end(),
                       [](double length) { return length > 1e-100 && length < 1e100; });
  }

  // |w_j|^2; false where some would have lost digits.
  bool squares(const Team& team, double* out) const {
    const std::vector<double>& start = constants_.squared_norms(e_.start, team);
    const double s = static_cast<double>(e_.scale);
    const PanelShape<T>& shape = e_.D->shape;
    std::vector<char> good(static_cast<std::size_t>(shape.panels()), 1);
    team.for_work(6.0 * static_cast<double>(m() * e_.rank))
        .for_each(shape.panels(), [&](Index p, const Worker&) {
          const T* D = e_.D->W.data() + p * shape.stride();
          const T* P = e_.P->W.data() + p * shape.stride();
          const T* P_start = e_.P_start->W.data() + p * shape.stride();
          double cross[kPanel] = {};
          double size[kPanel] = {};
          for (Index k = 0; k < e_.rank; ++k)
            for (Index l = 0; l < kPanel; ++l) {
              const Index q = k * kPanel + l;
              const double term = static_cast<double>(D[q]) *
                                  (s * static_cast<double>(P_start[q]) + static_cast<double>(P[q]));
              cross[l] += term;
              size[l] += std::abs(term);
            }
          for (Index l = 0; l < shape.neurons(p); ++l) {
            const Index j = p * kPanel + l;
            const double of_start = s * s * start[static_cast<std::size_t>(j)];
            out[j] = of_start + cross[l];
            if (!sound(out[j], of_start + size[l])) good[static_cast<std::size_t>(p)] = 0;
          }
        });
    return std::all_of(good.begin(), good.end(), [](char g) { return g != 0; });
  }

  // <w_j, v_q>, (m, count).
  void products(const typename ExpansionConstants<T>::Directions& v, const Team& team,
                double* out) const {
    const double s = static_cast<double>(e_.scale);
    const Index count = v.start.cols();
    team.for_work(2.0 * static_cast<double>(m() * e_.rank * count))
        .for_each(m(), [&](Index j, const Worker&) {
          for (Index q = 0; q < count; ++q) {
            double sum = s * v.start(j, q);
            for (Index k = 0; k < e_.rank; ++k) sum += at(*e_.D, j, k) * v.basis(k, q);
            out[j * count + q] = sum;
          }
        });
  }

  const RowWeights<T>& laid_out(const Team& team) const {
    if (!rows_) {
      auto rows = std::make_unique<RowWeights<T>>(
          m(), d(), head(), [this](const Team& asked, T* W) { write(asked, W); });
      rows->rows(team);  // all or, after a stop, nothing
      rows_ = std::move(rows);
    }
    return *rows_;
  }

  Expansion<T> e_;
  ExpansionConstants<T>& constants_;
  mutable std::unique_ptr<RowWeights<T>> rows_;
};

}  // namespace featcore
