// (G + s I)^-1 r for many shifts s of one symmetric positive semidefinite G. G = Q B Q^T with B
// banded is found once, by products of matrices; to go on to a tridiagonal form would take as many
// operations again, of vectors that wait for memory. Every further shift is solved for in B.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "featcore/dense_products.hpp"
#include "featcore/eigen.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

class BandedForm {
 public:
  static constexpr Index kBand = 32;  // diagonals below the main one

  // What it holds and works in, beyond the matrix it is given.
  static double bytes(Index size, int threads) {
    const double n = static_cast<double>(size);
    return 8.0 * (n * n + n * (kBand + 1 + 6 * kBand)) +
           8.0 * kShifts * n * (kBand + 3) * static_cast<double>(threads);
  }

  // `gram` is (size, size), symmetric and finite.
  BandedForm(Index size, const double* gram, const Team& whole_team)
      : size_(size),
        A_(size, size),
        band_(ColMatrix<double>::Zero(kBand + 1, size)),
        V_(size, 2 * kBand),
        W_(size, 2 * kBand),
        turned_(size, kBand) {
    double largest = 0;
    for (Index i = 0; i < size; ++i) largest = std::max(largest, gram[i * size + i]);
    // Squares of entries stay in range.
    if (largest > 0) scale_ = std::ldexp(1.0, -std::clamp(std::ilogb(largest), -1000, 1000));
    const double n = static_cast<double>(size);
    whole_team.for_work(n * n * n).together([&](const Team& team) {
      team.monitor().stage(0.95, 8.0 / 3.0 * n * n * n / team.threads());
      team.for_each(blocks(0), [&](Index block, const Worker&) {
        for (Index k = begin(block); k < end(block); ++k)
          A_.col(k) = scale_ * ConstVector<double>(gram + k * size, size);
      });
      Index first = 0;
      for (; first + kBand + 1 < size; first += kBand) reduce(first, team);
      for (Index k = first; k < size; ++k)
        for (Index i = k; i < size; ++i) band_(i - k, k) = A_(i, k);
    });
  }

  // Writes (G + s I)^-1 right for each of `count` shifts, (count, size). Shifts must be large
  // enough for G + s I to be positive definite in spite of rounding; returns whether it was, for
  // all.
  bool solve(Index count, const double* shifts, const double* right, const Team& whole_team,
             double* out) const {
    std::vector<char> positive(static_cast<std::size_t>(count), 1);
    const double n = static_cast<double>(size_);
    whole_team.for_work(n * n * static_cast<double>(count)).together([&](const Team& team) {
      // Like G, so that what is solved with stays in range wherever the solution does.
      const double most = ConstVector<double>(right, size_).cwiseAbs().maxCoeff();
      const int exponent = most > 0 ? std::clamp(std::ilogb(most), -1000, 1000) : 0;
      ColMatrix<double> start = std::ldexp(1.0, -exponent) * ConstVector<double>(right, size_);
      for (std::size_t k = 0; k < reflections_.size(); ++k) turn<true>(k, start);
      std::vector<std::vector<Lanes>> scratch(static_cast<std::size_t>(team.threads()));
      team.for_each(ceil_div(count, kShifts), [&](Index group, const Worker& worker) {
        const Index first = group * kShifts;
        const Index here = std::min(kShifts, count - first);
        ColMatrix<double> X(size_, here);
        const bool ok = solve_band(here, shifts + first, start.data(), worker,
                                   scratch[static_cast<std::size_t>(worker.id)], X);
        std::fill_n(positive.data() + first, here, static_cast<char>(ok));
        for (std::size_t k = reflections_.size(); k-- > 0;) {
          if (worker.stop(4.0 * kBand * static_cast<double>(size_ * here))) return;
          turn<false>(k, X);
        }
        for (Index l = 0; l < here; ++l) {
          const double s = shifts[first + l];
          const double back = scale_ * s > kBeyond ? kBeyond / s : scale_;
          const double half = std::ldexp(1.0, exponent / 2);  // twice: in between it stays in range
          Rows<double>(out + (first + l) * size_, 1, size_) =
              (X.col(l) * half * back * std::ldexp(half, exponent % 2)).transpose();
        }
      });
    });
    return std::all_of(positive.begin(), positive.end(), [](char ok) { return ok != 0; });
  }

