// Weights that are kept, or written when somebody asks, a neuron a row.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "featcore/partition.hpp"
#include "featcore/spectrum.hpp"
#include "featcore/weights.hpp"

namespace featcore {

// Weights a neuron a row: `lay_out` writes them when somebody asks.
template <class T>
class RowWeights final : public PlainWeights<T> {
 public:
  RowWeights(Index m, Index d, const T* a, std::function<void(const Team&, T*)> lay_out)
      : net_{m, d, nullptr, a}, lay_out_(std::move(lay_out)) {}

  Index m() const override { return net_.m; }
  Index d() const override { return net_.d; }
  const T* head() const override { return net_.a; }
  NetworkView<T> rows(const Team& team) const override { return made(team); }
  void write(const Team& team, T* W) const override { lay_out_(team, W); }

  void norms(const Team& team, double* out) const override {
    made(team);
    each_row(team, 1, [&](Index j) { out[j] = detail::norm(row(j), net_.d); });
  }

  void squared_norms(const Team& team, double* out) const override {
    made(team);
    each_row(team, 1, [&](Index j) { out[j] = squared_norm(row(j), net_.d); });
  }

  void cosines(const double* directions, Index count, const Team& team,
               double* out) const override {
    made(team);
    each_row(team, count, [&](Index j) {
      for (Index q = 0; q < count; ++q)
        out[j * count + q] = detail::cosine(row(j), directions + q * net_.d, net_.d);
    });
  }

  void sum_cosines(const std::vector<Index>& members, const double* directions, Index count,
                   const Team& team, double* out) const override {
    made(team);
    std::vector<double> sum(static_cast<std::size_t>(net_.d), 0.0);
    for (const Index j : members)
      for (Index k = 0; k < net_.d; ++k)
        sum[static_cast<std::size_t>(k)] += static_cast<double>(row(j)[k]);
    for (Index q = 0; q < count; ++q)
      out[q] = detail::cosine(sum.data(), directions + q * net_.d, net_.d);
  }

  std::vector<double> singular_values(Index count, const Team& team) const override {
    return featcore::singular_values(made(team), count, team);
  }

 private:
  const NetworkView<T>& made(const Team& team) const {
    if (net_.W == nullptr) {
      W_.resize(static_cast<std::size_t>(net_.m * net_.d));
      lay_out_(team, W_.data());
      net_.W = W_.data();
    }
    return net_;
  }

  // body(j) for every row, which looks at it `times` times.
  template <class Body>
  void each_row(const Team& team, Index times, Body&& body) const {
    constexpr Index kBlock = 64;
    const double work = 4.0 * static_cast<double>(net_.d * times);
    team.for_work(work * static_cast<double>(net_.m))
        .for_each(ceil_div(net_.m, kBlock), [&](Index block, const Worker& worker) {
          const Index end = std::min(net_.m, (block + 1) * kBlock);
          for (Index j = block * kBlock; j < end && !worker.stop(work); ++j) body(j);
        });
  }
  const T* row(Index j) const { return net_.W + j * net_.d; }

  mutable NetworkView<T> net_;
  mutable std::vector<T> W_;
  std::function<void(const Team&, T*)> lay_out_;
};

}  // namespace featcore
