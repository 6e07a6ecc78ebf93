// min x' K x / 2 + D' x over 0 <= x <= 1, for K = J J' and D in the range of J.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/least_norm.hpp"

namespace featcore {

// By an active set: variables at a bound are let go one by one, the others go to the minimum or to
// the first bound on the way. `x` is where to begin, and the solution. `noise`: gradients that are
// rounding. False if it came to no end, for which rounding would have to be to blame: each round
// ends lower than the last.
inline bool minimize_in_box(const ColMatrix<double>& K, const Vector<double>& D,
                            const Vector<double>& noise, Vector<double>& x) {
  const Index count = D.size();
  if (count == 0) return true;
  std::vector<char> free(static_cast<std::size_t>(count));
  const auto is_free = [&](Index p) -> char& { return free[static_cast<std::size_t>(p)]; };
  for (Index p = 0; p < count; ++p) {
    is_free(p) = x(p) > 0 && x(p) < 1 ? 1 : 0;
    x(p) = std::clamp(x(p), 0.0, 1.0);
  }
  std::vector<Index> inside;
  bool done = false;
  for (Index round = 0; round < 10 + 10 * count && !done; ++round) {
    for (;;) {
      inside.clear();
      for (Index p = 0; p < count; ++p)
        if (is_free(p) != 0) inside.push_back(p);
      if (inside.empty()) break;
      const auto size = static_cast<Index>(inside.size());
      const Vector<double> gradient = K * x + D;
      ColMatrix<double> system(size, size);
      Vector<double> right(size);
      for (Index p = 0; p < size; ++p) {
        right(p) = -gradient(inside[static_cast<std::size_t>(p)]);
        for (Index q = 0; q < size; ++q)
          system(p, q) =
              K(inside[static_cast<std::size_t>(p)], inside[static_cast<std::size_t>(q)]);
      }
      const Vector<double> move = LeastNorm(system).solve_one(right);
      double share = 1;
      Index first = -1;
      for (Index p = 0; p < size; ++p) {
        const double now = x(inside[static_cast<std::size_t>(p)]);
        const double room = move(p) > 0 ? 1 - now : now;
        if (std::abs(move(p)) * share > room) {
          share = room / std::abs(move(p));
          first = p;
        }
      }
      for (Index p = 0; p < size; ++p) {
        double& value = x(inside[static_cast<std::size_t>(p)]);
        value = std::clamp(value + share * move(p), 0.0, 1.0);
      }
      if (first < 0) break;
      const Index bound = inside[static_cast<std::size_t>(first)];
      x(bound) = move(first) > 0 ? 1 : 0;
      is_free(bound) = 0;
    }
    const Vector<double> gradient = K * x + D;
    Index worst = -1;
    double most = 1;
    for (Index p = 0; p < count; ++p) {
      if (is_free(p) != 0) continue;
      const double pull = (x(p) > 0 ? gradient(p) : -gradient(p)) /
                          std::max(noise(p), std::numeric_limits<double>::min());
      if (pull > most) {
        most = pull;
        worst = p;
      }
    }
    done = worst < 0;
    if (!done) is_free(worst) = 1;
  }
  // what is at a bound but for rounding is there
  for (Index p = 0; p < count; ++p) {
    if (x(p) * K(p, p) <= noise(p)) x(p) = 0;
    if ((1 - x(p)) * K(p, p) <= noise(p)) x(p) = 1;
  }
  return done;
}

}  // namespace featcore
