// The path of one neuron over a step, from one of its own events to the next: a sample's hyperplane
// is crossed, held (sliding) or let go. Given the residuals, neurons do not see each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "featcore/crossing_search.hpp"
#include "featcore/crossing_window.hpp"
#include "featcore/eigen.hpp"
#include "featcore/flow_event.hpp"
#include "featcore/flow_samples.hpp"
#include "featcore/neuron_series.hpp"
#include "featcore/tied_samples.hpp"

namespace featcore {

// Where a neuron is with respect to a line of samples: beyond its hyperplane, held on it, before
// it, or at rest on it with none of its samples active (relu'(0) = 0), those of -x neither.
enum class Side : std::int8_t { still = -2, inactive = -1, held = 0, active = 1 };

// What all neurons share on a step. The arrays belong to somebody else.
struct StepView {
  int terms = 0;
  NeuronRates rates;
  // (n, kTerms), powers of s: what v gains along x_i where z_i turns positive
  const double* jumps = nullptr;
  // (n, kTerms): and where z_i is 0 and no sample of the line active, instead of negative
  const double* rests = nullptr;
  const double* sizes = nullptr;   // (padded_d): the sum of |r_i| |x_i|, of which v is a part
  const double* off = nullptr;     // (terms, padded_d): v with no sample active
  const double* on = nullptr;      // and with all
  const double* points = nullptr;  // increasing, in (-1, end]
  int point_count = 0;
  double end = 1;
  // How far off the residuals may be, relative to their sizes; at s = -1 they are not.
  double doubt = 0;
  // Whether what is left of a zero z may be on either side: at the start, in turned coordinates.
  bool blurred = false;
};

// One a thread: neurons at the start of their paths, and the one that is on its way.
template <class T>
class NeuronPath {
 public:
  using S = Simd<T>;
  using V = typename S::Vector;

  // Of a residual on a step. Its kinks, not its degree, limit a step unless tolerances are tight,
  // and few terms extrapolate less wildly where steps are long. Rounding in float32 leaves nothing
  // for more than some.
  static constexpr int kFewTerms = 4;
  static constexpr int kSomeTerms = 5;
  static constexpr int kMostTerms = sizeof(T) == 8 ? 7 : kSomeTerms;

  NeuronPath(const FlowSamples<T>& samples, double slope)
      : samples_(&samples),
        slope_(slope),
        batch_(
            std::clamp(kBatchMemory / ((kTerms + 1) * samples.padded_n()), Index{1}, kMostBatch)),
        fields_(batch_ * (kTerms + 1) * samples.padded_n()),
        directions_(batch_ * (kTerms + 1) * samples.padded_d()),
        side_(samples.padded_n()),
        products_(samples.padded_n()),
        window_(samples) {
    for (Index slot = 0; slot < batch_; ++slot) lists_.emplace_back();
  }

  // Neurons that are prepared together, at most.
  Index batch() const { return batch_; }

  // Puts `count` neurons, rows of W on rows of sides, at the start of their paths: products with
  // all samples are many neurons' work at once. W is (count, inputs), of which `inputs` are given.
  void prepare(const StepView& view, Index count, const T* W, Index inputs,
               const std::int8_t* sides, const Worker& worker) {
    with_terms(view.terms,
               [&](auto terms) { prepare_terms<terms()>(view, count, W, inputs, sides, worker); });
  }

  // Carries a prepared neuron, with head a, on `sides` of the samples, from s = -1 to view.end, and
  // adds share a sigma(z_i) to f, (points, padded_n); with mirrored samples (points, 2, padded_n),
  // the second being share a z_i. Writes w, its moving inputs only, a and sides at the end. Events
  // are appended with s for time. False if it is not finite or does not get on.
  bool carry(const StepView& view, Index slot, T a, double share, const std::int8_t* sides, T* f,
             T* w_end, T* a_end, std::int8_t* sides_end, std::vector<FlowEvent>& events,
             const Worker& worker) {
    share_ = share;
    bool good = false;
    with_terms(view.terms, [&](auto terms) {
      good = carry_terms<terms()>(view, slot, a, sides, f, w_end, a_end, sides_end, events, worker);
    });
    return good;
  }

  // Squared norm of the objective's gradient at the end of the path, over the layers and inputs
  // that move.
  double squared_gradient() const { return squared_gradient_; }
  // |v|, the largest of both ends of the path.
  double speed() const { return speed_; }

 private:
  using D = Simd<double>;

  static constexpr Index kMostBatch = 64;
  // Of the fields of a batch, in numbers.
  static constexpr Index kBatchMemory = 16 * 1024 * 1024 / static_cast<Index>(sizeof(T));
  // Samples whose part of a block stays near while a batch adds it up.
  static constexpr Index kTile = 256;

  // Calls body(integral_constant<terms>).
  template <class Body>
  static void with_terms(int terms, Body&& body) {
    if (terms == kFewTerms)
      body(std::integral_constant<int, kFewTerms>{});
    else if (terms == kSomeTerms)
      body(std::integral_constant<int, kSomeTerms>{});
    else
      body(std::integral_constant<int, kMostTerms>{});
  }

  static constexpr Index kEventsAPoll = 16;
  // Roundings of z, relative to |w| |x|, that may be left of a zero.
  static constexpr double kBlur = 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
  static constexpr double kTiny = static_cast<double>(std::numeric_limits<T>::min()) / kBlur;
  static constexpr Index kMostFollowed = 256;  // crossings of a window
  // Of the weight at the start: what is left of it is rounding.
  static constexpr double kRest = 1e-13;
  // Of the largest jump, or of all that v is made of: a field that is rounding.
  static constexpr double kStill = 64 * std::numeric_limits<double>::epsilon();
  // And where the roundings of residuals are those of T.
  static constexpr double kNoise = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());

