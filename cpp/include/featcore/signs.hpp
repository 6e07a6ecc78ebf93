// One bit a (neuron, sample) pair: whether z > 0. The backward pass needs nothing else of z.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
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

// a b + c modulo the prime 2^61 - 1, for a and b below it.
inline std::uint64_t times_plus(std::uint64_t a, std::uint64_t b, std::uint32_t c) {
  __extension__ using Wide = unsigned __int128;
  constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;
  const Wide product = static_cast<Wide>(a) * b + c;
  const std::uint64_t sum =
      static_cast<std::uint64_t>(product & kPrime) + static_cast<std::uint64_t>(product >> 61);
  return sum >= kPrime ? sum - kPrime : sum;
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

  bool empty() const { return words_.empty(); }

  // Number of neurons that no sample activates.
  Index dead(const Team& whole_team) const {
    const Index panels = ceil_div(m_, kPanel);
    std::vector<Index> counts(static_cast<std::size_t>(panels));
    const Team team = whole_team.for_work(static_cast<double>(n_) * static_cast<double>(panels));
    team.for_each(panels, [&](Index p, const Worker& worker) {
      if (worker.stop(static_cast<double>(n_))) return;
      Word seen = 0;
      const Word* words = panel(p);
      for (Index i = 0; i < n_; ++i) seen = static_cast<Word>(seen | words[i]);
      for (Index l = 0; l < std::min(kPanel, m_ - p * kPanel); ++l)
        counts[static_cast<std::size_t>(p)] += (seen >> l & 1) == 0;
    });
    return std::accumulate(counts.begin(), counts.end(), Index(0));
  }

  // Number of different activation patterns among the neurons: of different hashes of 122 bits,
  // two polynomials in 32 signs at a time. Patterns that differ share both with a chance of
  // (n / 32)^2 / 2^122, were the points random; to lay patterns out a neuron a row and compare
  // them would take the memory of all signs once more.
  Index patterns(const Team& whole_team) const {
    using Hash = std::array<std::uint64_t, 2>;
    constexpr Hash kPoints = {0x0fc94e2f5a3d7b91, 0x13a7d60b8e54c2f3};  // below the modulus
    constexpr Index kStretch = 2048;                                    // between two looks
    std::vector<Hash> hashes(static_cast<std::size_t>(m_));
    const double work = 4.0 * static_cast<double>(m_) * static_cast<double>(n_) / 32;
    const Team team = whole_team.for_work(work);
    team.for_each(ceil_div(m_, kPanel), [&](Index p, const Worker& worker) {
      const Index neurons = std::min(kPanel, m_ - p * kPanel);
      Hash* rows = hashes.data() + p * kPanel;
      std::uint32_t words[kPanel];
      for (Index first = 0; first < n_; first += 32) {
        if (first % kStretch == 0 && worker.stop(static_cast<double>(kStretch * kPanel))) return;
        columns(p, first, std::min<Index>(32, n_ - first), words);
        for (Index l = 0; l < neurons; ++l)
          for (std::size_t k = 0; k < 2; ++k)
            rows[l][k] = detail::times_plus(rows[l][k], kPoints[k], words[l]);
      }
    });
    std::sort(hashes.begin(), hashes.end());
    return std::unique(hashes.begin(), hashes.end()) - hashes.begin();
  }

 private:
  Index n_ = 0;
  Index m_ = 0;
  std::vector<Word> words_;
};

}  // namespace featcore
