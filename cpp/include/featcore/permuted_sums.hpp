// h_j = sum_i r_i sigma'(z_ij) x_i where sigma' has two values, looked up in registers: the 2^k
// sums that k samples can contribute to one input fill two vectors, and a permutation of those
// gives a vector of neurons theirs, by k signs each. A permutation and an addition stand for k
// multiply-adds: five in float32, four in float64. Lanes hold neurons, as everywhere else, so
// nothing is turned over and few inputs leave none empty. (Instruction sets without such
// permutations look up in memory: subset_sums.hpp.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/signs.hpp"
#include "featcore/sums_cut.hpp"

namespace featcore {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)

template <class T>
class PermutedSums {
 public:
  using S = Simd<T>;
  using Int = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
  static constexpr bool kAvailable = true;
  static constexpr Index kPanel = S::kPanel;

  // What a thread works in.
  struct Scratch {
    Buffer<T> weights;    // (look, 6 vectors, or 5)
    Buffer<T> table;      // (look, input of the block, 2 vectors)
    Buffer<Int> subsets;  // (panel of the chunk, look, kPanel): which of the sums are a neuron's
  };

  // A table costs what two vectors of neurons save.
  static bool pays(Index, Index m) { return m > S::kLanes; }

  // What it tells a monitor, and about which part of both passes' time the outputs take.
  static constexpr double kShareOfOutputs = 0.7;
  static double work(Index n, Index d, Index m) {
    return kWork * static_cast<double>(n) * static_cast<double>(d * m);
  }

  PermutedSums() = default;
  // `x` is (n, d) and must outlive this; sigma' is 1 where z > 0 and `slope` elsewhere. `outputs`:
  // how the forward pass is cut.
  PermutedSums(Index n, Index d, Index m, const T* x, T slope, const Partition<T>& outputs)
      : shape_{m, d}, x_(x), slope_(slope), cut_(n, shape_, kNeurons, kInputs, 1, kTile, outputs) {}

  const SumsCut& cut() const { return cut_; }

  // The sums of a unit into `sums`, (panels, d, kPanel), those of its group.
  void compute(Index unit, const T* r, const Signs<T>& signs, const Worker& worker,
               Scratch& scratch, T* sums) const {
    reserve(scratch);
    const Index begin = cut_.panel_chunks.begin(cut_.chunk(unit));
    const Index end = cut_.panel_chunks.end(cut_.chunk(unit));
    const Index neurons = (end - 1 - begin) * kPanel + shape_.neurons(end - 1);
    const Index piece = cut_.piece(unit);
    const Index start = cut_.groups.begin(cut_.group(unit));
    const Index last = cut_.groups.end(cut_.group(unit));
    for (Index tile = start; tile < last; tile += kTile) {
      const Index samples = std::min(kTile, last - tile);
      const auto subsets = [&](Index p) {
        return scratch.subsets.data() + (p - begin) * most_looks() * kPanel;
      };
      weigh(r + tile, samples, scratch.weights.data());
      for (Index p = begin; p < end; ++p) find_subsets(signs, p, tile, samples, subsets(p));
      for (Index block = cut_.pieces.begin(piece); block < cut_.pieces.end(piece); ++block) {
        const Index input = cut_.blocks.begin(block);
        const Index inputs = cut_.blocks.end(block) - input;
        if (worker.stop(work(samples, inputs, neurons))) return;
        micro::with_vectors<kInputs>(static_cast<int>(inputs), [&](auto width) {
          constexpr int R = width();
          make_table<R>(scratch.weights.data(), tile, samples, input, scratch.table.data());
          for (Index p = begin; p < end; ++p)
            micro::with_vectors(shape_.vectors(p), [&](auto vectors) {
              add<vectors(), R>(scratch.table.data(), subsets(p), looks(samples),
                                sums + p * shape_.stride() + input * kPanel, tile == start);
            });
        });
      }
    }
  }

