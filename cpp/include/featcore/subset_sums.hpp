// h_j = sum_i r_i sigma'(z_ij) x_i where sigma' has two values, without multiplying: the sixteen
// sums that four samples can contribute are made once, and every neuron looks its own up by four
// signs. One addition stands for four multiply-adds (the method of four Russians: Arlazarov, Dinic,
// Kronrod and Faradzev 1970).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/signs.hpp"
#include "featcore/sums_cut.hpp"
#include "featcore/transpose.hpp"

namespace featcore {

template <class T>
class SubsetSums {
 public:
  using S = Simd<T>;
  static constexpr int kPanel = S::kPanel;

  // What a thread works in.
  struct Scratch {
    Buffer<T> table;                   // (four samples, subset, input of the block)
    Buffer<T> rows;                    // (neuron of the chunk, input of the block)
    Buffer<T> edge;                    // samples that may not be read where they lie, and zeros
    std::vector<std::uint32_t> words;  // (32 samples, neuron of the chunk): their signs
  };

  // Lanes hold inputs here and neurons elsewhere: few inputs leave them empty. A few neurons do
  // not earn the table.
  static bool pays(Index d, Index m) { return 2 * d >= S::kLanes && m >= 16; }

  // What it tells a monitor, and about which part of both passes' time the outputs take.
  static constexpr double kShareOfOutputs = 0.6;
  static double work(Index n, Index d, Index m) {
    return static_cast<double>(n) * static_cast<double>(ceil_div(d, S::kLanes) * m);
  }

  SubsetSums() = default;
  // `x` is (n, d) and must outlive this; sigma' is 1 where z > 0 and `slope` elsewhere. `outputs`:
  // how the forward pass is cut.
  SubsetSums(Index n, Index d, Index m, const T* x, T slope, const Partition<T>& outputs)
      : n_(n),
        shape_{m, d},
        x_(x),
        slope_(slope),
        cut_(n, shape_, kNeurons, kVectors * S::kLanes, S::kLanes, kWord, outputs) {}

  const SumsCut& cut() const { return cut_; }

  // The sums of a unit into `sums`, (panels, d, kPanel), those of its group.
  void compute(Index unit, const T* r, const Signs<T>& signs, const Worker& worker,
               Scratch& scratch, T* sums) const {
    reserve(scratch);
    const Index piece = cut_.piece(unit);
    const Index begin = cut_.panel_chunks.begin(cut_.chunk(unit));
    const Index end = cut_.panel_chunks.end(cut_.chunk(unit));
    const Index neurons = (end - begin) * kPanel;
    const Index wanted = (end - 1 - begin) * kPanel + shape_.neurons(end - 1);
    const Index start = cut_.groups.begin(cut_.group(unit));
    const Index last = cut_.groups.end(cut_.group(unit));
    for (Index tile = start; tile < last; tile += kTile) {
      const Index samples = std::min(kTile, last - tile);
      for (Index i = 0; i < samples; i += kWord)
        for (Index p = begin; p < end; ++p)
          signs.columns(p, tile + i, std::min(kWord, samples - i),
                        scratch.words.data() + i / kWord * neurons + (p - begin) * kPanel);
      const bool add = tile != start;
      for (Index block = cut_.pieces.begin(piece); block < cut_.pieces.end(piece); ++block) {
        const Index input = cut_.blocks.begin(block);
        const Index inputs = cut_.blocks.end(block) - input;
        micro::with_vectors<kVectors>(
            static_cast<int>(ceil_div(inputs, S::kLanes)), [&](auto vectors) {
              constexpr int V = vectors();
              for (Index i = 0; i < samples; i += kWord) {
                // A neuron and a vector of inputs cost about an addition a sample, over four.
                const Index here = std::min(kWord, samples - i);
                if (worker.stop(static_cast<double>(wanted * V * here))) return;
                make_table<V>(r, tile + i, here, input, scratch);
                look_up<V>(scratch.table.data(), ceil_div(here, 4),
                           scratch.words.data() + i / kWord * neurons, wanted, scratch.rows.data(),
                           i == 0);
              }
              for (Index p = begin; p < end; ++p)
                write<V>(scratch.rows.data() + (p - begin) * kPanel * V * S::kLanes, p, input,
                         sums + p * shape_.stride(), add);
            });
      }
    }
  }

 private:
  static constexpr int kVectors = 4;      // of a block of inputs: half of the registers, at most
  static constexpr Index kWord = 32;      // samples whose tables fill the first-level cache
  static constexpr Index kTile = 2048;    // samples between two visits of the sums
  static constexpr Index kNeurons = 512;  // of a chunk: enough to earn the tables
  static constexpr int kFours = kWord / 4;
  static constexpr Index kSubsets = 16;

  // Numbers from one subset's sums of V vectors to the next one's: a power of two.
  static constexpr Index entry(int V) { return (V == 3 ? 4 : V) * S::kLanes; }

  void reserve(Scratch& scratch) const {
    if (scratch.table.size() > 0) return;
    constexpr Index kBlock = kVectors * S::kLanes;
    const Index neurons = cut_.panel_chunks.length * kPanel;
    scratch.table = Buffer<T>(kFours * kSubsets * kBlock);
    scratch.rows = Buffer<T>(neurons * kBlock);
    scratch.edge = Buffer<T>(5 * kBlock);
    scratch.words.resize(
        static_cast<std::size_t>(ceil_div(std::min(kTile, cut_.groups.length), kWord) * neurons));
  }

