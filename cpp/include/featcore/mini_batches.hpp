// Mini-batches: every epoch goes through all samples once, in an order of its own; the last batch
// of an epoch has what is left.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

#include "featcore/epoch_order.hpp"
#include "featcore/form.hpp"
#include "featcore/objective.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

template <class T>
class MiniBatches {
 public:
  // `whole` is minimised; its samples must outlive this.
  MiniBatches(const Objective<T>& whole, Index size, std::uint64_t seed)
      : whole_(whole), size_(std::min(size, whole.split().n)), seed_(seed) {
    if (size < 1) throw std::invalid_argument("a batch needs at least one sample");
    const SplitView<T>& all = whole.split();
    x_.resize(static_cast<std::size_t>(size_ * all.d));
    y_.resize(static_cast<std::size_t>(size_));
    if (all.weights) weights_.resize(y_.size());
  }

  // Split 0 of the form has the batch; the splits that are observed follow.
  static constexpr Index kBefore = 1;

  // Steps of an epoch.
  Index per_epoch() const { return ceil_div(whole_.split().n, size_); }

  // Whether the loss on all samples is worth its price there.
  bool looks_at_all(std::int64_t step) const { return step % per_epoch() == 0; }

  // Has the form trained on the batch of a step, and returns what is minimised on it: in
  // expectation it is that of all samples.
  const Objective<T>& go_to(std::int64_t step, Form<T>& form, const Team& team) {
    const SplitView<T>& all = whole_.split();
    const std::int64_t epoch = step / per_epoch();
    if (epoch != epoch_) {
      order_ = epoch_order(all.n, seed_, epoch);
      epoch_ = epoch;
    }
    const Index first = static_cast<Index>(step % per_epoch()) * size_;
    const Index count = std::min(size_, all.n - first);
    constexpr Index kBlock = 64;
    team.for_work(static_cast<double>(count * all.d))
        .for_each(ceil_div(count, kBlock), [&](Index block, const Worker&) {
          const Index end = std::min(count, (block + 1) * kBlock);
          for (Index b = block * kBlock; b < end; ++b) {
            const Index i = order_[static_cast<std::size_t>(first + b)];
            std::copy_n(all.x + i * all.d, all.d, x_.data() + b * all.d);
            y_[static_cast<std::size_t>(b)] = all.y[i];
            if (all.weights) weights_[static_cast<std::size_t>(b)] = all.weights[i];
          }
        });
    batch_.emplace(whole_, SplitView<T>{count, all.d, x_.data(), y_.data(), nullptr,
                                        all.weights ? weights_.data() : nullptr});
    form.train_on(batch_->split());
    return *batch_;
  }

 private:
  const Objective<T>& whole_;
  Index size_;
  std::uint64_t seed_;
  std::int64_t epoch_ = -1;
  std::vector<Index> order_;
  std::vector<T> x_, y_, weights_;  // of the batch
  std::optional<Objective<T>> batch_;
};

}  // namespace featcore
