// Two inputs: the samples that a neuron is active on lie on one side of a line through the origin.
// Sorted by angle they are an arc, so sums over them are looked up by two positions, and a step
// costs about n + m, not n m. See docs/kernels.md, "Two inputs".
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/signs.hpp"

namespace featcore {

namespace detail {

using Pair = double __attribute__((vector_size(16)));

// Sign of <v, u>, exact unless the rounding errors of the products underflow: rounded products keep
// their order, and where they tie these errors decide.
inline int side_of(Pair v, Pair u) {
  double left = v[0] * u[0];
  double right = -(v[1] * u[1]);
  if (left < right) return -1;
  if (left > right) return 1;
  if (std::isinf(left)) {  // both entries of v are huge then
    v *= 0x1p-8;
    left = v[0] * u[0];
    right = -(v[1] * u[1]);
    if (left != right) return left < right ? -1 : 1;
  }
  const double rest = std::fma(v[0], u[0], -left) + std::fma(v[1], u[1], right);
  return (rest > 0) - (rest < 0);
}

}  // namespace detail

// The samples are x_i = +-u_i with u_i in the upper half-plane, in the order of their angle; those
// with the minus are turned. A neuron is w = +-v, turned such that <v, u> passes from below to
// above 0 along that order. With `before` samples below 0 and `after` not above it, the neuron is
// active on samples turned as itself from `after` on and on the others up to `before`. Those in
// between have z = 0.
template <class T>
class Arcs {
 public:
  using Pair = detail::Pair;
  static constexpr Index kPanel = PanelShape<T>::kPanel;

  // A few samples are met faster than looked for; very many would take more memory than a kernel
  // may.
  static bool pays(Index n, Index d, Index m) {
    return d == 2 && n >= kFewSamples && n <= kMostSamples && m >= kFewNeurons;
  }

  // Of one of the two passes.
  static double flops(Index n, Index m) { return 40.0 * static_cast<double>(n + m); }

  // Of memory, without signs, at most.
  static double bytes(Index n, Index m) {
    const double positions = static_cast<double>(n + 1);
    const double parts = std::max<double>(kBudget, kChunkTables * positions);
    return sizeof(Pair) * (parts + (kTables + 4.0) * positions) + 16.0 * static_cast<double>(n + m);
  }

  // Whether all signs of products with the samples x, (n, 2), are found exactly, whatever the
  // weights: finite samples, not all 0, neither input of one drowned by the other.
  static bool orders(Index n, const T* x) {
    bool something = false;
    for (Index i = 0; i < n; ++i) {
      const double u = std::abs(static_cast<double>(x[2 * i]));
      const double v = std::abs(static_cast<double>(x[2 * i + 1]));
      if (!std::isfinite(u) || !std::isfinite(v)) return false;
      const double most = std::max(u, v);
      const double least = std::min(u, v);
      if (least > 0 && std::ilogb(most) - std::ilogb(least) > kMostApart) return false;
      something = something || most > 0;
    }
    return something;
  }

