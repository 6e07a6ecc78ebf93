// One bit a (neuron, sample) pair: whether z > 0. The backward pass needs nothing else of z.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "featcore/panels.hpp"
#include "featcore/simd.hpp"

namespace featcore {

namespace detail {

// Bit i of out[l] is bit l of bytes[i].
inline void bit_columns(const std::uint8_t (&bytes)[32], std::uint32_t* out) {
#if defined(__AVX2__)
  __m256i rows = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
  for (int l = 7; l >= 0; --l) {
    out[l] = static_cast<std::uint32_t>(_mm256_movemask_epi8(rows));
    rows = _mm256_add_epi8(rows, rows);
  }
#else
  std::fill_n(out, 8, 0u);
  for (int part = 0; part < 4; ++part) {
    std::uint64_t square = 0;
    for (int i = 0; i < 8; ++i) square |= std::uint64_t{bytes[8 * part + i]} << (8 * i);
    // Squares of 2 x 2 bits are turned over, then squares of 2 x 2 of those, and again.
    const auto turn = [&square](int shift, std::uint64_t upper) {
      const std::uint64_t moved = (square ^ (square >> shift)) & upper;
      square ^= moved ^ (moved << shift);
    };
    turn(7, 0x00AA00AA00AA00AA);
    turn(14, 0x0000CCCC0000CCCC);
    turn(28, 0x00000000F0F0F0F0);
    for (int l = 0; l < 8; ++l)
      out[l] |= static_cast<std::uint32_t>(square >> (8 * l) & 0xFF) << (8 * part);
  }
#endif
}

}  // namespace detail

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

  // The other way round: bit i of out[l] is that of sample first + i and neuron l of panel p, for
  // up to 32 samples; the bits above are 0.
  void columns(Index p, Index first, Index samples, std::uint32_t* out) const {
    const Word* words = panel(p) + first;
    for (Index byte = 0; byte < kPanel / 8; ++byte) {
      alignas(32) std::uint8_t column[32] = {};
      for (Index i = 0; i < samples; ++i)
        column[i] = static_cast<std::uint8_t>(words[i] >> (8 * byte));
      detail::bit_columns(column, out + 8 * byte);
    }
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