 private:
  static constexpr Index kBlock = 128;        // rows a thread works on; a multiple of kBand
  static constexpr Index kShifts = 8;         // side by side
  static constexpr double kBeyond = 0x1p200;  // a shift beside which G is nothing

  struct Lanes {
    // NOLINTNEXTLINE(modernize-use-using): the attribute needs a typedef
    typedef double Vector __attribute__((vector_size(8 * kShifts)));
    Vector v;
  };

  // Rows from `row` on meet I - V T V^T, V lying in A_ from column row - kBand on.
  struct Reflection {
    Index row;
    ColMatrix<double> T;
  };

  // Blocks of rows, the same whatever the first row is, that reach beyond it.
  Index blocks(Index first) const { return ceil_div(size_, kBlock) - first / kBlock; }
  Index begin(Index block) const { return block * kBlock; }
  Index end(Index block) const { return std::min(size_, (block + 1) * kBlock); }

  // Columns first .. first + kBand get their band; the rest of A_ is turned alike from both sides:
  // A <- (I - V T' V') A (I - V T V') = A - V W' - W V' with Y = A V T, W = Y - V (T' V' Y)/2.
  void reduce(Index first, const Team& team) {
    const Index row = first + kBand;
    const Index rows = size_ - row;
    const Index count = std::min(kBand, rows);
    auto panel = A_.block(row, first, rows, kBand);
    Vector<double> tau(count);
    Vector<double> space(kBand);
    for (Index i = 0; i < count; ++i) {
      double beta = 0;
      auto column = panel.col(i).tail(rows - i);
      column.makeHouseholderInPlace(tau(i), beta);
      column(0) = beta;
      panel.bottomRightCorner(rows - i, kBand - i - 1)
          .applyHouseholderOnTheLeft(column.tail(rows - i - 1), tau(i), space.data());
    }
    for (Index k = 0; k < kBand; ++k) {
      for (Index i = k; i < kBand; ++i) band_(i - k, first + k) = A_(first + i, first + k);
      for (Index i = 0; i < std::min(k + 1, rows); ++i)
        band_(kBand + i - k, first + k) = panel(i, k);
    }
    panel.leftCols(count).triangularView<Eigen::StrictlyUpper>().setZero();
    panel.leftCols(count).diagonal().setOnes();

    // In blocks of rows: what is summed over rows has a part of each, added in their order.
    const Index lead = row / kBlock;
    const Index items = blocks(row);
    parts_.resize(static_cast<std::size_t>(items));
    const auto each = [&](Index columns, auto&& body) {  // of products that take most of the time
      team.for_each(items, [&](Index item, const Worker& worker) {
        const Index from = std::max(row, begin(lead + item));
        const Index to = end(lead + item);
        if (!worker.stop(4.0 * kBand * static_cast<double>((to - from) * columns)))
          body(item, from, to - from);
      });
    };
    const auto total = [&] {
      ColMatrix<double> sum = parts_.front();
      for (std::size_t k = 1; k < parts_.size(); ++k) sum += parts_[k];
      return sum;
    };
    const auto part = [&](Index item) -> ColMatrix<double>& {
      parts_[static_cast<std::size_t>(item)].setZero(count, count);
      return parts_[static_cast<std::size_t>(item)];
    };
    const auto V = A_.middleCols(first, count);  // from `row` on
    each(0, [&](Index item, Index from, Index here) {
      V_.block(from, 0, here, count) = V.middleRows(from, here);
      W_.block(from, count, here, count) = V.middleRows(from, here);
      dense::add_left_turned(1, V.middleRows(from, here), V.middleRows(from, here), part(item));
    });
    const ColMatrix<double> products = total();
    ColMatrix<double> T = ColMatrix<double>::Zero(count, count);
    for (Index i = 0; i < count; ++i) {
      T(i, i) = tau(i);
      dense::add(-tau(i), T.topLeftCorner(i, i), products.col(i).head(i), T.col(i).head(i));
    }
    each(0, [&](Index, Index from, Index here) {
      auto turned = turned_.block(from, 0, here, count);
      turned.setZero();
      dense::add(1, V.middleRows(from, here), T, turned);
    });
    each(rows, [&](Index item, Index from, Index here) {  // of A_ blocks on the diagonal and below
      auto Y = W_.block(from, 0, here, count);
      const Index to = from + here;
      Y.setZero();
      dense::add(1, A_.block(from, row, here, to - row), turned_.block(row, 0, to - row, count), Y);
      if (to < size_)
        dense::add_left_turned(1, A_.block(to, from, size_ - to, here),
                               turned_.block(to, 0, size_ - to, count), Y);
      dense::add_left_turned(1, V.middleRows(from, here), Y, part(item));
    });
    ColMatrix<double> half = ColMatrix<double>::Zero(count, count);
    dense::add_left_turned(0.5, T, total(), half);
    each(0, [&](Index, Index from, Index here) {
      auto W = W_.block(from, 0, here, count);
      dense::add(-1, V.middleRows(from, here), half, W);
      V_.block(from, count, here, count) = W;
    });
    each(rows, [&](Index, Index from, Index here) {
      const Index columns = from + here - row;
      dense::add_right_turned(-1, V_.block(from, 0, here, 2 * count),
                              W_.block(row, 0, columns, 2 * count),
                              A_.block(from, row, here, columns));
    });
    reflections_.push_back({row, std::move(T)});
  }