  // `x` is (n, 2), and in order; sigma' is 1 where z > 0 and `slope` elsewhere.
  Arcs(Index n, Index m, const T* x, double slope) : n_(n), shape_{m, 2}, slope_(slope) {
    std::vector<Pair> lines(at(n));
    for (Index i = 0; i < n; ++i) {
      const Pair u{static_cast<double>(x[2 * i]), static_cast<double>(x[2 * i + 1])};
      const double size = std::max(std::abs(u[0]), std::abs(u[1]));
      if (size == 0) {
        zeros_.push_back(i);
        continue;
      }
      order_.push_back(i);
      const int exponent = std::ilogb(size);  // scaled to [1, 2), exactly: see search()
      const double sign = is_turned(u) ? -1 : 1;
      lines[at(i)] = Pair{sign * std::ldexp(u[0], -exponent), sign * std::ldexp(u[1], -exponent)};
    }
    std::stable_sort(order_.begin(), order_.end(), [&](Index i, Index k) {
      const Pair u = lines[at(i)];
      return detail::side_of(Pair{-u[1], u[0]}, lines[at(k)]) > 0;
    });
    for (const Index i : order_) {
      const Pair sample{static_cast<double>(x[2 * i]), static_cast<double>(x[2 * i + 1])};
      samples_.push_back(sample);
      lines_.push_back(lines[at(i)]);
      turned_.push_back(is_turned(sample));
    }
    count_ = static_cast<Index>(order_.size());
    neighbours_.assign(at(4 * stride()), T(0));
    neighbours_.front() = 1;  // whatever a neuron is, it lies beyond the ends
    neighbours_[neighbours_.size() - 2] = -1;
    for (Index t = 0; t < count_; ++t) {
      const T* sample = x + 2 * order_[at(t)];
      T* line = neighbours_.data() + 4 * t + 2;
      for (const Index k : {0, 1})
        line[k] = line[k + 2] = turned_[at(t)] != 0 ? -sample[k] : sample[k];
    }
    blocks_ = Cut(count_ + 1, ceil_div(count_ + 1, kBlock), kBlock);
    // A chunk adds up its neurons in tables of its own.
    const Index affordable = std::max<Index>(1, kBudget / (kChunkTables * stride()));
    const Index worthwhile = ceil_div(m, std::max(kChunk, 4 * n));
    chunks_ = Cut(shape_.panels(), std::min({kMostChunks, worthwhile, affordable}), 1);
    units_ = Cut(shape_.panels(), std::min(kMostChunks, ceil_div(m, kChunk)), 1);
    parts_.resize(at(chunks_.pieces() * 2 * stride()));
    ties_.resize(at(chunks_.pieces()));
    tables_.resize(at(kTables * stride()));
    totals_.resize(at(blocks_.pieces()));
    places_.resize(at(shape_.panels() * kPanel));
  }

  // f_i = sum_j a_j sigma(<w_j, x_i>).
  void outputs(const Panels<T>& net, const Team& team, T* f) {
    signs_are_old_ = true;
    team.for_each(chunks_.pieces(),
                  [&](Index chunk, const Worker& worker) { distribute(net, chunk, worker); });
    some_tie_ = std::any_of(ties_.begin(), ties_.end(), [](const Ties& ties) { return ties.any; });
    team.for_each(blocks_.pieces(), [&](Index block, const Worker&) { merge_chunks(block); });
    pass_totals_on();
    team.for_each(blocks_.pieces(), [&](Index block, const Worker&) {
      slope_ == 0 ? write_outputs<false>(block, f) : write_outputs<true>(block, f);
    });
    for (const Index i : zeros_) f[i] = 0;
  }

  // h_j = sum_i r_i sigma'(z_ij) x_i for the network of the last outputs, (panels, 2, kPanel), and
  // finish(p) after every panel.
  template <class Finish>
  void sums(const T* r, const Team& team, T* h, Finish&& finish) {
    if (blocks_.pieces() > 1)
      team.for_each(blocks_.pieces(), [&](Index block, const Worker&) { add_up_block(block, r); });
    pass_totals_on();
    team.for_each(blocks_.pieces(), [&](Index block, const Worker&) {
      slope_ == 0 ? write_sums<false>(block, r) : write_sums<true>(block, r);
    });
    team.for_each(units_.pieces(), [&](Index unit, const Worker& worker) {
      for (Index p = units_.begin(unit); p < units_.end(unit); ++p) {
        if (worker.stop(flops(0, kPanel))) return;
        T* panel = h + p * shape_.stride();
        slope_ == 0 ? look_up<false>(p, panel) : look_up<true>(p, panel);
        finish(p);
      }
    });
  }

