// The samples of a hinge loss as a flow reads them: equal ones are one, with the sum of their
// weights, so that they reach their margin, and are held there, together.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "featcore/flow_samples.hpp"
#include "featcore/types.hpp"

namespace featcore {

// What the loss asks of a sample: more margin (its margin is below 1), nothing (above), or that it
// stays where it is (held at 1: a support vector).
enum class Demand : std::int8_t { none = -1, held = 0, full = 1 };

struct HingeGroup {
  Index line;
  double factor;  // x = factor * row(line)
  double label;
  double weight;  // of its residual, label * weight
  std::vector<Index> members;
};

class HingeSamples {
 public:
  // Weights of the split are those of residuals. `given`: as FlowSamples has it.
  HingeSamples(const SplitView<double>& split, const SplitView<double>& given)
      : n_(split.n),
        given_(given.x, given.x + given.n * given.d),
        lines_(split, {given.n, given.d, given_.data(), nullptr, nullptr, nullptr}),
        first_(static_cast<std::size_t>(lines_.n() + 1)) {
    for (Index u = 0; u < lines_.n(); ++u) {
      first_[static_cast<std::size_t>(u)] = groups_.size();
      lines_.each_member(u, [&](Index i) {
        for (std::size_t g = first_[static_cast<std::size_t>(u)]; g < groups_.size(); ++g)
          if (groups_[g].label == split.y[i] && groups_[g].factor == lines_.factor(i)) {
            groups_[g].weight += split.weights[i];
            groups_[g].members.push_back(i);
            return;
          }
        groups_.push_back({u, lines_.factor(i), split.y[i], split.weights[i], {i}});
      });
    }
    first_.back() = groups_.size();
  }

  Index n() const { return n_; }
  const FlowSamples<double>& lines() const { return lines_; }
  FlowSamples<double>& lines() { return lines_; }
  const std::vector<HingeGroup>& groups() const { return groups_; }
  // Of a line: [first, last) of groups.
  std::pair<std::size_t, std::size_t> of_line(Index u) const {
    return {first_[static_cast<std::size_t>(u)], first_[static_cast<std::size_t>(u) + 1]};
  }
  double norm(const HingeGroup& group) const {
    return std::abs(group.factor) * lines_.norm(group.line);
  }

 private:
  Index n_;
  std::vector<double> given_;  // lines_ looks there
  FlowSamples<double> lines_;
  std::vector<HingeGroup> groups_;
  std::vector<std::size_t> first_;
};

}  // namespace featcore
