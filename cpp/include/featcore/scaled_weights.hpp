// The weights of a network whose neurons have scales of their own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "featcore/neuron_scales.hpp"
#include "featcore/row_weights.hpp"

namespace featcore {

// Directions come from the mantissas, sizes from the weights in the unit of the largest.
template <class T>
class ScaledWeights final : public Weights<T> {
 public:
  // Everything must outlive the weights; `k`: of each neuron, see NeuronScales.
  ScaledWeights(const NetworkView<T>& mantissas, const NeuronScales& scales, const std::int64_t* k)
      : net_(mantissas),
        scales_(&scales),
        k_(k),
        unit_(scales.unit(k)),
        head_(static_cast<std::size_t>(net_.m)),
        mantissas_(net_.m, net_.d, net_.a, [this](const Team& team, T* W) { write(team, W); }),
        sized_(net_.m, net_.d, head_.data(), [this](const Team&, T* W) { write_sized(W); }) {
    for (Index j = 0; j < net_.m; ++j)
      head_[static_cast<std::size_t>(j)] = static_cast<T>(size(j) * static_cast<double>(net_.a[j]));
  }

  Index m() const override { return net_.m; }
  Index d() const override { return net_.d; }
  const T* head() const override { return net_.a; }
  const T* sized_head() const override { return head_.data(); }
  double unit() const override { return unit_.size(); }
  double squared_unit() const override { return unit_.squared(); }
  const std::int64_t* exponents() const override { return k_; }

  NetworkView<T> rows(const Team&) const override { return net_; }
  void write(const Team&, T* W) const override { std::copy_n(net_.W, net_.m * net_.d, W); }

  void norms(const Team& team, double* out) const override { sized_.norms(team, out); }
  void squared_norms(const Team& team, double* out) const override {
    sized_.squared_norms(team, out);
  }

  void log_norms(const Team& team, double* out) const override {
    mantissas_.log_norms(team, out);
    for (Index j = 0; j < net_.m; ++j) out[j] += scales_->log(j, k_[j]);
  }

  void cosines(const double* directions, Index count, const Team& team,
               double* out) const override {
    mantissas_.cosines(directions, count, team, out);
  }

  // In the unit of the largest of them: a group may be far below another.
  void sum_cosines(const std::vector<Index>& members, const double* directions, Index count,
                   const Team& team, double* out) const override {
    std::vector<T> rows(members.size() * static_cast<std::size_t>(net_.d));
    std::vector<Index> all;
    bool limit = true;
    for (const Index j : members) limit = limit && scales_->vanishes(j);
    double largest = -std::numeric_limits<double>::infinity();
    for (const Index j : members)
      if (limit || !scales_->vanishes(j)) largest = std::max(largest, scales_->log(j, k_[j]));
    for (std::size_t q = 0; q < members.size(); ++q) {
      const Index j = members[q];
      const double share =
          limit || !scales_->vanishes(j) ? std::exp(scales_->log(j, k_[j]) - largest) : 0.0;
      for (Index k = 0; k < net_.d; ++k)
        rows[q * static_cast<std::size_t>(net_.d) + static_cast<std::size_t>(k)] =
            static_cast<T>(share * static_cast<double>(net_.W[j * net_.d + k]));
      all.push_back(static_cast<Index>(q));
    }
    const RowWeights<T> group(
        static_cast<Index>(members.size()), net_.d, nullptr,
        [&rows](const Team&, T* W) { std::copy(rows.begin(), rows.end(), W); });
    group.sum_cosines(all, directions, count, team, out);
  }

  std::vector<double> singular_values(Index count, const Team& team) const override {
    return sized_.singular_values(count, team);
  }

 private:
  double size(Index j) const { return scales_->size(j, k_[j], unit_); }

  void write_sized(T* W) const {
    for (Index j = 0; j < net_.m; ++j)
      for (Index k = 0; k < net_.d; ++k)
        W[j * net_.d + k] = static_cast<T>(size(j) * static_cast<double>(net_.W[j * net_.d + k]));
  }

  NetworkView<T> net_;
  const NeuronScales* scales_;
  const std::int64_t* k_;
  NeuronScales::Unit unit_;
  std::vector<T> head_;
  RowWeights<T> mantissas_, sized_;
};

}  // namespace featcore