  // Of the pre-activations of the last outputs.
  const Signs<T>& signs(const Team& whole_team) {
    if (!signs_are_old_) return signs_;
    using Word = typename Signs<T>::Word;
    if (signs_.empty()) signs_ = Signs<T>(n_, shape_.m);
    const double work = 2.0 * static_cast<double>(n_) * kPanel;
    const Team team = whole_team.for_work(work * static_cast<double>(shape_.panels()));
    team.for_each(shape_.panels(), [&](Index p, const Worker& worker) {
      Word* words = signs_.panel(p);
      std::fill_n(words, n_, Word(0));
      for (Index l = 0; l < shape_.neurons(p); ++l) {
        if (worker.stop(work / kPanel)) return;
        const Word bit = static_cast<Word>(Word(1) << l);
        const Place place = places_[at(p * kPanel + l)];
        const Index turned = place.position >= stride();
        const Index before = place.position - turned * stride();
        const Index after = before + place.across;
        for (Index t = 0; t < count_; ++t)
          if (turned_[at(t)] == turned ? t >= after : t < before)
            words[order_[at(t)]] = static_cast<Word>(words[order_[at(t)]] | bit);
      }
    });
    signs_are_old_ = false;
    return signs_;
  }

 private:
  static constexpr int kMostApart = 400;  // two inputs of a sample, in powers of two
  static constexpr Index kFewSamples = 32;
  static constexpr Index kFewNeurons = 32;
  static constexpr Index kMostSamples = 250'000;
  static constexpr Index kBlock = 4096;  // positions
  static constexpr Index kChunk = 4096;  // neurons worth a thread's while
  static constexpr Index kMostChunks = 16;
  static constexpr Index kBudget = 1'000'000;  // pairs in the tables of all chunks
  static constexpr Index kTables = 4;
  static constexpr Index kChunkTables = 2 + kTables;

