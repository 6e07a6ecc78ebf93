// Who slides where a neuron is on several hyperplanes at once: the field of Filippov, by pivoting.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/least_norm.hpp"

namespace featcore {

// A share of a held sample is let go once it is this far outside [0, 1], so that one let go is
// clearly so and is not held again at once.
constexpr double kRelease = 1e-9;

// What samples must add to a field, or to several, for it to be across them.
inline ColMatrix<double> coefficients_across(const ColMatrix<double>& gram,
                                             const ColMatrix<double>& fields) {
  return LeastNorm(gram).solve(-fields);
}

// `status` of every tied sample, on (1), off (-1) or held (0): what it was, and then a choice such
// that none that is on or off moves to the other side and each held one has its share inside
// [0, 1]. Repelling samples are never held. `gram`: products of the samples; `base`: the field on
// them with all off; `jumps`: what the field's coefficient of a sample gains where it turns on;
// `head_sign`: of a; `noise`: fields that are rounding. False if it came to no end.
inline bool choose_sides(const ColMatrix<double>& gram, const Vector<double>& base,
                         const Vector<double>& jumps, double head_sign, double noise,
                         std::vector<int>& status) {
  const Index count = base.size();
  const auto at = [](Index p) { return static_cast<std::size_t>(p); };
  const double tolerance =
      std::max(noise, 1e-12 * jumps.cwiseAbs().cwiseProduct(gram.diagonal()).maxCoeff());
  Vector<double> share(count);
  std::vector<Index> inside;
  for (Index round = 0; round < 20 + 10 * count; ++round) {
    inside.clear();
    Vector<double> field = base;
    for (Index p = 0; p < count; ++p) {
      if (status[at(p)] == 0) inside.push_back(p);
      if (status[at(p)] > 0) field += gram.col(p) * jumps(p);
    }
    const auto size = static_cast<Index>(inside.size());
    if (size > 0) {
      ColMatrix<double> system(size, size), fields(size, 1);
      for (Index p = 0; p < size; ++p) {
        fields(p, 0) = field(inside[at(p)]);
        for (Index q = 0; q < size; ++q) system(p, q) = gram(inside[at(p)], inside[at(q)]);
      }
      const ColMatrix<double> coefficients = coefficients_across(system, fields);
      for (Index p = 0; p < size; ++p) {
        const Index q = inside[at(p)];
        share(q) = jumps(q) != 0 ? coefficients(p, 0) / jumps(q) : 2.0;
        field += gram.col(q) * coefficients(p, 0);
      }
    }
    Index changed = -1;
    for (Index p = 0; p < count && changed < 0; ++p) {
      const bool attracting = head_sign * jumps(p) < 0;
      const double speed = head_sign * field(p);
      const int old = status[at(p)];
      if (old == 0) {
        if (!attracting || share(p) < -0.5 * kRelease)
          status[at(p)] = -1;
        else if (share(p) > 1 + 0.5 * kRelease)
          status[at(p)] = 1;
      } else if (old * speed < -tolerance) {
        status[at(p)] = attracting ? 0 : -old;
      }
      if (status[at(p)] != old) changed = p;
    }
    if (changed < 0) return true;
  }
  return false;
}

}  // namespace featcore