  struct Held {
    Index sample;
    Terms coefficient;  // of x_b in v(s), between none of the jump and all of it
    double slack = 0;   // what its share began outside, by rounding of nearly dependent samples
  };

  struct Still {
    Index sample;
    double noise;  // a field that is rounding where the residuals are
    double doubt;  // and on the way
  };

  struct Event {
    enum Kind { none, crossing, release, head, pull };
    Kind kind = none;
    double tau = 0;
    Index sample = -1;
  };

  template <int L>
  bool carry_terms(const StepView& view, Index slot, T a, const std::int8_t* sides, T* f, T* w_end,
                   T* a_end, std::int8_t* sides_end, std::vector<FlowEvent>& events,
                   const Worker& worker) {
    view_ = &view;
    events_ = &events;
    a_ = static_cast<double>(a);
    s_ = -1;
    enter(slot);
    if (slope_ == 0 && std::all_of(w_, w_ + samples_->d(), [](double w) { return w == 0; })) {
      // relu'(0) = 0: it stays
      const NeuronRates& rates = view.rates;
      samples_->scatter(w_, w_end);
      *a_end = static_cast<T>(a_ * std::exp(-rates.half * rates.decay_a * (view.end + 1)));
      std::copy_n(sides, samples_->n(), sides_end);
      // what is left is the weight decay of a
      const double head = rates.a != 0 ? rates.decay_a / rates.a * static_cast<double>(*a_end) : 0;
      squared_gradient_ = head * head;
      speed_ = 0;
      return true;
    }
    start<L>(sides);
    speed_ = std::sqrt(squared_norm_of_v<L>(s_));
    const Index n = samples_->n();
    // Zeno's neuron is the step's problem: a shorter one, or none, will do.
    const Index most_events = 1000 + 20 * n;
    const bool wide = CrossingWindow<T>::worthwhile(*samples_);
    int point = 0;
    // Weights that begin across the coordinates are 0 in these, and yet to come in.
    const bool yet_to_begin = view.blurred && start_norm_ == 0;
    const auto at_zero = [&] { return !yet_to_begin && held_at_zero(); };
    for (Index count = 0;; ++count) {
      double reach = series_.expand(view.rates, L, s_, a_, Q_, M_, view.end - s_);
      if (!(reach > 1e-12 * (view.end - s_)) && view.end > s_) return false;
      Event event;
      const bool whole = reach == view.end - s_;
      const double zero = series_.sign_change(reach, head_sign_);
      if (zero <= reach) {
        reach = zero;
        event.kind = Event::head;
      }
      event.tau = reach;
      find_event<L>(event);
      const bool last = whole && event.kind == Event::none;
      pour<L>(event.tau, last, f, point);
      const bool plain = event.kind == Event::crossing && held_.empty() && still_.empty();
      if (wide && plain && open_window<L>(event, reach)) {
        count += follow_window<L>(event, point);
      } else {
        advance<L>(event);
        if (last) break;
        // in w = 0 all samples are at zero, and rounding would say who goes where
        const bool ends = event.kind == Event::crossing && on_a_line();
        const bool stays = slope_ == 0 && (at_zero() || ends);
        if (ends && !stays) vanish();
        if (event.kind != Event::none && !stays) settle<L>(event);
        if (stays) rest();
      }
      if (slope_ == 0 && at_zero()) rest();
      if (count > most_events) return false;
      // what is left undone is dropped: the loop over neurons ends with Stopped
      if (count % kEventsAPoll == kEventsAPoll - 1 && worker.stop()) return true;
    }
    bool finite = std::isfinite(a_);
    for (Index k = 0; k < samples_->d(); ++k) finite = finite && std::isfinite(w_[k]);
    samples_->scatter(w_, w_end);
    *a_end = static_cast<T>(a_);
    measure<L>();
    for (Index i = 0; i < n; ++i) sides_end[i] = static_cast<std::int8_t>(side_.data()[i]);
    for (const Still& still : still_)
      sides_end[still.sample] = static_cast<std::int8_t>(Side::still);
    return finite;
  }

  // A window for the samples that cross soon after `event`, the first crossing.
  template <int L>
  bool open_window(const Event& event, double reach) {
    norm_ = std::sqrt(squared_norm_of_w());
    Terms powers{};
    double power = 1;
    for (int l = 0; l < L; ++l) {
      powers[l] = power;
      power *= s_;
    }
    double squared = 0;  // of v
    for (int l = 0; l < L; ++l) squared += powers[l] * terms::sum(powers * M_[l]);
    constexpr double kDrift = 0.1;  // of v
    constexpr double kCrossings = 16;
    double size = 0;
    for (int l = 0; l < L; ++l) size += std::abs(jump(event.sample)[l]);
    const double drift = std::max(kDrift * std::sqrt(std::max(squared, 0.0)),
                                  kCrossings * size * samples_->norm(event.sample));
    // twice what settles ties: until w has twice its norm
    return window_.template open<L>(rows(), series_, head_sign_, event.tau, reach,
                                    2 * kBlur * norm_, drift);
  }