  // NOLINTNEXTLINE(modernize-use-using): the attribute needs a typedef
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));

  // A neuron's `before`, in the half of the tables that is its own (not turned: 0, turned: 1), and
  // how many samples lie between it and `after`, across the neuron: hardly ever one.
  struct Place {
    std::int32_t position = 0;
    std::int32_t across = 0;
  };

  // What neurons with samples across them add to the four tables; made when first needed.
  struct Ties {
    std::vector<Pair> tables;
    bool any = false;
  };

  // Of both halves of both tables: a block's sum, and those of all blocks left and right of it.
  struct Totals {
    std::array<Pair, kTables> own{};
    std::array<Pair, kTables> left{};
    std::array<Pair, kTables> right{};
  };

  static std::size_t at(Index index) { return static_cast<std::size_t>(index); }

  static bool is_turned(Pair x) { return x[1] < 0 || (x[1] == 0 && x[0] < 0); }

  // Positions run from 0 to the number of samples.
  Index stride() const { return count_ + 1; }

  // (half, position): what neurons of a chunk add for which `after` and `before` are one.
  Pair* part(Index chunk) { return parts_.data() + chunk * 2 * stride(); }

  // (half, position), once those of all chunks are added up.
  Pair* by_after() { return tables_.data(); }
  Pair* by_before() { return tables_.data() + 2 * stride(); }

  // (half, position): h of the neurons there. Parts have been added up by then.
  Pair* sums_found() { return parts_.data(); }

  Index after(Place place) const { return place.position + place.across; }
  Index before(Place place) const {
    return place.position + (place.position < stride() ? stride() : -stride());
  }

  // Most neurons are where they were, or went back and forth across one sample: the two beside them
  // say so. Without branches on which: many alternate. Rounding is monotone, so products that
  // differ when rounded differ.
  Place locate(T v0, T v1, std::int32_t own, Place old) const {
    const std::int32_t half = static_cast<std::int32_t>(stride());
    std::int32_t t = old.position - (old.position < half ? 0 : half);
    int below = 0;  // the line on the left
    int above = 0;  // the line on the right
    for (int look = 0; look < 2; ++look) {
      t = std::clamp<std::int32_t>(t + below - above, 0, half - 1);
      Four lines;
      std::memcpy(&lines, neighbours_.data() + 4 * t, sizeof lines);
      const Four product = Four{v0, v1, v0, v1} * lines;
      below = static_cast<int>(product[0] < -product[1]);
      above = static_cast<int>(product[2] > -product[3]);
    }
    if ((below & above) != 0) return {own + t, 0};
    return search(Pair{static_cast<double>(v0), static_cast<double>(v1)}, t, own);
  }

  // Outwards from position t in strides that double, then by halves between the last two.
  Place search(Pair v, Index t, std::int32_t own) const {
    // A line has one entry in [1, 2) and one of at least 2^-kMostApart, or 0. With v above 2^-500
    // products that tie are then above 2^-900, and their rounding errors numbers.
    if (std::max(std::abs(v[0]), std::abs(v[1])) < 0x1p-500) v *= 0x1p600;
    const auto below = [v](const Pair& u) { return detail::side_of(v, u) < 0; };
    const auto not_above = [v](const Pair& u) { return detail::side_of(v, u) <= 0; };
    Index first = t;  // all before it lie below
    Index last = t;   // none from it on does
    if (t < count_ && below(lines_[at(t)])) {
      last = count_;
      for (Index reach = 1; first < count_; reach *= 2) {
        const Index probe = std::min(first + reach, count_) - 1;
        if (!below(lines_[at(probe)])) {
          last = probe;
          break;
        }
        first = probe + 1;
      }
    } else {
      first = 0;
      for (Index reach = 1; last > 0; reach *= 2) {
        const Index probe = std::max<Index>(last - reach, 0);
        if (below(lines_[at(probe)])) {
          first = probe + 1;
          break;
        }
        last = probe;
      }
    }
    const auto level = std::partition_point(lines_.begin() + first, lines_.begin() + last, below);
    auto above = level;
    if (level != lines_.end() && not_above(*level))
      above = std::partition_point(level, lines_.end(), not_above);
    return {own + static_cast<std::int32_t>(level - lines_.begin()),
            static_cast<std::int32_t>(above - level)};
  }

  // Every neuron of a chunk puts a_j w_j where its samples find it.
  void distribute(const Panels<T>& net, Index chunk, const Worker& worker) {
    Pair* sums = part(chunk);
    Ties& ties = ties_[at(chunk)];
    const std::int32_t half = static_cast<std::int32_t>(stride());
    std::fill_n(sums, 2 * stride(), Pair{});
    ties.any = false;
    for (Index p = chunks_.begin(chunk); p < chunks_.end(chunk); ++p) {
      if (worker.stop(flops(0, kPanel))) return;
      const T* w = net.W.data() + p * shape_.stride();
      const T* a = net.a.data() + p * kPanel;
      Place* places = places_.data() + p * kPanel;
      std::array<T, kPanel> v0, v1;
      std::array<double, kPanel> part0, part1;
      std::array<std::int32_t, kPanel> own;
      for (std::size_t l = 0; l < kPanel; ++l) {  // without branches, hence in vectors
        const T w0 = w[l];
        const T w1 = w[l + kPanel];
        const int turned =
            static_cast<int>(w0 > 0) | (static_cast<int>(w0 == 0) & static_cast<int>(w1 < 0));
        v0[l] = turned != 0 ? -w0 : w0;
        v1[l] = turned != 0 ? -w1 : w1;
        own[l] = turned != 0 ? half : 0;
        part0[l] = static_cast<double>(a[l]) * static_cast<double>(w0);
        part1[l] = static_cast<double>(a[l]) * static_cast<double>(w1);
      }
      const std::size_t neurons = at(shape_.neurons(p));
      for (std::size_t l = 0; l < neurons; ++l) {
        const Place place = locate(v0[l], v1[l], own[l], places[l]);
        places[l] = place;
        const Pair more{part0[l], part1[l]};
        if (place.across == 0)
          sums[place.position] += more;
        else
          add_tie(ties, place, more);
      }
    }
  }

  void add_tie(Ties& ties, Place place, Pair more) const {
    if (!ties.any) ties.tables.assign(at(kTables * stride()), Pair{});
    ties.any = true;
    ties.tables[at(after(place))] += more;
    ties.tables[at(2 * stride() + before(place))] += more;
  }

  // The parts of all chunks, in their order.
  void merge_chunks(Index block) {
    Totals& totals = totals_[at(block)];
    const Index begin = blocks_.begin(block);
    const Index end = blocks_.end(block);
    for (Index half = 0; half < 2; ++half) {
      Pair* sums = by_after() + half * stride();
      std::copy(part(0) + half * stride() + begin, part(0) + half * stride() + end, sums + begin);
      for (Index c = 1; c < chunks_.pieces(); ++c) {
        const Pair* more = part(c) + half * stride();
        for (Index t = begin; t < end; ++t) sums[t] += more[t];
      }
      std::copy(sums + begin, sums + end, by_before() + (1 - half) * stride() + begin);
    }
    for (Index k = 0; k < kTables; ++k) {
      Pair* sums = tables_.data() + k * stride();
      for (const Ties& ties : ties_)
        for (Index t = begin; ties.any && t < end; ++t)
          sums[t] += ties.tables[at(k * stride() + t)];
      if (blocks_.pieces() == 1) continue;
      Pair own{};
      for (Index t = begin; t < end; ++t) own += sums[t];
      totals.own[at(k)] = own;
    }
  }

  void pass_totals_on() {
    for (Index half = 0; half < kTables; ++half) {
      const std::size_t k = at(half);
      for (std::size_t b = 1; b < totals_.size(); ++b)
        totals_[b].left[k] = totals_[b - 1].left[k] + totals_[b - 1].own[k];
      for (std::size_t b = totals_.size() - 1; b > 0; --b)
        totals_[b - 1].right[k] = totals_[b].right[k] + totals_[b].own[k];
    }
  }

  // The neurons that sample t activates are those of its own half up to t by `after`, and those
  // beyond t by `before`; what the others add is weighed by the slope.
  template <bool Sloped>
  void write_outputs(Index block, T* f) {
    const Totals& totals = totals_[at(block)];
    const Index begin = blocks_.begin(block);
    const Index end = blocks_.end(block);
    const Pair* after = by_after();
    const Pair* before = by_before();
    std::array<double, kBlock> part;
    Pair on[2] = {totals.left[0], totals.left[1]};
    Pair off[2] = {totals.left[2], totals.left[3]};
    const auto dot = [](Pair x, Pair v) { return x[0] * v[0] + x[1] * v[1]; };
    for (Index t = begin; t < std::min(end, count_); ++t) {
      for (Index half = 0; half < 2; ++half) {
        on[half] += after[half * stride() + t];
        if constexpr (Sloped) off[half] += before[half * stride() + t];
      }
      const Index own = turned_[at(t)];
      part[at(t - begin)] = dot(samples_[at(t)], Sloped ? on[own] + slope_ * off[own] : on[own]);
    }
    on[0] = totals.right[2];
    on[1] = totals.right[3];
    off[0] = totals.right[0];
    off[1] = totals.right[1];
    for (Index t = end - 1; t >= begin; --t) {
      if (t < count_) {
        const Index own = turned_[at(t)];
        const Pair rest = Sloped ? on[own] + slope_ * off[own] : on[own];
        f[order_[at(t)]] = static_cast<T>(part[at(t - begin)] + dot(samples_[at(t)], rest));
      }
      for (Index half = 0; half < 2; ++half) {
        on[half] += before[half * stride() + t];
        if constexpr (Sloped) off[half] += after[half * stride() + t];
      }
    }
  }

  // r_i x_i of sample t to the half that it belongs to; both sums stay in registers.
  void add_sample(Index t, const T* r, Pair (&sum)[2]) const {
    const Pair part = static_cast<double>(r[order_[at(t)]]) * samples_[at(t)];
    const bool turned = turned_[at(t)] != 0;
    sum[0] += turned ? Pair{} : part;
    sum[1] += turned ? part : Pair{};
  }

  // Sums of r_i x_i need one half of each table; the totals of the first two serve both.
  void add_up_block(Index block, const T* r) {
    Totals& totals = totals_[at(block)];
    Pair sum[2] = {};
    for (Index t = blocks_.begin(block); t < std::min(blocks_.end(block), count_); ++t)
      add_sample(t, r, sum);
    totals.own = {sum[0], sum[1]};
  }

  // Sums of r_i x_i over the samples of each half from position t on, and over those before t; and
  // what a neuron at t makes of them.
  template <bool Sloped>
  void write_sums(Index block, const T* r) {
    const Totals& totals = totals_[at(block)];
    const Index begin = blocks_.begin(block);
    const Index end = blocks_.end(block);
    Pair* from = by_after();
    Pair* upto = by_before();
    Pair* found = sums_found();
    Pair sum[2] = {totals.left[0], totals.left[1]};
    for (Index t = begin; t < end; ++t) {
      upto[t] = sum[0];
      upto[stride() + t] = sum[1];
      if (t < count_) add_sample(t, r, sum);
    }
    sum[0] = totals.right[0];
    sum[1] = totals.right[1];
    for (Index t = end - 1; t >= begin; --t) {
      if (t < count_) add_sample(t, r, sum);
      for (Index half = 0; half < 2; ++half) {
        const Index own = half * stride() + t;
        const Index other = (1 - half) * stride() + t;
        found[own] = sum[half] + upto[other];
        if constexpr (Sloped) found[own] += slope_ * (upto[own] + sum[1 - half]);
        if (some_tie_) from[own] = sum[half];
      }
    }
  }

  template <bool Sloped>
  void look_up(Index p, T* h) {
    const Pair* found = sums_found();
    const Place* places = places_.data() + p * kPanel;
    for (Index l = 0; l < shape_.neurons(p); ++l) {
      const Place place = places[l];
      const Pair sum = place.across == 0 ? found[place.position] : sum_across<Sloped>(place);
      h[l] = static_cast<T>(sum[0]);
      h[kPanel + l] = static_cast<T>(sum[1]);
    }
    for (Index l = shape_.neurons(p); l < kPanel; ++l) h[l] = h[kPanel + l] = T(0);
  }

  template <bool Sloped>
  Pair sum_across(Place place) {
    const Pair* from = by_after();
    const Pair* upto = by_before();
    Pair sum = from[after(place)] + upto[before(place)];
    if constexpr (Sloped) sum += slope_ * (upto[after(place)] + from[before(place)]);
    return sum;
  }

  Index n_;
  PanelShape<T> shape_;
  double slope_;
  Index count_ = 0;            // samples that are not 0
  std::vector<Index> zeros_;   // the others
  std::vector<Index> order_;   // by angle
  std::vector<Pair> lines_;    // u, scaled
  std::vector<Pair> samples_;  // x
  std::vector<std::uint8_t> turned_;
  Cut blocks_;                 // of positions
  Cut chunks_;                 // of panels, when they add
  Cut units_;                  // of panels, when they look up
  std::vector<T> neighbours_;  // (position, 4): the samples on either side, as lines, in T
  std::vector<Pair> parts_;
  std::vector<Pair> tables_;
  std::vector<Ties> ties_;  // of each chunk
  bool some_tie_ = false;
  std::vector<Totals> totals_;
  std::vector<Place> places_;
  Signs<T> signs_;
  bool signs_are_old_ = true;
};

}  // namespace featcore
