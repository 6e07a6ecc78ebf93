// Who slides where a neuron is on the hyperplanes of several samples at once: the field of
// Filippov. The samples may depend on each other, as points of a grid do.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "featcore/box_program.hpp"
#include "featcore/eigen.hpp"
#include "featcore/filippov.hpp"
#include "featcore/least_norm.hpp"

namespace featcore {

class TiedSamples {
 public:
  // Samples are columns of `x`, (inputs, count), none of them zero.
  explicit TiedSamples(const ColMatrix<double>& x) : lengths_(x.colwise().norm().transpose()) {
    // In coordinates of their own span, and of length 1. Never by products of samples, which know
    // angles to half of the digits only.
    ColMatrix<double> unit = x;
    for (Index p = 0; p < count(); ++p) unit.col(p) /= lengths_(p);
    const Index size = std::min(x.rows(), x.cols());
    const Eigen::HouseholderQR<ColMatrix<double>> factors(unit);
    rows_ = ColMatrix<double>(factors.matrixQR().topRows(size).triangularView<Eigen::Upper>())
                .transpose();
  }

  Index count() const { return lengths_.size(); }

  // The shortest coefficients of samples `held` that add to fields on them, (held, any), what makes
  // these vanish.
  ColMatrix<double> across(const std::vector<Index>& held, const ColMatrix<double>& fields) const {
    const auto size = static_cast<Index>(held.size());
    ColMatrix<double> rows(size, rows_.cols());
    ColMatrix<double> out = fields;
    for (Index p = 0; p < size; ++p) {
      rows.row(p) = rows_.row(held[at(p)]);
      out.row(p) /= lengths_(held[at(p)]);
    }
    const ColMatrix<double> inverse = LeastNorm(rows, kDependent).pseudoinverse();
    out = -(inverse.transpose() * (inverse * out)).eval();
    for (Index p = 0; p < size; ++p) out.row(p) /= lengths_(held[at(p)]);
    return out;
  }

  // Which samples are on their hyperplanes wherever `held` are.
  std::vector<Index> spanned(const std::vector<Index>& held) const {
    ColMatrix<double> rows(static_cast<Index>(held.size()), rows_.cols());
    for (Index p = 0; p < rows.rows(); ++p) rows.row(p) = rows_.row(held[at(p)]);
    const ColMatrix<double> onto = LeastNorm(rows, kDependent).pseudoinverse() * rows;
    std::vector<Index> found;
    for (Index p = 0; p < count(); ++p) {
      const Eigen::RowVectorXd row = rows_.row(p);
      if ((row - row * onto).norm() <= kSpanned) found.push_back(p);
    }
    return found;
  }

  // `status` of every sample, on (1), off (-1) or held (0): what it was, and then a choice such
  // that none that is on or off moves to the other side and each held one has its share inside [0,
  // 1]. Repelling samples are never held. `base`: the field on them with all off; `jumps`: what the
  // field's coefficient of a sample gains where it turns on; `head_sign`: of a. `from_zero`: the
  // neuron is in w = 0, from where it goes on as it came, or as its field has it. `share`: of held
  // samples, before and after; where samples depend on each other, as far inside as there is room.
  void choose(const Vector<double>& base, const Vector<double>& jumps, double head_sign,
              bool from_zero, std::vector<int>& status, Vector<double>& share) const {
    const Vector<double> field = base.cwiseQuotient(lengths_);
    const Vector<double> gains = jumps.cwiseProduct(lengths_);
    std::vector<Index> attracting;
    for (Index p = 0; p < count(); ++p) {
      if (head_sign * gains(p) < 0) {
        attracting.push_back(p);
        if (status[at(p)] != 0) share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      } else {
        if (status[at(p)] == 0) status[at(p)] = -1;
        share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      }
    }
    const double tolerance = 1e-12 * gains.cwiseAbs().maxCoeff();
    if (from_zero) {
      const Vector<double> speed = head_sign * field_of(field, gains, share);
      for (Index p = 0; p < count(); ++p) {
        if (status[at(p)] == 0) continue;
        if (std::abs(speed(p)) > tolerance) status[at(p)] = speed(p) > 0 ? 1 : -1;
        share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      }
    }
    if (count() <= kMostAtOnce)
      for (Index round = 0; round < 4 + 2 * count(); ++round) {
        solve_shares(field, gains, attracting, share);
        if (!flip(field, gains, head_sign, tolerance, status, share)) break;
      }
    if (from_zero) leave(field, gains, attracting, head_sign, tolerance, status, share);
    for (const Index p : attracting)
      status[at(p)] = (share(p) >= 1 ? 1 : 0) - (share(p) <= 0 ? 1 : 0);
    polish(field, gains, head_sign, tolerance, status, share);
  }

 private:
  // Samples count as dependent from here on, as sines of angles.
  static constexpr double kDependent = 1e-10;
  static constexpr double kSpanned = 1e-9;
  static constexpr Index kMostAtOnce = 300;

  static std::size_t at(Index p) { return static_cast<std::size_t>(p); }

  // On all samples, given all shares.
  Vector<double> field_of(const Vector<double>& field, const Vector<double>& gains,
                          const Vector<double>& share) const {
    return field + rows_ * (rows_.transpose() * gains.cwiseProduct(share));
  }