  // Carries the neuron from crossing to crossing of the window just opened, and closes it at the
  // last one that is clearly there and before the next point. Returns the number of crossings but
  // one.
  template <int L>
  Index follow_window(Event event, int point) {
    const double until = point < view_->point_count ? view_->points[point] : view_->end;
    const double largest = 2 * norm_;
    Index c = window_.item(event.sample);
    double squared = norm_ * norm_;
    for (Index crossings = 0;; ++crossings) {
      typename NeuronSeries::Point here;
      series_.at(event.tau, here);
      window_.template advance<L>(here, event.tau);
      squared *= here.decay * here.decay;
      for (int l = 0; l < L; ++l)
        squared += here.A[l] * (2 * here.decay * Q_[l] + terms::sum(here.A * M_[l]));
      norm_ = std::sqrt(std::max(squared, 0.0));
      move_scalars<L>(here, event.tau);
      SampleRows<T>& near = window_.rows();
      near.z[c] = T(0);
      event.sample = window_.sample(c);
      // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
      if (!(norm_ <= largest) || window_.tied(c, kBlur * norm_)) {
        window_.template close<L>(rows(), directions(), w_);
        settle<L>(event);
        return crossings;
      }
      Terms u;
      near.template fields<L>(c, u);
      const bool was_on = near.side[c] > T(0);
      if (!passes<L>(event.sample, u, was_on)) {
        window_.template close<L>(rows(), directions(), w_);
        pass<L>(event.sample);
        return crossings;
      }
      Terms change;
      terms::load(jump(event.sample), change);
      if (was_on) change = -change;
      add_scalars<L>(event.sample, u, T(0), change);
      window_.template cross<L>(c, change, was_on ? T(-1) : T(1));
      note(event.sample, was_on ? EventKind::off : EventKind::on);
      const double left = std::min(window_.left(), until - s_);
      bool goes_on = window_.holds() && left > 0 && crossings < kMostFollowed;
      if (goes_on) {
        const double reach = series_.expand(view_->rates, L, s_, a_, Q_, M_, left);
        double sign = 0;
        goes_on = reach > 0 && series_.sign_change(reach, sign) > reach && sign == head_sign_ &&
                  series_.largest_head(reach) <= window_.head_bound();
        if (goes_on) {
          const auto found = search_.template first<L>(near, series_, reach);
          goes_on = found.sample >= 0;
          c = found.sample;
          event.tau = found.tau;
        }
      }
      if (!goes_on) {
        window_.template close<L>(rows(), directions(), w_);
        return crossings;
      }
    }
  }

  double squared_norm_of_w() const { return dot(w_, w_, samples_->padded_d()); }

  // Lines whose hyperplanes w stays on.
  Index pinned() const { return static_cast<Index>(held_.size() + still_.size()); }

  bool held_at_zero() const {
    return pinned() > 0 && squared_norm_of_w() <= kRest * kRest * start_norm_ * start_norm_;
  }

  // Whether these leave w a line, on which another sample is met in w = 0 alone. (What is left of w
  // there is rounding of all that it has been, which may be more than it was of late.)
  bool on_a_line() const {
    constexpr double kNear = 1e-8;
    const double size = start_norm_ + std::abs(a_);
    return pinned() > 0 && pinned() >= samples_->d() - 1 &&
           squared_norm_of_w() <= kNear * kNear * size * size;
  }

  // Solutions are not unique at w = 0. Ours stay: nothing pulls any more (relu'(0) = 0).
  void rest() {
    held_.clear();
    still_.clear();
    std::fill_n(w_, (kTerms + 1) * samples_->padded_d(), 0.0);   // and V
    std::fill_n(z_, (kTerms + 1) * samples_->padded_n(), T(0));  // and U
    for (Index i = 0; i < samples_->n(); ++i) side_.data()[i] = T(-1);
    Q_ = Terms{};
    for (Terms& terms : M_) terms = Terms{};
  }

  // In w = 0, from where a leaky neuron may go on.
  void vanish() {
    std::fill_n(w_, samples_->padded_d(), 0.0);
    std::fill_n(z_, samples_->padded_n(), T(0));
    Q_ = Terms{};
  }

  // v_k at s.
  template <int L>
  double direction_at(Index k, double s) {
    double v = direction(L - 1)[k];
    for (int l = L - 2; l >= 0; --l) v = v * s + direction(l)[k];
    return v;
  }

  template <int L>
  double squared_norm_of_v(double s) {
    double squared = 0;
    for (Index k = 0; k < samples_->d(); ++k) {
      const double v = direction_at<L>(k, s);
      squared += v * v;
    }
    return squared;
  }

  template <int L>
  void measure() {
    const NeuronRates& rates = view_->rates;
    const double decay =
        rates.W != 0 ? rates.decay_W / rates.W : (rates.a != 0 ? rates.decay_a / rates.a : 0.0);
    squared_gradient_ = 0;
    double head = -decay * a_;
    double squared = 0;
    for (Index k = 0; k < samples_->d(); ++k) {
      const double v = direction_at<L>(k, view_->end);
      squared += v * v;
      head += w_[k] * v;
      const double weight = a_ * v - decay * w_[k];
      if (rates.W != 0) squared_gradient_ += weight * weight;
    }
    if (rates.a != 0) squared_gradient_ += head * head;
    speed_ = std::max(speed_, std::sqrt(squared));
  }

  const double* jump(Index i) const { return view_->jumps + i * kTerms; }
  const double* far_part(Index i) const { return view_->rests + i * kTerms; }
  double* directions() { return V_; }
  double* direction(int l) { return V_ + l * samples_->padded_d(); }
  T* field(int l) { return U_ + l * samples_->padded_n(); }

  SampleRows<T> rows() {
    return {z_, side_.data(), U_, samples_->padded_n(), samples_->padded_n()};
  }

  template <int L>
  void load_field(Index i, Terms& u) {
    rows().template fields<L>(i, u);
  }

