// One bit a (neuron, sample) pair: whether z > 0. The backward pass needs nothing else of z.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "featcore/panels.hpp"

namespace featcore {

// A word holds the bits of one sample for the neurons of one panel.
template <class T>
class Signs {
 public:
  using Word = typename Simd<T>::Word;
  static constexpr Index kPanel = Simd<T>::kPanel;

  Signs() = default;
  Signs(Index n, Index m)
      : n_(n), m_(m), words_(static_cast<std::size_t>(ceil_div(m, kPanel) * n)) {}

  // Of the samples 0..n of a panel.
  Word* panel(Index p) { return words_.data() + p * n_; }
  const Word* panel(Index p) const { return words_.data() + p * n_; }

  bool at(Index neuron, Index sample) const {
    return (panel(neuron / kPanel)[sample] >> (neuron % kPanel) & 1) != 0;
  }

  // Number of neurons that no sample activates.
  Index dead() const {
    Index count = 0;
    for (Index first = 0; first < m_; first += kPanel) {
      Word seen = 0;
      const Word* words = panel(first / kPanel);
      for (Index i = 0; i < n_; ++i) seen = static_cast<Word>(seen | words[i]);
      for (Index j = first; j < std::min(m_, first + kPanel); ++j)
        count += (seen >> (j - first) & 1) == 0;
    }
    return count;
  }

  // Number of different activation patterns among the neurons.
  Index patterns() const {
    const Index length = ceil_div(n_, 64);
    std::vector<std::uint64_t> rows(static_cast<std::size_t>(m_ * length));  // a neuron a row
    for (Index j = 0; j < m_; ++j)
      for (Index i = 0; i < n_; ++i)
        rows[static_cast<std::size_t>(j * length + i / 64)] |= std::uint64_t{at(j, i)} << (i % 64);
    const auto row = [&](Index j) { return rows.begin() + j * length; };
    std::vector<Index> order(static_cast<std::size_t>(m_));
    std::iota(order.begin(), order.end(), Index(0));
    std::sort(order.begin(), order.end(), [&](Index j, Index k) {
      return std::lexicographical_compare(row(j), row(j) + length, row(k), row(k) + length);
    });
    Index distinct = m_ > 0;
    for (std::size_t k = 1; k < order.size(); ++k)
      distinct += !std::equal(row(order[k]), row(order[k]) + length, row(order[k - 1]));
    return distinct;
  }

 private:
  Index n_ = 0;
  Index m_ = 0;
  std::vector<Word> words_;
};

}  // namespace featcore
