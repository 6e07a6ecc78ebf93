// Where a leaky neuron with w = 0 goes: all hyperplanes meet there, so what it gains depends on the
// direction it takes alone, and it takes the one it gains most along. See docs/derivations.md.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "featcore/box_program.hpp"
#include "featcore/eigen.hpp"

namespace featcore {

// With F(w) = sum_p off_p z_p + jump_p max(z_p, 0), z = rows w, a neuron whose head has the sign
// `sign` follows the ascent of sign F.
struct KinkedField {
  RowMatrix<double> rows;  // (lines, inputs), none of them zero
  Vector<double> off, jumps;
  Vector<double> noise;  // what rounding may make of rows times a field
  double sign;
};

struct WayOut {
  double speed = 0;        // by which |w| grows, over |a|; 0 if there is none
  std::vector<int> sides;  // of the lines: on (1), off (-1) or held (0)
};

// The steepest ascent, if it is more than `least`. Given who of those that repel (sign jump > 0) is
// on, what is left is concave, and its steepest ascent the shortest of a polytope. Sides that this
// leads to make it steeper, until they stay. It begins where all are half on, and there across each
// line, both ways: in the plane these are all directions between which F is linear, so that a way
// out is found if there is one.
inline WayOut find_way_out(const KinkedField& field, double least) {
  const Index count = field.off.size();
  const auto at = [](Index p) { return static_cast<std::size_t>(p); };
  std::vector<Index> attracting, repelling;
  for (Index p = 0; p < count; ++p) {
    if (field.sign * field.jumps(p) < 0) attracting.push_back(p);
    if (field.sign * field.jumps(p) > 0) repelling.push_back(p);
  }
  const auto held = static_cast<Index>(attracting.size());
  RowMatrix<double> steps(held, field.rows.cols());
  Vector<double> noise(held);
  for (Index q = 0; q < held; ++q) {
    const Index p = attracting[at(q)];
    steps.row(q) = field.jumps(p) * field.rows.row(p);
    noise(q) = std::abs(field.jumps(p)) * field.noise(p);
  }
  const ColMatrix<double> K = steps * steps.transpose();
  const Eigen::RowVectorXd all_off = field.off.transpose() * field.rows;

  WayOut best;
  const auto climb = [&](const Eigen::RowVectorXd& start) {
    std::vector<int> sides(at(count), -1);
    Vector<double> along = field.rows * start.transpose();
    Vector<double> share(held);
    Eigen::RowVectorXd v;
    for (Index round = 0; round < 2 + 2 * count; ++round) {
      bool turns = round == 0;
      for (const Index p : repelling) {
        if (round > 0 && std::abs(along(p)) <= field.noise(p)) continue;
        const int side = along(p) > field.noise(p) ? 1 : -1;
        turns = turns || side != sides[at(p)];
        sides[at(p)] = side;
      }
      if (!turns) break;
      v = all_off;
      for (const Index p : repelling)
        if (sides[at(p)] > 0) v += field.jumps(p) * field.rows.row(p);
      for (Index q = 0; q < held; ++q) share(q) = along(attracting[at(q)]) > 0 ? 1 : 0;
      minimize_in_box(K, steps * v.transpose(), noise, share);
      v += share.transpose() * steps;
      along = field.sign * (field.rows * v.transpose());
    }
    const double speed = v.norm();
    // the same way, from another start
    constexpr double kSame = 1e-9;
    if (!(speed > least) || !(speed > (1 + kSame) * best.speed)) return;
    best.speed = speed;
    for (Index p = 0; p < count; ++p)
      if (field.jumps(p) == 0) sides[at(p)] = along(p) > 0 ? 1 : -1;
    for (Index q = 0; q < held; ++q)
      sides[at(attracting[at(q)])] = (share(q) >= 1 ? 1 : 0) - (share(q) <= 0 ? 1 : 0);
    best.sides = std::move(sides);
  };
  const Eigen::RowVectorXd half =
      field.sign * (field.off + 0.5 * field.jumps).transpose() * field.rows;
  climb(half);
  for (Index p = 0; p < count; ++p) {
    const auto row = field.rows.row(p);
    const Eigen::RowVectorXd across = half - row.dot(half) / row.squaredNorm() * row;
    for (const double way : {1.0, -1.0}) climb(way * across);
  }
  return best;
}

}  // namespace featcore