  // The samples whose jumps make V of a prepared neuron, and those of them that are in a tile.
  struct List {
    std::vector<Index> items;
    double sign = 1;
    const Index* begin = nullptr;
    const Index* end = nullptr;

    void advance(Index limit) {
      begin = end;
      while (end != items.data() + items.size() && *end < limit) ++end;
    }
  };

  // From here on V, w, U and z are those of a slot.
  void enter(Index slot) {
    w_ = directions_.data() + slot * (kTerms + 1) * samples_->padded_d();
    V_ = w_ + samples_->padded_d();
    z_ = fields_.data() + slot * (kTerms + 1) * samples_->padded_n();
    U_ = z_ + samples_->padded_n();
  }

  template <int L>
  void prepare_terms(const StepView& view, Index count, const T* W, Index inputs,
                     const std::int8_t* sides, const Worker& worker) {
    const Index n = samples_->n();
    const Index padded_d = samples_->padded_d();
    for (Index slot = 0; slot < count; ++slot) {
      enter(slot);
      samples_->gather(W + slot * inputs, w_);
      List& list = lists_[static_cast<std::size_t>(slot)];
      const std::int8_t* side = sides + slot * n;
      Index on = 0;
      for (Index i = 0; i < n; ++i) on += side[i] > 0;
      // The fewer are added up: those on, or those off taken from all.
      list.sign = 2 * on <= n ? 1 : -1;
      list.items.clear();
      for (Index i = 0; i < n; ++i)
        if ((side[i] > 0) == (list.sign > 0)) list.items.push_back(i);
      list.begin = list.end = list.items.data();
      const double* base = list.sign > 0 ? view.off : view.on;
      for (int l = 0; l < L; ++l) std::copy_n(base + l * padded_d, padded_d, direction(l));
    }
    const Index tiles = ceil_div(n, kTile);
    for (Index tile = 0; tile < tiles; ++tile) {
      if (worker.stop(static_cast<double>(count * kTile * padded_d))) return;
      for (Index slot = 0; slot < count; ++slot)
        lists_[static_cast<std::size_t>(slot)].advance((tile + 1) * kTile);
      samples_->each_block([&](auto vectors, Index k, const double* block) {
        for (Index slot = 0; slot < count; ++slot) {
          enter(slot);
          add_rows<L, vectors()>(view.jumps, lists_[static_cast<std::size_t>(slot)], block, k);
        }
      });
    }
    // z = X w and U = X V
    samples_->each_panels([&](auto panels, Index p) {
      if (worker.stop(static_cast<double>(count * padded_d))) return;
      for (Index slot = 0; slot < count; ++slot) {
        enter(slot);
        samples_->template multiply_panels<L + 1, panels()>(p, w_, padded_d, z_);
      }
    });
  }

  // Sides, M and Q at the start of a step.
  template <int L>
  void start(const std::int8_t* sides) {
    const Index n = samples_->n();
    held_.clear();
    still_.clear();
    for (Index i = 0; i < n; ++i) {
      const auto side = static_cast<Side>(sides[i]);
      side_.data()[i] = side == Side::still ? T(0) : static_cast<T>(sides[i]);
      if (side == Side::held) held_.push_back({i, Terms{}, 0.0});
      if (side == Side::still) still_.push_back(at_rest(i));
    }
    norm_ = start_norm_ = std::sqrt(squared_norm_of_w());
    for (Index i = 0; i < n; ++i) {
      T& z = z_[i];
      const T side = side_.data()[i];
      // A pair that has just crossed is on its new side, whatever rounding makes of z.
      const bool beyond = side * z < T(0) || view_->blurred;
      if (side == T(0) || (beyond && std::abs(static_cast<double>(z)) <= blur(i))) z = T(0);
    }
    if (!still_.empty()) settle_at_rest<L>();
    for (Terms& terms : M_) terms = Terms{};
    Q_ = Terms{};
    const Index padded = samples_->padded_d();
    for (int l = 0; l < L; ++l) {
      Q_[l] = dot(direction(l), w_, padded);
      for (int k = 0; k <= l; ++k) M_[l][k] = M_[k][l] = dot(direction(l), direction(k), padded);
    }
    if (!held_.empty()) {
      head_sign_ = a_ > 0 ? 1 : -1;
      hold<L>();
      resolve<L>(-1, slope_ != 0 && norm_ == 0);
    }
  }

  // What rounding may leave of a z that is zero.
  double blur(Index i) const { return kBlur * norm_ * samples_->norm(i); }

  Still at_rest(Index i) const {
    double size = 0;
    for (Index k = 0; k < samples_->d(); ++k)
      size += view_->sizes[k] * std::abs(samples_->row(i)[k]);
    return {i, kNoise * size, (kNoise + view_->doubt) * size};
  }
  // Of a field, now.
  double noise(const Still& still) const { return s_ == -1 ? still.noise : still.doubt; }

  // A line at rest takes from v what the samples on its far side give. Inputs along which v is then
  // rounding, of sums that vanish, do not move: an axis of its own keeps its 0 to the last digit.
  template <int L>
  void settle_at_rest() {
    for (const Still& still : still_) {
      Terms change;
      terms::load(far_part(still.sample), change);
      add<L>(still.sample, change);
    }
    for (Index k = 0; k < samples_->d(); ++k) {
      double size = 0;
      for (int l = 0; l < L; ++l) size += std::abs(direction(l)[k]);
      if (size > kStill * view_->sizes[k]) continue;
      for (int l = 0; l < L; ++l) direction(l)[k] = 0;
    }
  }

  static double dot(const double* p, const double* q, Index count) {
    D::Vector sum{};
    for (Index k = 0; k < count; k += D::kLanes) sum += D::load(p + k) * D::load(q + k);
    return D::sum(sum);
  }