  template <int V>
  void make_table(const T* r, Index first, Index samples, Index input, Scratch& scratch) const {
    constexpr Index kWide = V * S::kLanes;
    for (Index four = 0; four < samples; four += 4) {
      const T* row[4];
      typename S::Vector on[4];
      typename S::Vector off[4];
      for (Index b = 0; b < 4; ++b) {
        const Index i = first + four + b;
        const bool there = four + b < samples;
        const T weight = there ? r[i] : T(0);
        on[b] = S::fill(weight);
        off[b] = S::fill(slope_ * weight);
        row[b] = x_ + i * shape_.d + input;
        if (!there) {
          row[b] = scratch.edge.data() + 4 * kVectors * S::kLanes;
        } else if (i * shape_.d + input + kWide > n_ * shape_.d) {
          T* copy = scratch.edge.data() + b * kVectors * S::kLanes;
          std::copy(row[b], x_ + n_ * shape_.d, copy);
          row[b] = copy;
        }
      }
      T* table = scratch.table.data() + four / 4 * kSubsets * entry(V);
      for (int v = 0; v < V; ++v) {
        typename S::Vector sum[kSubsets];
        typename S::Vector x = load(row[0] + v * S::kLanes);
        sum[0] = off[0] * x;
        sum[1] = on[0] * x;
        x = load(row[1] + v * S::kLanes);
        micro::unroll<2>(FEATCORE_EACH(s) {
          sum[s + 2] = sum[s] + on[1] * x;
          sum[s] += off[1] * x;
        });
        x = load(row[2] + v * S::kLanes);
        micro::unroll<4>(FEATCORE_EACH(s) {
          sum[s + 4] = sum[s] + on[2] * x;
          sum[s] += off[2] * x;
        });
        x = load(row[3] + v * S::kLanes);
        micro::unroll<8>(FEATCORE_EACH(s) {
          sum[s + 8] = sum[s] + on[3] * x;
          sum[s] += off[3] * x;
        });
        micro::unroll<kSubsets>(
            FEATCORE_EACH(s) { S::store(table + s * entry(V) + v * S::kLanes, sum[s]); });
      }
    }
  }

  template <int V>
  static void look_up(const T* table, Index fours, const std::uint32_t* words, Index neurons,
                      T* rows, bool first) {
    constexpr Index kWide = V * S::kLanes;
    // Signs in place to be offsets of bytes: what is left to compute is one shift and one mask.
    constexpr std::uint64_t kBytes = entry(V) * sizeof(T);
    constexpr std::uint64_t kMask = (kSubsets - 1) * kBytes;
    const char* start = reinterpret_cast<const char*>(table);
    for (Index j = 0; j < neurons; ++j) {
      T* row = rows + j * kWide;
      typename S::Vector sum[V];
      micro::unroll<V>(FEATCORE_EACH(v) {
        sum[v] = first ? typename S::Vector{} : S::load(row + v * S::kLanes);
      });
      const std::uint64_t signs = words[j] * kBytes;
      const auto add = [&](auto four) __attribute__((always_inline)) {
        const std::uint64_t offset = signs >> (4 * four) & kMask;
        const char* subset = start + offset + four * (kSubsets * kBytes);
        micro::unroll<V>(FEATCORE_EACH(v) {
          sum[v] += S::load(reinterpret_cast<const T*>(subset) + v * S::kLanes);
        });
      };
      if (fours == kFours)
        micro::unroll<kFours>(add);
      else
        for (Index four = 0; four < fours; ++four) add(four);
      micro::unroll<V>(FEATCORE_EACH(v) { S::store(row + v * S::kLanes, sum[v]); });
    }
  }

  // The rows of a panel's neurons, from `input` on, into its sums h, (d, kPanel).
  template <int V>
  void write(const T* rows, Index p, Index input, T* h, bool add) const {
    constexpr int kLanes = S::kLanes;
    const int vectors = shape_.vectors(p);
    for (int u = 0; u < kPanelVectors; ++u)
      for (int v = 0; v < V; ++v) {
        typename S::Vector square[kLanes] = {};
        if (u < vectors) {  // the others are padding
          micro::unroll<kLanes>(FEATCORE_EACH(l) {
            square[l] = S::load(rows + ((u * kLanes + l) * V + v) * kLanes);
          });
          transpose<T>(square);
        }
        const Index first = input + v * kLanes;
        T* out = h + first * kPanel + u * kLanes;
        for (Index k = 0; k < std::min<Index>(kLanes, shape_.d - first); ++k) {
          const auto sum = square[k];
          S::store(out + k * kPanel, add ? S::load(out + k * kPanel) + sum : sum);
        }
      }
  }

  // Of a row of x, which may begin anywhere.
  static typename S::Vector load(const T* p) {
    typename S::Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }

  Index n_ = 0;
  PanelShape<T> shape_;
  const T* x_ = nullptr;
  T slope_ = 0;
  SumsCut cut_;
};

}  // namespace featcore