  // X <- (I - V T V') X, or its inverse.
  template <bool Inverse>
  void turn(std::size_t k, ColMatrix<double>& X) const {
    const Reflection& q = reflections_[k];
    const auto V = A_.block(q.row, q.row - kBand, size_ - q.row, q.T.cols());
    auto rest = X.bottomRows(size_ - q.row);
    ColMatrix<double> seen = ColMatrix<double>::Zero(V.cols(), X.cols());
    ColMatrix<double> turned = seen;
    dense::add_left_turned(1, V, rest, seen);
    if constexpr (Inverse)
      dense::add_left_turned(1, q.T, seen, turned);
    else
      dense::add(1, q.T, seen, turned);
    dense::add(-1, V, turned, rest);
  }

  // (B + s I)^-1 right for a few shifts, by L D L^T without pivots.
  bool solve_band(Index here, const double* shifts, const double* right, const Worker& worker,
                  std::vector<Lanes>& scratch, ColMatrix<double>& X) const {
    using Vector = Lanes::Vector;
    constexpr Index kHeight = kBand + 1;
    scratch.resize(static_cast<std::size_t>(size_ * (kHeight + 1)));
    Lanes* L = scratch.data();
    Lanes* x = L + size_ * kHeight;
    Vector shift{};
    for (Index l = 0; l < kShifts; ++l)
      shift[l] = std::min(scale_ * shifts[std::min(l, here - 1)], kBeyond);
    for (Index k = 0; k < size_; ++k) {
      for (Index i = 0; i < kHeight; ++i) L[k * kHeight + i].v = band_(i, k) - Vector{};
      L[k * kHeight].v += shift;
      x[k].v = right[k] - Vector{};
    }
    bool ok = true;
    for (Index k = 0; k < size_; ++k) {
      if (k % kBlock == 0 && worker.stop(1.0 * kBand * kBand * kShifts * kBlock)) return false;
      Lanes* column = L + k * kHeight;
      const Vector pivot = column[0].v;
      for (Index l = 0; l < kShifts; ++l) ok = ok && pivot[l] > 0;
      const Vector inverse = 1.0 / pivot;
      const Index reach = std::min(kBand, size_ - 1 - k);
      for (Index i = 1; i <= reach; ++i) {
        const Vector factor = column[i].v * inverse;
        Lanes* other = column + i * kHeight;
        for (Index r = i; r <= reach; ++r) other[r - i].v -= factor * column[r].v;
        x[k + i].v -= factor * x[k].v;
        column[i].v = factor;
      }
      x[k].v *= inverse;
    }
    for (Index k = size_ - 1; k >= 0; --k) {
      const Lanes* column = L + k * kHeight;
      Vector sum = x[k].v;
      for (Index i = 1; i <= std::min(kBand, size_ - 1 - k); ++i) sum -= column[i].v * x[k + i].v;
      x[k].v = sum;
      for (Index l = 0; l < here; ++l) X(k, l) = sum[l];
    }
    return ok;
  }

  Index size_;
  double scale_ = 1;
  ColMatrix<double> A_;     // lower half; reflectors below the band when reduced
  ColMatrix<double> band_;  // (diagonal below the main one, column)
  ColMatrix<double> V_;     // V and W side by side
  ColMatrix<double> W_;     // W and V
  ColMatrix<double> turned_;
  std::vector<ColMatrix<double>> parts_;
  std::vector<Reflection> reflections_;
};

}  // namespace featcore