  // Adds the jumps of a list's samples to a block of V.
  template <int L, int Vectors>
  void add_rows(const double* jumps, const List& list, const double* block, Index k) {
    constexpr int kLanes = D::kLanes;
    constexpr int kMostSums = kVectorBytes == 64 ? 24 : 12;
    constexpr int kAtOnce = std::clamp(kMostSums / L, 1, Vectors);
    constexpr Index kWidth = Vectors * kLanes;
    for (int first = 0; first < Vectors; first += kAtOnce) {
      D::Vector sums[L][kAtOnce] = {};
      for (const Index* i = list.begin; i != list.end; ++i) {
        const double* x = block + *i * kWidth + first * kLanes;
        const double* r = jumps + *i * kTerms;
        D::Vector inputs[kAtOnce];
        micro::unroll<kAtOnce>(FEATCORE_EACH(v) { inputs[v] = D::load(x + v * kLanes); });
        micro::unroll<L>(FEATCORE_EACH(l) {
          micro::unroll<kAtOnce>(FEATCORE_EACH(v) { sums[l][v] += r[l] * inputs[v]; });
        });
      }
      for (int l = 0; l < L; ++l)
        for (int v = 0; v < kAtOnce; ++v) {
          double* to = direction(l) + k + (first + v) * kLanes;
          D::store(to, D::load(to) + list.sign * sums[l][v]);
        }
    }
  }

  static V magnitude(V v) { return v > -v ? v : -v; }

  // The first event before event.tau; what event holds already comes last.
  template <int L>
  void find_event(Event& event) {
    if (view_->rates.W == 0) return;
    if (head_sign_ != 0)
      for (const Still& still : still_) {
        const double tau = first_pull<L>(still, event.tau);
        if (tau < event.tau) event = {Event::pull, tau, still.sample};
      }
    const auto found = search_.template first<L>(rows(), series_, event.tau);
    if (found.sample >= 0) event = {Event::crossing, found.tau, found.sample};
    for (const Held& held : held_) {
      const double tau = first_release<L>(held, event.tau);
      if (tau < event.tau) event = {Event::release, tau, held.sample};
    }
  }

  // First tau < limit at which the coefficient of a held sample leaves its interval.
  template <int L>
  double first_release(const Held& held, double limit) {
    double first = limit;
    for (int bound = 0; bound < 2; ++bound) {
      Terms gap{};  // signed distance to a bound
      for (int l = 0; l < L; ++l)
        gap[l] = held.coefficient[l] - (bound == 0 ? 0.0 : jump(held.sample)[l]);
      Terms here;
      series_.local_polynomial(gap, here);
      Terms r;
      terms::load(jump(held.sample), r);
      const double now = polynomial(r, L, s_);
      const double inside = (now > 0) == (bound == 0) ? 1 : -1;
      here[0] += inside * (kRelease + held.slack) * std::abs(now);
      first = first_below<L>(inside * here, first);
    }
    return first;
  }

  // First tau < limit from which the field of a line that rests on its hyperplane pulls it away.
  template <int L>
  double first_pull(const Still& still, double limit) {
    Terms u, here;
    load_field<L>(still.sample, u);
    double size = 0;
    for (int l = 0; l < L; ++l) size += std::abs(u[l]);
    if (way_through<L>(still) != 0) return std::min(limit, 0.0);
    if (size <= still.noise) return limit;
    if (s_ == -1 && std::abs(polynomial(u, L, s_)) > still.noise) return std::min(limit, 0.0);
    series_.local_polynomial(u, here);
    double first = limit;
    for (const double sign : {1.0, -1.0}) {
      Terms gap = sign * here;
      gap[0] += still.doubt;
      first = first_below<L>(gap, first);
    }
    return first;
  }

  // Where both sides lead if they lead the same way, 0 otherwise. Then rest is rest to the last
  // digit only: a field of terms that cancel would not be 0 to rounding, one without terms is.
  template <int L>
  double way_through(const Still& still) {
    const Index b = still.sample;
    Terms u, all, far;
    load_field<L>(b, u);
    terms::load(jump(b), all);
    terms::load(far_part(b), far);
    const double squared = samples_->norm(b) * samples_->norm(b);
    const double here = head_sign_ * polynomial(u, L, s_);
    const double beyond = here - head_sign_ * squared * polynomial(far, L, s_);
    const double before = here + head_sign_ * squared * polynomial(all - far, L, s_);
    const double doubt = noise(still);
    if (before > doubt && beyond > doubt && pulled_at_all(b)) return 1;
    if (before < -doubt && beyond < -doubt && pulled_at_all(b)) return -1;
    return 0;
  }

  // Whether any sample that is not off has a product with line b.
  bool pulled_at_all(Index b) const {
    for (Index u = 0; u < samples_->n(); ++u) {
      const T side = side_.data()[u];
      bool pulls = slope_ != 0 || side > T(0);
      if (!pulls && side < T(0))
        for (int l = 0; l < view_->terms; ++l) pulls = pulls || far_part(u)[l] != 0;
      if (pulls && samples_->meet(u, b)) return true;
    }
    return std::any_of(held_.begin(), held_.end(),
                       [&](const Held& held) { return samples_->meet(held.sample, b); });
  }

  // First tau < limit from which the polynomial is negative.
  template <int L>
  double first_below(const Terms& here, double limit) {
    roots_.clear();
    real_roots(here, L, limit, roots_);
    double low = 0;
    for (std::size_t k = 0; k <= roots_.size(); ++k) {
      const double high = k < roots_.size() ? roots_[k] : limit;
      if (polynomial(here, L, 0.5 * (low + high)) < 0) return std::min(limit, low);
      low = high;
    }
    return limit;
  }

