// One bit a (neuron, sample) pair: whether z > 0. The backward pass needs nothing else of z.
//
// Bit b of word l of a tile belongs to sample b * kLanes + l, so that packing and unpacking are
// plain loops over lanes that any compiler vectorises; no movemask is needed.
#pragma once

#include <cstring>
#include <vector>

#include "featcore/partition.hpp"

namespace featcore {

template <class T>
class Signs {
 public:
  using Shape = TileShape<T>;
  using Word = typename Shape::Word;

  Signs() = default;
  Signs(Index n, Index m, const Cut& sample_tiles)
      : n_(n),
        m_(m),
        tiles_(sample_tiles),
        words_(static_cast<std::size_t>(tiles_.pieces() * m * Shape::kLanes)) {}

  Word* at(Index tile, Index neuron) {
    return words_.data() + (tile * m_ + neuron) * Shape::kLanes;
  }
  const Word* at(Index tile, Index neuron) const {
    return words_.data() + (tile * m_ + neuron) * Shape::kLanes;
  }

  Index n() const { return n_; }
  Index m() const { return m_; }
  Index tiles() const { return tiles_.pieces(); }

  bool any(Index neuron) const {
    for (Index t = 0; t < tiles(); ++t) {
      const Word* words = at(t, neuron);
      for (Index l = 0; l < Shape::kLanes; ++l)
        if (words[l]) return true;
    }
    return false;
  }

  // Lexicographic order of two neurons' patterns; 0 means equal.
  int compare(Index j, Index k) const {
    for (Index t = 0; t < tiles(); ++t)
      if (const int order = std::memcmp(at(t, j), at(t, k), Shape::kLanes * sizeof(Word)))
        return order;
    return 0;
  }

 private:
  Index n_ = 0;
  Index m_ = 0;
  Cut tiles_;
  std::vector<Word> words_;
};

}  // namespace featcore