 private:
  static constexpr int kSamples = sizeof(T) == 8 ? 4 : 5;  // of a look
  static constexpr int kInputs = 6;                        // of a block: 24 sums in registers
  static constexpr Index kTile = 32 * kSamples;  // whose tables fill the first-level cache
  static constexpr Index kNeurons = 1024;        // of a chunk: enough to earn the tables
  static constexpr double kWork = 0.5;           // flops in whose time a pair and an input are done
  // NOLINTNEXTLINE(modernize-use-using): the attribute needs a typedef
  typedef Int Lanes __attribute__((vector_size(kVectorBytes), may_alias));
  using Vector = typename S::Vector;
  static constexpr T kNothing[kInputs] = {};  // in place of a sample that is not there

  static Index looks(Index samples) { return ceil_div(samples, kSamples); }

  // Lane l of two tables in a row where lane `which` says l.
  static Vector permute(Vector low, Lanes which, Vector high) {
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<Vector>(_mm512_permutex2var_pd(reinterpret_cast<__m512d>(low),
                                                             reinterpret_cast<__m512i>(which),
                                                             reinterpret_cast<__m512d>(high)));
    else
      return reinterpret_cast<Vector>(_mm512_permutex2var_ps(reinterpret_cast<__m512>(low),
                                                             reinterpret_cast<__m512i>(which),
                                                             reinterpret_cast<__m512>(high)));
  }

  // At a time: of few samples few, for a chunk may have many panels then.
  Index most_looks() const { return looks(std::min(kTile, cut_.groups.count)); }

  void reserve(Scratch& scratch) const {
    if (scratch.table.size() > 0) return;
    scratch.weights = Buffer<T>(most_looks() * (kSamples + 1) * S::kLanes);
    scratch.table = Buffer<T>(most_looks() * kInputs * 2 * S::kLanes);
    scratch.subsets = Buffer<Int>(cut_.panel_chunks.length * most_looks() * kPanel);
  }