  // Adds a sigma(z_i) at the points up to tau, or at all that are left.
  template <int L>
  void pour(double tau, bool last, T* f, int& point) {
    constexpr int kMost = 40;
    T A[kMost][L];
    T a[kMost], decay[kMost];
    const int first = point;
    int count = 0;
    for (; point < view_->point_count && count < kMost; ++point, ++count) {
      const double at = view_->points[point] - s_;
      if (at > tau && !last) break;
      typename NeuronSeries::Point here;
      series_.at(std::min(at, tau), here);
      for (int l = 0; l < L; ++l) A[count][l] = static_cast<T>(here.A[l]);
      a[count] = static_cast<T>(share_ * here.a);
      decay[count] = static_cast<T>(here.decay);
    }
    if (count == 0) return;
    const Index padded = samples_->padded_n();
    const V slope = S::fill(static_cast<T>(slope_));
    const bool mirrored = samples_->mirrored();
    const Index stride = (mirrored ? 2 : 1) * padded;
    T* out = f + first * stride;
    for (Index i = 0; i < padded; i += S::kLanes) {
      V u[L];
      for (int l = 0; l < L; ++l) u[l] = S::load(field(l) + i);
      const V z = S::load(z_ + i);
      for (int q = 0; q < count; ++q) {
        V now = decay[q] * z;
        for (int l = 0; l < L; ++l) now += A[q][l] * u[l];
        const V low = slope * now;
        T* sum = out + q * stride + i;
        S::store(sum, S::load(sum) + a[q] * (now > V{} ? now : low));
        if (mirrored) S::store(sum + padded, S::load(sum + padded) + a[q] * now);
      }
    }
  }

