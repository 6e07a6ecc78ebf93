// All neurons of a hinge flow between two events, as power series of time.
//
// With every side and every demand fixed, v_j = V_j + sum_b eta_b g_jb x_b (projected off what j
// slides on): V_j are constants, b runs over the support vectors, and eta is the same for all
// neurons. With rho the rates of the layers and y_j0 = <w_j, V_j>, y_jb = g_jb <w_j, x_b>,
//
//   a_j' = rho_a (y_j0 + sum_b eta_b y_jb),          w_j = w_j(0) + A_j V_j + sum_b B_jb g_jb x_b,
//   A_j' = rho_W a_j,   B_jb' = rho_W a_j eta_b,     N_jb0 = <g_jb x_b, V_j>, N_jbc likewise,
//   y_jb' = A_j' N_jb0 + sum_c B_jc' N_jbc,          0 = sum_j (a_j y_jb)' for every b:
//
// the last line, which keeps the margins of support vectors, is linear in eta at every order.
// Coefficients are of powers of time in a unit of the length of the piece: of time itself the last
// powers leave the range of numbers where samples are large or small.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/form.hpp"
#include "featcore/least_norm.hpp"

namespace featcore {

// Neurons are rows, support vectors columns.
struct HingePiece {
  Rates rates;
  Vector<double> a, y0, N00;
  ColMatrix<double> y, N0, gates;
  ColMatrix<double> gram;  // <x_b, x_c>
  // Of a neuron that slides: what the projection takes from `gram`.
  struct Correction {
    Index neuron;
    ColMatrix<double> lost;
  };
  std::vector<Correction> corrections;

  Index neurons() const { return a.size(); }
  Index held() const { return y.cols(); }

  // sum_c N_jbc u_jc for all j and b.
  ColMatrix<double> products(const ColMatrix<double>& u) const {
    const ColMatrix<double> weighed = gates.cwiseProduct(u);
    ColMatrix<double> out = weighed * gram;
    for (const Correction& c : corrections) out.row(c.neuron) -= weighed.row(c.neuron) * c.lost;
    return gates.cwiseProduct(out);
  }

  // The derivatives of sum_j a_j y_jb along eta_c.
  ColMatrix<double> kernel() const {
    const Vector<double> squares = rates.W * a.cwiseAbs2();
    ColMatrix<double> moved = (gates.transpose() * squares.asDiagonal() * gates).cwiseProduct(gram);
    for (const Correction& c : corrections) {
      const auto gate = gates.row(c.neuron);
      moved -= squares(c.neuron) * (gate.transpose() * gate).cwiseProduct(c.lost);
    }
    return moved + rates.a * (y.transpose() * y);
  }

  // And with eta = 0.
  Vector<double> drift() const {
    return rates.a * (y.transpose() * y0) + rates.W * (N0.transpose() * a.cwiseAbs2());
  }
};

class HingeSeries {
 public:
  static constexpr int kOrder = 26;