  // Shares that make the field shortest, and of these nearly those nearest to 1/2: the velocity of
  // a convex kink, whose shares need not be unique while it is.
  void solve_shares(const Vector<double>& field, const Vector<double>& gains,
                    const std::vector<Index>& attracting, Vector<double>& share) const {
    const auto size = static_cast<Index>(attracting.size());
    if (size == 0) return;
    ColMatrix<double> scaled(size, rows_.cols());
    Vector<double> x(size), slopes(size);
    Vector<double> others = share;
    for (const Index p : attracting) others(p) = 0;
    const Vector<double> rest = field_of(field, gains, others);
    for (Index p = 0; p < size; ++p) {
      const Index q = attracting[at(p)];
      scaled.row(p) = gains(q) * rows_.row(q);
      slopes(p) = gains(q) * rest(q);
      x(p) = std::clamp(share(q), 0.0, 1.0);
    }
    ColMatrix<double> K = scaled * scaled.transpose();
    const double scale = K.diagonal().maxCoeff();
    constexpr double kInside = 1e-10;
    K.diagonal().array() += kInside * scale;
    slopes.array() -= 0.5 * kInside * scale;
    minimize_in_box(K, slopes, Vector<double>::Constant(size, 1e-14 * scale), x);
    for (Index p = 0; p < size; ++p) share(attracting[at(p)]) = x(p);
  }

  // Repelling samples that move to their other side turn, one at a time. False if there is none.
  bool flip(const Vector<double>& field, const Vector<double>& gains, double head_sign,
            double tolerance, std::vector<int>& status, Vector<double>& share) const {
    const Vector<double> speed = head_sign * field_of(field, gains, share);
    for (Index p = 0; p < count(); ++p) {
      if (head_sign * gains(p) < 0 || !(status[at(p)] * speed(p) < -tolerance)) continue;
      status[at(p)] = -status[at(p)];
      share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      return true;
    }
    return false;
  }

  // Where nothing moves, in w = 0, it may be that a repelling sample on its other side lets the
  // neuron go: rest is unstable then, and a neuron that comes near leaves.
  void leave(const Vector<double>& field, const Vector<double>& gains,
             const std::vector<Index>& attracting, double head_sign, double tolerance,
             std::vector<int>& status, Vector<double>& share) const {
    const auto speed = [&](const Vector<double>& shares) -> Vector<double> {
      return head_sign * field_of(field, gains, shares);
    };
    if (!(speed(share).cwiseAbs().maxCoeff() <= tolerance)) return;
    for (Index p = 0; p < count(); ++p) {
      if (head_sign * gains(p) < 0) continue;
      std::vector<int> other = status;
      Vector<double> shares = share;
      other[at(p)] = -status[at(p)];
      shares(p) = other[at(p)] > 0 ? 1.0 : 0.0;
      for (Index round = 0; round < 4 + 2 * count(); ++round) {
        solve_shares(field, gains, attracting, shares);
        if (!flip(field, gains, head_sign, tolerance, other, shares)) break;
      }
      if (!(speed(shares).cwiseAbs().maxCoeff() > tolerance)) continue;
      status = std::move(other);
      share = shares;
      return;
    }
  }

  // By pivoting, from shares that are nearly right: those that are held to the last digit.
  void polish(const Vector<double>& field, const Vector<double>& gains, double head_sign,
              double tolerance, std::vector<int>& status, Vector<double>& share) const {
    std::vector<Index> inside;
    for (Index round = 0; round < 20 + 10 * count(); ++round) {
      inside.clear();
      for (Index p = 0; p < count(); ++p) {
        if (status[at(p)] == 0)
          inside.push_back(p);
        else
          share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      }
      if (!inside.empty()) {
        const Vector<double> now = field_of(field, gains, share);
        ColMatrix<double> fields(static_cast<Index>(inside.size()), 1);
        for (Index p = 0; p < fields.rows(); ++p)
          fields(p, 0) = now(inside[at(p)]) * lengths_(inside[at(p)]);
        const ColMatrix<double> more = across(inside, fields);
        for (Index p = 0; p < fields.rows(); ++p) {
          const Index q = inside[at(p)];
          share(q) += gains(q) != 0 ? more(p, 0) * lengths_(q) / gains(q) : 2.0;
        }
      }
      const Vector<double> speed = head_sign * field_of(field, gains, share);
      Index changed = -1;
      for (Index p = 0; p < count() && changed < 0; ++p) {
        const int old = status[at(p)];
        const bool attracting = head_sign * gains(p) < 0;
        if (old == 0) {
          if (!attracting || share(p) < -0.5 * kRelease)
            status[at(p)] = -1;
          else if (share(p) > 1 + 0.5 * kRelease)
            status[at(p)] = 1;
        } else if (old * speed(p) < -tolerance) {
          status[at(p)] = attracting ? 0 : -old;
        }
        if (status[at(p)] != old) changed = p;
      }
      if (changed < 0) break;
    }
  }

  Vector<double> lengths_;
  ColMatrix<double> rows_;  // of length 1
};

}  // namespace featcore