  // Bit b of a neuron's subset says whether sample b of the look activates it. As bytes first: a
  // whole panel is one vector of them, and a word of signs its mask.
  void find_subsets(const Signs<T>& signs, Index p, Index first, Index samples, Int* out) const {
    const auto* words = signs.panel(p) + first;
    // Signs of large networks are far away, a short stretch a panel.
    const auto* next = signs.panel(std::min(p + 1, shape_.panels() - 1)) + first;
    for (Index i = 0; i < samples; i += kSamples, out += kPanel) {
      __builtin_prefetch(next + i);
      alignas(64) std::uint8_t bytes[kPanel];
      const Index count = std::min<Index>(kSamples, samples - i);
      if (count == kSamples)
        find_bytes<kSamples>(words + i, bytes);
      else
        micro::with_vectors<kSamples>(static_cast<int>(count),
                                      [&](auto few) { find_bytes<few()>(words + i, bytes); });
      micro::unroll<kPanelVectors>(FEATCORE_EACH(v) {
        const std::uint8_t* part = bytes + v * S::kLanes;
        __m512i which;
        if constexpr (sizeof(T) == 8)
          which = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(part)));
        else
          which = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(part)));
        *reinterpret_cast<Lanes*>(out + v * S::kLanes) = reinterpret_cast<Lanes>(which);
      });
    }
  }

  template <int Count>
  static void find_bytes(const typename S::Word* words, std::uint8_t* bytes) {
    if constexpr (kPanel == 64) {
      __m512i which = _mm512_setzero_si512();
      micro::unroll<Count>(FEATCORE_EACH(b) {
        which = _mm512_mask_add_epi8(which, words[b], which, _mm512_set1_epi8(1 << b));
      });
      _mm512_store_si512(bytes, which);
    } else {
      static_assert(kPanel == 32);
      __m256i which = _mm256_setzero_si256();
      micro::unroll<Count>(FEATCORE_EACH(b) {
        which = _mm256_mask_add_epi8(which, words[b], which, _mm256_set1_epi8(1 << b));
      });
      _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), which);
    }
  }

  // What a look's samples weigh in the subsets, by sample: r where they are in it, `slope` r where
  // not. The last one tells the second vector of subsets from the first.
  void weigh(const T* r, Index samples, T* out) const {
    for (Index i = 0; i < samples; i += kSamples)
      micro::unroll<kSamples>(FEATCORE_EACH(b) {
        const T weight = i + b < samples ? r[i + b] : T(0);
        const Vector in = S::fill(weight);
        const Vector not_in = S::fill(slope_ * weight);
        unsigned lanes = 0;
        for (unsigned l = 0; l < unsigned{S::kLanes}; ++l) lanes |= (l >> b & 1) << l;
        S::store(out, S::select(static_cast<typename S::Bits>(lanes), in, not_in));
        out += S::kLanes;
        if (b == kSamples - 1) {
          S::store(out, in);
          out += S::kLanes;
        }
      });
  }

  // Lane l of a look's two vectors in a row is the sum over its samples for subset l.
  template <int R>
  void make_table(const T* weights, Index first, Index samples, Index input, T* table) const {
    constexpr int kLast = kSamples - 1;
    for (Index i = 0; i < samples; i += kSamples) {
      const T* row[kSamples];
      micro::unroll<kSamples>(FEATCORE_EACH(b) {
        row[b] = i + b < samples ? x_ + (first + i + b) * shape_.d + input : kNothing;
      });
      Vector weight[kSamples + 1];
      micro::unroll<kSamples + 1>(FEATCORE_EACH(b) {
        weight[b] = S::load(weights);
        weights += S::kLanes;
      });
      micro::unroll<R>(FEATCORE_EACH(k) {
        Vector sum = weight[0] * S::fill(row[0][k]);
        micro::unroll<kLast - 1>(
            FEATCORE_EACH(b) { sum += weight[b + 1] * S::fill(row[b + 1][k]); });
        const Vector value = S::fill(row[kLast][k]);
        S::store(table, sum + weight[kLast] * value);
        S::store(table + S::kLanes, sum + weight[kLast + 1] * value);
        table += 2 * S::kLanes;
      });
    }
  }

  // h_kv += the sums of the subsets, or = for the first samples, for `R` inputs and the first `V`
  // vectors of a panel; the others are set to 0.
  template <int V, int R>
  static void add(const T* table, const Int* subsets, Index looks, T* h, bool first) {
    Vector sum[R][V] = {};
    for (Index look = 0; look < looks; ++look) {
      Lanes which[V];
      micro::unroll<V>(FEATCORE_EACH(v) {
        which[v] = *reinterpret_cast<const Lanes*>(subsets + look * kPanel + v * S::kLanes);
      });
      micro::unroll<R>(FEATCORE_EACH(k) {
        const Vector low = S::load(table + (look * R + k) * 2 * S::kLanes);
        const Vector high = S::load(table + (look * R + k) * 2 * S::kLanes + S::kLanes);
        micro::unroll<V>(FEATCORE_EACH(v) { sum[k][v] += permute(low, which[v], high); });
      });
    }
    micro::unroll<R>(FEATCORE_EACH(k) {
      T* out = h + k * kPanel;
      micro::unroll<V>(FEATCORE_EACH(v) {
        const Vector old = first ? Vector{} : S::load(out + v * S::kLanes);
        S::store(out + v * S::kLanes, old + sum[k][v]);
      });
      if (first) std::fill(out + V * S::kLanes, out + kPanel, T(0));
    });
  }

  PanelShape<T> shape_;
  const T* x_ = nullptr;
  T slope_ = 0;
  SumsCut cut_;
};

#else

template <class T>
class PermutedSums {
 public:
  static constexpr bool kAvailable = false;
};

#endif

}  // namespace featcore