  // Expands around the start of a piece. `sizes`: what a_j is small against. Returns how far the
  // series holds to rounding, at most `longest`; NaN if it is not finite.
  double expand(const HingePiece& piece, const Vector<double>& sizes, double longest) {
    // a power of two: no bits depend on it
    unit_ = std::clamp(std::exp2(std::ilogb(longest)), std::numeric_limits<double>::min(),
                       1 / std::numeric_limits<double>::min());
    const double reach = longest / unit_;
    const Rates rates{piece.rates.W * unit_, piece.rates.a * unit_};
    const Index m = piece.neurons();
    const Index held = piece.held();
    a_.assign(1, piece.a);
    A_.assign(1, Vector<double>::Zero(m));
    B_.assign(1, ColMatrix<double>::Zero(m, held));
    eta_.clear();
    y0_.assign(1, piece.y0);
    y_.assign(1, piece.y);
    dy_.clear();
    da_.clear();
    if (held > 0) kernel_.compute(unit_ * piece.kernel());
    double power = 1, before = std::numeric_limits<double>::infinity(), size = 0;
    for (int k = 0; k < kOrder; ++k) {
      ColMatrix<double> dB = ColMatrix<double>::Zero(m, held);
      Vector<double> da = y0_[at(k)];
      ColMatrix<double> dy = a_[at(k)].asDiagonal() * piece.N0;
      dy *= rates.W;
      if (held > 0) {
        for (int l = 1; l <= k; ++l) {
          dB.noalias() += a_[at(l)] * eta_[at(k - l)].transpose();
          da.noalias() += y_[at(l)] * eta_[at(k - l)];
        }
        dB *= rates.W;
        if (k > 0) dy += piece.products(dB);
        da *= rates.a;
        // what the condition at this order lacks
        Vector<double> lack = y_[0].transpose() * da + dy.transpose() * a_[0];
        for (int l = 0; l < k; ++l) {
          lack.noalias() += y_[at(k - l)].transpose() * da_[at(l)];
          lack.noalias() += dy_[at(l)].transpose() * a_[at(k - l)];
        }
        eta_.push_back(kernel_.solve_one(-lack));
        const ColMatrix<double> more = rates.W * (a_[0] * eta_.back().transpose());
        dB += more;
        dy += piece.products(more);
        da += rates.a * (y_[0] * eta_.back());
      } else {
        da *= rates.a;
        eta_.emplace_back(0);
      }
      const double share = 1.0 / (k + 1);
      const Vector<double> dA = rates.W * a_[at(k)];
      Vector<double> dy0 = piece.N00.cwiseProduct(dA);
      if (held > 0) dy0 += piece.N0.cwiseProduct(dB).rowwise().sum();
      a_.emplace_back(share * da);
      A_.emplace_back(share * dA);
      B_.emplace_back(share * dB);
      y0_.emplace_back(share * dy0);
      y_.emplace_back(share * dy);
      da_.push_back(std::move(da));
      dy_.push_back(std::move(dy));
      if (k > 0) {
        size = 0;
        for (Index b = 0; b < held; ++b) size = std::max(size, std::abs(eta_.back()(b)) * power);
        for (Index j = 0; j < m; ++j) {
          const double term = std::abs(a_.back()(j)) * power * reach;
          if (term > 0) size = std::max(size, term / sizes(j));
        }
        if (!std::isfinite(size)) return std::numeric_limits<double>::quiet_NaN();
        if (size + before <= kRounding && k > 2) return longest;
        before = size;
      }
      power *= reach;
    }
    return longest * std::min(0.9 * std::pow(kRounding / size, 1.0 / kOrder), 1.0);
  }

  int order() const { return static_cast<int>(eta_.size()); }
  // Of time, in the coefficients.
  double unit() const { return unit_; }
  // Coefficients: a and the integrals up to order(), eta up to order() - 1.
  const Vector<double>& a(int k) const { return a_[at(k)]; }
  const Vector<double>& A(int k) const { return A_[at(k)]; }
  const ColMatrix<double>& B(int k) const { return B_[at(k)]; }
  const Vector<double>& eta(int k) const { return eta_[at(k)]; }

  Vector<double> a_at(double tau) const { return sum(a_, tau / unit_); }
  Vector<double> A_at(double tau) const { return sum(A_, tau / unit_); }
  ColMatrix<double> B_at(double tau) const { return sum(B_, tau / unit_); }
  Vector<double> eta_at(double tau) const { return sum(eta_, tau / unit_); }

 private:
  static constexpr double kRounding = 1e-17;

  static std::size_t at(int k) { return static_cast<std::size_t>(k); }

  template <class V>
  static V sum(const std::vector<V>& terms, double tau) {
    V total = terms.back();
    for (std::size_t k = terms.size() - 1; k-- > 0;) {
      total *= tau;
      total += terms[k];
    }
    return total;
  }

  double unit_ = 1;
  std::vector<Vector<double>> a_, A_, eta_, y0_, da_;
  std::vector<ColMatrix<double>> B_, y_, dy_;
  LeastNorm kernel_;
};

}  // namespace featcore