  // Moves everything to the event.
  template <int L>
  void advance(const Event& event) {
    typename NeuronSeries::Point here;
    series_.at(event.tau, here);
    V A[L];
    for (int l = 0; l < L; ++l) A[l] = S::fill(static_cast<T>(here.A[l]));
    const V decay = S::fill(static_cast<T>(here.decay));
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      V now = decay * S::load(z_ + i);
      for (int l = 0; l < L; ++l) now += A[l] * S::load(field(l) + i);
      S::store(z_ + i, now);
    }
    const Index padded = samples_->padded_d();
    for (Index k = 0; k < padded; k += D::kLanes) {
      D::Vector w = here.decay * D::load(w_ + k);
      for (int l = 0; l < L; ++l) w += here.A[l] * D::load(direction(l) + k);
      D::store(w_ + k, w);
    }
    move_scalars<L>(here, event.tau);
    if (event.kind == Event::head) a_ = 0;
    for (const Held& held : held_) z_[held.sample] = T(0);
    for (const Still& still : still_) z_[still.sample] = T(0);
    if (event.kind == Event::crossing) z_[event.sample] = T(0);
  }

  // What determines the series.
  template <int L>
  void move_scalars(const NeuronSeries::Point& here, double tau) {
    Terms moved = here.decay * Q_;
    for (int l = 0; l < L; ++l) moved += here.A[l] * M_[l];
    Q_ = moved;
    a_ = here.a;
    s_ += tau;
  }

  // At an event: who is on which side from now on.
  template <int L>
  void settle(const Event& event) {
    if (event.kind == Event::head) {
      head_sign_ = -head_sign_;
      if (held_.empty()) return;
    }
    norm_ = std::sqrt(squared_norm_of_w());
    if (event.kind == Event::pull) {
      leave<L>(event.sample);
      if (held_.empty() && norm_ > 0) return;
    }
    const Index crossing = event.kind == Event::crossing ? event.sample : -1;
    find_ties(crossing);
    if (crossing >= 0 && ties_.size() == 1 && held_.empty())
      pass<L>(crossing);
    else
      resolve<L>(crossing, slope_ != 0 && norm_ == 0 && event.kind != Event::pull);
  }

  // Line b and all others that are pulled away go to the sides where the field leads that they have
  // in common: as a small step of Euler's method does, in whatever order they are.
  template <int L>
  void leave(Index b) {
    std::vector<Index> near, far;
    std::vector<Still> left;
    for (const Still& still : still_) {
      Terms u;
      load_field<L>(still.sample, u);
      double pull = head_sign_ * polynomial(u, L, s_);
      if (std::abs(pull) <= noise(still)) {
        const double way = way_through<L>(still);
        if (way == 0 && still.sample != b) {
          left.push_back(still);
          continue;
        }
        if (way != 0) pull = way;
      }
      (pull > 0 ? near : far).push_back(still.sample);
    }
    still_.swap(left);
    const auto move = [&](Index i, bool on) {
      Terms before, after{};
      terms::load(far_part(i), before);
      if (on) terms::load(jump(i), after);
      add<L>(i, after - before);
      side_.data()[i] = on ? T(1) : T(-1);
      note(i, on ? EventKind::near : EventKind::far);
    };
    for (const Index i : near) move(i, true);
    for (const Index i : far) move(i, false);
  }

  // Held samples that have begun to repel, where the head has changed its sign: as at the start.
  template <int L>
  void free_repelling() {
    std::vector<Held> attracting;
    for (const Held& held : held_) {
      Terms all;
      terms::load(jump(held.sample), all);
      if (!(head_sign_ * polynomial(all, L, s_) > 0)) {
        attracting.push_back(held);
        continue;
      }
      Terms none;
      terms::load(far_part(held.sample), none);
      add<L>(held.sample, none - held.coefficient);
      still_.push_back(at_rest(held.sample));
      note(held.sample, EventKind::none);
    }
    held_.swap(attracting);
  }

  // Samples whose z is zero to rounding, besides those held.
  void find_ties(Index crossing) {
    ties_.clear();
    if (crossing >= 0) ties_.push_back(crossing);
    if (norm_ == 0) {  // on all hyperplanes
      for (Index k = 0; k < samples_->n(); ++k)
        if (k != crossing && side_.data()[k] != T(0) && samples_->norm(k) > 0) ties_.push_back(k);
      return;
    }
    // All of w may have been across the coordinates; then every z is exactly 0.
    const double least = view_->blurred ? kTiny : 0.0;
    const V width = S::fill(static_cast<T>(std::max(kBlur * norm_, least)));
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      unsigned near =
          S::positive(width * S::load(samples_->norms() + i) - magnitude(S::load(z_ + i)));
      for (; near; near &= near - 1) {
        const Index k = i + __builtin_ctz(near);
        if (k != crossing && side_.data()[k] != T(0)) ties_.push_back(k);
      }
    }
  }

  // Whether z_b goes on beyond zero.
  template <int L>
  bool passes(Index b, const Terms& u, bool was_on) const {
    Terms r;
    terms::load(jump(b), r);
    const double squared = samples_->norm(b) * samples_->norm(b);
    const double change = (was_on ? -1 : 1) * polynomial(r, L, s_) * squared;
    return (was_on ? -1 : 1) * head_sign_ * (polynomial(u, L, s_) + change) > 0;
  }

  // One sample alone: across, or held.
  template <int L>
  void pass(Index b) {
    Terms u;
    load_field<L>(b, u);
    const bool was_on = side_.data()[b] > T(0);
    if (passes<L>(b, u, was_on)) {
      flip<L>(b, !was_on);
    } else if ((was_on ? -1 : 1) * head_sign_ * polynomial(u, L, s_) > 0) {
      // it comes back from the other side: held
      Terms r;
      terms::load(jump(b), r);
      held_.push_back({b, was_on ? r : Terms{}, 0.0});
      side_.data()[b] = T(0);
      note(b, EventKind::held);
      hold<L>();
    } else {
      stay<L>(b);
    }
  }

  void note(Index sample, EventKind kind) { events_->push_back({s_, 0, sample, kind}); }

  template <int L>
  void flip(Index b, bool on) {
    Terms change;
    terms::load(jump(b), change);
    if (!on) change = -change;
    add<L>(b, change);
    side_.data()[b] = on ? T(1) : T(-1);
    z_[b] = T(0);
    note(b, on ? EventKind::on : EventKind::off);
  }

  // v(s) gains change(s) x_b.
  template <int L>
  void add(Index b, const Terms& change) {
    const T* products = samples_->products(b, products_.data());
    Terms u;
    load_field<L>(b, u);
    add_scalars<L>(b, u, z_[b], change);
    V factor[L];
    for (int l = 0; l < L; ++l) factor[l] = S::fill(static_cast<T>(change[l]));
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      const V product = S::load(products + i);
      for (int l = 0; l < L; ++l)
        S::store(field(l) + i, S::load(field(l) + i) + factor[l] * product);
    }
    const double* x = samples_->row(b);
    for (int l = 0; l < L; ++l)
      for (Index k = 0; k < samples_->padded_d(); k += D::kLanes)
        D::store(direction(l) + k, D::load(direction(l) + k) + change[l] * D::load(x + k));
  }

  template <int L>
  void add_scalars(Index b, const Terms& u, T z, const Terms& change) {
    const double squared = samples_->norm(b) * samples_->norm(b);
    for (int l = 0; l < L; ++l) M_[l] += change[l] * u + (u[l] + change[l] * squared) * change;
    Q_ += static_cast<double>(z) * change;
  }

  TiedSamples samples_at(const std::vector<Index>& which) const {
    ColMatrix<double> x(samples_->padded_d(), static_cast<Index>(which.size()));
    for (Index p = 0; p < x.cols(); ++p)
      x.col(p) = ConstVector<double>(samples_->row(which[static_cast<std::size_t>(p)]), x.rows());
    return TiedSamples(x);
  }

  // Chooses the coefficients of the held samples so that v is across them at every s.
  template <int L>
  void hold() {
    if (held_.empty()) return;
    std::vector<Index> which, all;
    for (const Held& held : held_) {
      all.push_back(static_cast<Index>(all.size()));
      which.push_back(held.sample);
    }
    ColMatrix<double> fields(static_cast<Index>(held_.size()), L);
    for (Index p = 0; p < fields.rows(); ++p)
      for (int l = 0; l < L; ++l)
        fields(p, l) = dot(samples_->row(which[static_cast<std::size_t>(p)]), direction(l),
                           samples_->padded_d());
    const ColMatrix<double> changes = samples_at(which).across(all, fields);
    for (Index p = 0; p < fields.rows(); ++p) {
      Held& held = held_[static_cast<std::size_t>(p)];
      Terms change{};
      for (int l = 0; l < L; ++l) change[l] = changes(p, l);
      add<L>(held.sample, change);
      held.coefficient += change;
    }
    constexpr double kMostSlack = 1e-4;
    for (Held& held : held_) {
      const double outside = std::abs(share_of<L>(held) - 0.5) - 0.5;
      held.slack = outside > 0 && outside < kMostSlack ? 2 * outside : 0.0;
    }
  }

  // Of its jump, now.
  template <int L>
  double share_of(const Held& held) const {
    Terms all;
    terms::load(jump(held.sample), all);
    const double now = polynomial(all, L, s_);
    return now != 0 ? polynomial(held.coefficient, L, s_) / now : 0.0;
  }

  // Who is held, on or off from now on, of those on their hyperplanes. `from_zero`: in w = 0, where
  // sides are what they were before.
  template <int L>
  void resolve(Index crossing, bool from_zero) {
    free_repelling<L>();
    find_ties(crossing);
    tied_.clear();
    for (const Held& held : held_) tied_.push_back(held.sample);
    tied_.insert(tied_.end(), ties_.begin(), ties_.end());
    if (tied_.empty()) return;
    const auto count = static_cast<Index>(tied_.size());
    const auto at = [](Index p) { return static_cast<std::size_t>(p); };
    std::vector<int> status(tied_.size());
    Vector<double> base(count), jumps(count), share(count);
    Vector<double> off = Vector<double>::Zero(samples_->padded_d());  // v with all of them off
    for (Index k = 0; k < samples_->padded_d(); ++k) off(k) = direction_at<L>(k, s_);
    for (Index p = 0; p < count; ++p) {
      const Index b = tied_[at(p)];
      status[at(p)] = static_cast<int>(side_.data()[b]);
      Terms values;
      terms::load(jump(b), values);
      jumps(p) = polynomial(values, L, s_);
      share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      if (p < static_cast<Index>(held_.size())) share(p) = share_of<L>(held_[at(p)]);
      off -= share(p) * jumps(p) * ConstVector<double>(samples_->row(b), off.size());
    }
    for (Index p = 0; p < count; ++p)
      base(p) = off.dot(ConstVector<double>(samples_->row(tied_[at(p)]), off.size()));
    const TiedSamples samples = samples_at(tied_);
    samples.choose(base, jumps, head_sign_, from_zero, status, share);
    take<L>(status, share);
    // Samples in the span of those held stay where these do, and others may stay for want of a
    // field: what rounding makes of that is no event.
    std::vector<Index> held;
    double largest = 0;
    for (Index p = 0; p < count; ++p) {
      if (status[at(p)] == 0) held.push_back(p);
      largest = std::max(largest, std::abs(jumps(p)) * samples_->norm(tied_[at(p)]));
    }
    if (static_cast<Index>(held.size()) == count) return;
    for (Index p = 0; p < count; ++p) {
      const Index b = tied_[at(p)];
      double size = 0;
      for (int l = 0; l < L; ++l) size += std::abs(static_cast<double>(field(l)[b]));
      if (status[at(p)] != 0 && size <= kStill * largest * samples_->norm(b)) stay<L>(b);
    }
    if (!held.empty())
      for (const Index p : samples.spanned(held)) stay<L>(tied_[at(p)]);
  }

  // Sample b, on its hyperplane, stays there.
  template <int L>
  void stay(Index b) {
    z_[b] = T(0);
    for (int l = 0; l < L; ++l) field(l)[b] = T(0);
  }

  // Gives the tied samples their new status.
  template <int L>
  void take(const std::vector<int>& status, const Vector<double>& share) {
    std::vector<Held> before;
    before.swap(held_);
    for (std::size_t p = 0; p < tied_.size(); ++p) {
      const Index b = tied_[p];
      const int old = static_cast<int>(side_.data()[b]);
      const int now = status[p];
      if (now != 0 && now == old) continue;
      Terms all;
      terms::load(jump(b), all);
      const Terms coefficient = old == 0 ? before[p].coefficient : (old > 0 ? all : Terms{});
      z_[b] = T(0);
      if (now == 0) {
        held_.push_back({b, coefficient, 0.0});
        // where shares are not unique, they have been chosen with room
        Terms change{};
        change[0] =
            (share(static_cast<Index>(p)) - share_of<L>(held_.back())) * polynomial(all, L, s_);
        if (std::abs(change[0]) > kRelease * std::abs(polynomial(all, L, s_))) {
          add<L>(b, change);
          held_.back().coefficient += change;
        }
        if (old != 0) note(b, EventKind::held);
      } else {
        add<L>(b, (now > 0 ? all : Terms{}) - coefficient);
        note(b, now > 0 ? EventKind::on : EventKind::off);
      }
      side_.data()[b] = static_cast<T>(now);
    }
    hold<L>();
  }

  const FlowSamples<T>* samples_;
  double slope_;

  const StepView* view_ = nullptr;
  std::vector<FlowEvent>* events_ = nullptr;
  NeuronSeries series_;
  double s_ = -1;
  double a_ = 0;
  double share_ = 1;      // of what the neuron gives in f
  double head_sign_ = 1;  // of a just after s_
  double norm_ = 0;       // of w at the last event
  double start_norm_ = 0;
  double squared_gradient_ = 0;
  double speed_ = 0;
  Terms Q_;
  Terms M_[kTerms];
  Index batch_;
  Buffer<T> fields_;           // (batch, 1 + kTerms, padded_n): z and U
  Buffer<double> directions_;  // (batch, 1 + kTerms, padded_d): w and V
  std::vector<List> lists_;
  T* U_ = nullptr;  // (terms, padded_n): <x_i, V_l>
  T* z_ = nullptr;
  Buffer<T> side_;  // +1, -1, and 0 for held samples and padding
  Buffer<T> products_;
  double* V_ = nullptr;  // (terms, padded_d)
  double* w_ = nullptr;
  CrossingSearch<T> search_;
  CrossingWindow<T> window_;
  std::vector<Index> ties_, tied_;
  std::vector<Held> held_;
  std::vector<Still> still_;
  std::vector<double> roots_;
};

}  // namespace featcore
