// The samples of a hinge loss as a flow reads them: equal ones are one, with the sum of their
// weights, so that they reach their margin, and are held there, together.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "featcore/flow_samples.hpp"
#include "featcore/objective.hpp"

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

template <class T>
class HingeSamples {
 public:
  // The split must outlive this.
  HingeSamples(const Objective<T>& objective, const SplitView<T>& given)
      : split_(&objective.split()),
        x_(in_double(*split_, split_->x)),
        given_x_(given.x == split_->x ? std::vector<double>() : in_double(given, given.x)),
        lines_(view(*split_, x_), given.x == split_->x ? view(*split_, x_) : view(given, given_x_)),
        first_(static_cast<std::size_t>(lines_.n() + 1)) {
    const double scale = objective.spec().mean ? 1 / objective.total_weight() : 1.0;
    for (Index u = 0; u < lines_.n(); ++u) {
      first_[static_cast<std::size_t>(u)] = groups_.size();
      lines_.each_member(u, [&](Index i) {
        const double weight = scale * objective.weight(i);
        const double label = static_cast<double>(split_->y[i]);
        for (std::size_t g = first_[static_cast<std::size_t>(u)]; g < groups_.size(); ++g)
          if (groups_[g].label == label && groups_[g].factor == lines_.factor(i)) {
            groups_[g].weight += weight;
            groups_[g].members.push_back(i);
            return;
          }
        groups_.push_back({u, lines_.factor(i), label, weight, {i}});
      });
    }
    first_.back() = groups_.size();
  }

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
  static std::vector<double> in_double(const SplitView<T>& split, const T* x) {
    return {x, x + split.n * split.d};
  }
  static SplitView<double> view(const SplitView<T>& split, const std::vector<double>& x) {
    return {split.n, split.d, x.data(), nullptr, nullptr, nullptr};
  }

  const SplitView<T>* split_;
  std::vector<double> x_, given_x_;
  FlowSamples<double> lines_;
  std::vector<HingeGroup> groups_;
  std::vector<std::size_t> first_;
};

}  // namespace featcore
