// Samples as the backward product reads them: kMicroBlock inputs side by side, sample after sample,
// so that a tile is one stream. Read across the rows of x, it would be as many streams as samples,
// which no prefetcher follows.
#pragma once

#include <algorithm>

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// x, (samples, d), as (block, sample, input of the block), in the blocks of micro::blocks.
template <class T>
void pack_inputs(const T* x, Index samples, Index d, T* out) {
  micro::blocks(d, [&](auto width, Index k) {
    T* block = out + k * samples;
    for (Index i = 0; i < samples; ++i) std::copy_n(x + i * d + k, width(), block + i * width());
  });
}

// The tiles of one set of samples: packed once where memory does not matter, or where a copy of
// them was allowed for; else each time.
template <class T>
class PackedInputs {
 public:
  PackedInputs() = default;
  PackedInputs(const T* x, Index d, const Cut& tiles, bool whatever, const Team& team)
      : x_(x), d_(d) {
    if (!whatever && tiles.count * d > kBudget) return;
    packed_ = Buffer<T>::unset(tiles.count * d);
    team.for_each(tiles.pieces(), [&](Index s, const Worker&) {
      const Index first = tiles.begin(s);
      pack_inputs(x + first * d, tiles.end(s) - first, d, packed_.data() + first * d);
    });
  }

  bool empty() const { return x_ == nullptr; }

  // The samples first .. first + samples of one tile; `scratch` may be where they are packed.
  const T* tile(Index first, Index samples, Buffer<T>& scratch) const {
    if (packed_.size() > 0) return packed_.data() + first * d_;
    if (scratch.size() < samples * d_) scratch = Buffer<T>(samples * d_);
    pack_inputs(x_ + first * d_, samples, d_, scratch.data());
    return scratch.data();
  }

 private:
  static constexpr Index kBudget = 16 * 1024 * 1024 / static_cast<Index>(sizeof(T));

  const T* x_ = nullptr;
  Index d_ = 0;
  Buffer<T> packed_;
};

}  // namespace featcore
