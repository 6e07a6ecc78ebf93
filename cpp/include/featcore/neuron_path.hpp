// The path of one neuron over a step, from one of its own events to the next: a sample's hyperplane
// is crossed, held (sliding) or let go. Given the residuals, neurons do not see each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/flow_samples.hpp"
#include "featcore/neuron_series.hpp"

namespace featcore {

// Where a neuron is with respect to a sample.
enum class Side : std::int8_t { inactive = -1, held = 0, active = 1 };

// What happened to a pair.
enum class EventKind : std::int8_t { off = -1, held = 0, on = 1 };

struct FlowEvent {
  double time;
  Index neuron;
  Index sample;
  EventKind kind;
};

// What all neurons share on a step. The arrays belong to somebody else.
struct StepView {
  int terms = 0;
  NeuronRates rates;
  // (n, kTerms), powers of s: what v gains along x_i where z_i turns positive
  const double* jumps = nullptr;
  const double* off = nullptr;     // (terms, padded_d): v with no sample active
  const double* on = nullptr;      // and with all
  const double* points = nullptr;  // increasing, in (-1, end]
  int point_count = 0;
  double end = 1;
};

// One a thread: scratch memory, and the neuron that is on its way.
template <class T>
class NeuronPath {
 public:
  using S = Simd<T>;
  using V = typename S::Vector;

  NeuronPath(const FlowSamples<T>& samples, double slope)
      : samples_(&samples),
        slope_(slope),
        U_(kTerms * samples.padded_n()),
        z_(samples.padded_n()),
        side_(samples.padded_n()),
        products_(samples.padded_n()),
        V_(kTerms * samples.padded_d()),
        w_(samples.padded_d()) {}

  // Carries neuron (w, a), on `sides` of the samples, from s = -1 to view.end, and adds a
  // sigma(z_i) to f, (points, padded_n); with mirrored samples (points, 2, padded_n), the second
  // being a z_i. Writes w, a and sides at the end. Events are appended with s for time. False if it
  // is not finite or does not get on.
  bool carry(const StepView& view, const T* w, T a, const std::int8_t* sides, T* f, T* w_end,
             T* a_end, std::int8_t* sides_end, std::vector<FlowEvent>& events,
             const Worker& worker) {
    switch (view.terms) {
      case 4:
        return carry_terms<4>(view, w, a, sides, f, w_end, a_end, sides_end, events, worker);
      case 5:
        return carry_terms<5>(view, w, a, sides, f, w_end, a_end, sides_end, events, worker);
      case 6:
        return carry_terms<6>(view, w, a, sides, f, w_end, a_end, sides_end, events, worker);
      case 7:
        return carry_terms<7>(view, w, a, sides, f, w_end, a_end, sides_end, events, worker);
      default:
        return carry_terms<8>(view, w, a, sides, f, w_end, a_end, sides_end, events, worker);
    }
  }

  // Squared norm of the objective's gradient at the end of the path, over the layers that move.
  double squared_gradient() const { return squared_gradient_; }

 private:
  using D = Simd<double>;

  // A held sample is let go once its share is this far outside [0, 1], so that one let go is
  // clearly so and is not held again at once.
  static constexpr double kRelease = 1e-9;
  static constexpr Index kEventsAPoll = 16;
  // Of the weight at the start: what is left of it is rounding.
  static constexpr double kRest = 1e-13;

  struct Held {
    Index sample;
    Terms coefficient;  // of x_b in v(s), between none of the jump and all of it
  };

  template <int L>
  bool carry_terms(const StepView& view, const T* w, T a, const std::int8_t* sides, T* f, T* w_end,
                   T* a_end, std::int8_t* sides_end, std::vector<FlowEvent>& events,
                   const Worker& worker) {
    view_ = &view;
    events_ = &events;
    a_ = static_cast<double>(a);
    s_ = -1;
    if (slope_ == 0 && std::all_of(w, w + samples_->d(), [](T value) { return value == T(0); })) {
      // relu'(0) = 0: it stays
      const NeuronRates& rates = view.rates;
      std::fill_n(w_end, samples_->d(), T(0));
      *a_end = static_cast<T>(a_ * std::exp(-rates.half * rates.decay_a * (view.end + 1)));
      std::copy_n(sides, samples_->n(), sides_end);
      // what is left is the weight decay of a
      const double head = rates.a != 0 ? rates.decay_a / rates.a * static_cast<double>(*a_end) : 0;
      squared_gradient_ = head * head;
      return true;
    }
    start<L>(w, sides);
    const Index n = samples_->n();
    // Zeno's neuron is the step's problem: a shorter one, or none, will do.
    const Index most_events = 1000 + 20 * n;
    int point = 0;
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
      find_event<L>(reach, event);
      const bool last = whole && event.kind == Event::none;
      pour<L>(event.tau, last, f, point);
      advance<L>(event);
      if (last) break;
      if (event.kind != Event::none) settle<L>(event);
      if (!held_.empty() && squared_norm_of_w() <= kRest * kRest * start_norm_ * start_norm_)
        rest();
      if (count > most_events) return false;
      // what is left undone is dropped: the loop over neurons ends with Stopped
      if (count % kEventsAPoll == kEventsAPoll - 1 && worker.stop()) return true;
    }
    bool finite = std::isfinite(a_);
    for (Index k = 0; k < samples_->d(); ++k) {
      w_end[k] = static_cast<T>(w_.data()[k]);
      finite = finite && std::isfinite(w_.data()[k]);
    }
    *a_end = static_cast<T>(a_);
    measure<L>();
    for (Index i = 0; i < n; ++i) sides_end[i] = static_cast<std::int8_t>(side_.data()[i]);
    return finite;
  }

  double squared_norm_of_w() const { return dot(w_.data(), w_.data(), samples_->padded_d()); }

  // Held by as many samples as there are inputs: w = 0, where nothing pulls any more (relu'(0) =
  // 0).
  void rest() {
    held_.clear();
    std::fill_n(w_.data(), w_.size(), 0.0);
    std::fill_n(V_.data(), V_.size(), 0.0);
    std::fill_n(U_.data(), U_.size(), T(0));
    std::fill_n(z_.data(), z_.size(), T(0));
    for (Index i = 0; i < samples_->n(); ++i) side_.data()[i] = T(-1);
    Q_ = Terms{};
    for (Terms& terms : M_) terms = Terms{};
  }

  template <int L>
  void measure() {
    const NeuronRates& rates = view_->rates;
    const double decay =
        rates.W != 0 ? rates.decay_W / rates.W : (rates.a != 0 ? rates.decay_a / rates.a : 0.0);
    Terms powers{};
    double power = 1;
    for (int l = 0; l < L; ++l) {
      powers[l] = power;
      power *= view_->end;
    }
    squared_gradient_ = 0;
    double head = -decay * a_;
    for (Index k = 0; k < samples_->d(); ++k) {
      double v = 0;
      for (int l = 0; l < L; ++l) v += powers[l] * direction(l)[k];
      head += w_.data()[k] * v;
      const double weight = a_ * v - decay * w_.data()[k];
      if (rates.W != 0) squared_gradient_ += weight * weight;
    }
    if (rates.a != 0) squared_gradient_ += head * head;
  }

  struct Event {
    enum Kind { none, crossing, release, head };
    Kind kind = none;
    double tau = 0;
    Index sample = -1;
  };

  const double* jump(Index i) const { return view_->jumps + i * kTerms; }
  double* direction(int l) { return V_.data() + l * samples_->padded_d(); }
  T* field(int l) { return U_.data() + l * samples_->padded_n(); }
  const T* field(int l) const { return U_.data() + l * samples_->padded_n(); }

  template <int L>
  void load_field(Index i, Terms& u) const {
    u = Terms{};
    for (int l = 0; l < L; ++l) u[l] = static_cast<double>(field(l)[i]);
  }

  static double polynomial(const Terms& c, int count, double s) {
    double sum = c[count - 1];
    for (int l = count - 2; l >= 0; --l) sum = sum * s + c[l];
    return sum;
  }

  // V, U, z, M and Q at the start of a step.
  template <int L>
  void start(const T* w, const std::int8_t* sides) {
    const Index n = samples_->n();
    const Index d = samples_->d();
    held_.clear();
    on_.clear();
    off_.clear();
    for (Index i = 0; i < n; ++i) {
      side_.data()[i] = static_cast<T>(sides[i]);
      if (sides[i] > 0)
        on_.push_back(i);
      else
        off_.push_back(i);
      if (sides[i] == 0) held_.push_back({i, Terms{}});
    }
    std::fill_n(w_.data(), samples_->padded_d(), 0.0);
    double squared = 0;
    for (Index k = 0; k < d; ++k) {
      w_.data()[k] = static_cast<double>(w[k]);
      squared += w_.data()[k] * w_.data()[k];
    }
    norm_ = start_norm_ = std::sqrt(squared);
    // The fewer are added up: those on, or those off taken from all.
    if (on_.size() <= off_.size())
      add_rows<L>(on_, 1, view_->off);
    else
      add_rows<L>(off_, -1, view_->on);
    multiply<L>();
    for (Index i = 0; i < n; ++i) {
      T& z = z_.data()[i];
      const T side = side_.data()[i];
      // A pair that has just crossed is on its new side, whatever rounding makes of z.
      if (side == T(0) || (side * z < T(0) && std::abs(static_cast<double>(z)) <= blur(i)))
        z = T(0);
    }
    for (Terms& terms : M_) terms = Terms{};
    Q_ = Terms{};
    const Index padded = samples_->padded_d();
    for (int l = 0; l < L; ++l) {
      Q_[l] = dot(direction(l), w_.data(), padded);
      for (int k = 0; k <= l; ++k) M_[l][k] = M_[k][l] = dot(direction(l), direction(k), padded);
    }
    if (!held_.empty()) {
      head_sign_ = a_ > 0 ? 1 : -1;
      hold<L>();
      resolve<L>({});
    }
  }

  // What rounding may leave of a z that is zero.
  double blur(Index i) const {
    return 16 * static_cast<double>(std::numeric_limits<T>::epsilon()) * norm_ * samples_->norm(i);
  }

  static double dot(const double* p, const double* q, Index count) {
    typename D::Vector sum{};
    for (Index k = 0; k < count; k += D::kLanes) sum += D::load(p + k) * D::load(q + k);
    return D::sum(sum);
  }

  // V = base + sign * sum over `items` of their jumps.
  template <int L>
  void add_rows(const std::vector<Index>& items, double sign, const double* base) {
    constexpr int kLanes = D::kLanes;
    constexpr int kWide = L <= 6 && kLanes == 8 ? 3 : (L <= 6 || kLanes == 8 ? 2 : 1);
    const Index padded = samples_->padded_d();
    Index k = 0;
    const auto block = [&](auto width) {
      constexpr int kBlocks = width();
      D::Vector sums[L][kBlocks] = {};
      for (const Index i : items) {
        const double* x = samples_->row(i) + k;
        const double* r = jump(i);
        for (int v = 0; v < kBlocks; ++v) {
          const D::Vector part = D::load(x + v * kLanes);
          for (int l = 0; l < L; ++l) sums[l][v] += r[l] * part;
        }
      }
      for (int l = 0; l < L; ++l)
        for (int v = 0; v < kBlocks; ++v)
          D::store(direction(l) + k + v * kLanes,
                   D::load(base + l * padded + k + v * kLanes) + sign * sums[l][v]);
      k += kBlocks * kLanes;
    };
    // NOLINTBEGIN(bugprone-infinite-loop): a block moves k
    while (k + kWide * kLanes <= padded) block(std::integral_constant<int, kWide>());
    while (k < padded) block(std::integral_constant<int, 1>());
    // NOLINTEND(bugprone-infinite-loop)
  }

  // U = X V and z = X w.
  template <int L>
  void multiply() {
    constexpr int kLanes = S::kLanes;
    const Index d = samples_->d();
    const Index padded = samples_->padded_d();
    for (Index i = 0; i < samples_->padded_n(); i += 2 * kLanes) {
      V sums[L + 1][2] = {};
      for (Index k = 0; k < d; ++k) {
        const T* x = samples_->column(k) + i;
        const V x0 = S::load(x);
        const V x1 = S::load(x + kLanes);
        for (int l = 0; l < L; ++l) {
          const T v = static_cast<T>(V_.data()[l * padded + k]);
          sums[l][0] += v * x0;
          sums[l][1] += v * x1;
        }
        const T w = static_cast<T>(w_.data()[k]);
        sums[L][0] += w * x0;
        sums[L][1] += w * x1;
      }
      for (int l = 0; l < L; ++l) {
        S::store(field(l) + i, sums[l][0]);
        S::store(field(l) + i + kLanes, sums[l][1]);
      }
      S::store(z_.data() + i, sums[L][0]);
      S::store(z_.data() + i + kLanes, sums[L][1]);
    }
  }

  static V magnitude(V v) { return v > -v ? v : -v; }

  // The first event before event.tau; what event holds already comes last.
  template <int L>
  void find_event(double reach, Event& event) {
    if (view_->rates.W == 0) return;
    typename NeuronSeries::Point end;
    series_.at(reach, end);
    V A[L];
    for (int l = 0; l < L; ++l) A[l] = S::fill(static_cast<T>(end.A[l]));
    const V decay = S::fill(static_cast<T>(end.decay));
    // how far z can move and come back
    const V bound = S::fill(
        static_cast<T>(reach * series_.speed(series_.largest_head(reach), 1.0) / end.decay));
    candidates_.clear();
    for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
      const V first = S::load(field(0) + i);
      const V z = S::load(z_.data() + i);
      const V side = S::load(side_.data() + i);
      V spread = magnitude(S::load(field(1) + i));
      V later = decay * z + A[0] * first + A[1] * S::load(field(1) + i);
      for (int l = 2; l < L; ++l) {
        const V u = S::load(field(l) + i);
        spread += magnitude(u);
        later += A[l] * u;
      }
      const V steady = magnitude(first);
      const V then = side * later;
      unsigned found = S::positive(-then);
      const unsigned turning = S::positive(spread - steady);
      if (turning) found |= turning & S::positive(bound * (spread + steady) - side * z - then);
      for (; found; found &= found - 1) candidates_.push_back(i + __builtin_ctz(found));
    }
    for (const Index i : candidates_) {
      if (side_.data()[i] == T(0)) continue;
      const double tau = first_crossing<L>(i, event);
      if (tau < event.tau) event = {Event::crossing, tau, i};
    }
    for (const Held& held : held_) {
      const double tau = first_release<L>(held, event.tau);
      if (tau < event.tau) event = {Event::release, tau, held.sample};
    }
  }

  // z_i / E at tau, where `u` are its coefficients around s.
  double preactivation(double z, const Terms& u, double tau) const {
    Terms B;
    double a = 0;
    series_.local(tau, B, a);
    return z + terms::sum(B * u) / series_.decay(tau);
  }

  // First tau < event.tau at which sample i leaves its side; event.tau if there is none.
  template <int L>
  double first_crossing(Index i, const Event& event) {
    Terms u;
    load_field<L>(i, u);
    double spread = 0;
    for (int l = 1; l < L; ++l) spread += std::abs(u[l]);
    const bool turns = std::abs(u[0]) <= spread;
    Terms here;
    series_.local_polynomial(u, here);
    const double side = static_cast<double>(side_.data()[i]);
    const double z = static_cast<double>(z_.data()[i]);
    roots_.clear();
    if (turns) real_roots(here, L, event.tau, roots_);
    roots_.push_back(event.tau);
    double low = 0, at_low = side * z;
    for (const double high : roots_) {
      const double at_high = side * preactivation(z, here, high);
      if (at_high < 0)
        return at_low <= 0 ? low : crossing<L>(z, here, side, low, at_low, high, at_high);
      low = high;
      at_low = at_high;
    }
    return event.tau;
  }

  // Where side * z changes from positive to negative; monotone in between.
  template <int L>
  double crossing(double z, const Terms& u, double side, double low, double at_low, double high,
                  double at_high) const {
    const double width = high - low;
    double tau = low + width * at_low / (at_low - at_high);
    for (int step = 0; step < 100; ++step) {
      Terms B;
      double a = 0;
      series_.local(tau, B, a);
      const double decay = series_.decay(tau);
      const double value = side * (z + terms::sum(B * u) / decay);
      if (value == 0) return tau;
      (value > 0 ? low : high) = tau;
      const double slope = side * series_.speed(a, polynomial(u, L, tau)) / decay;
      const double move = value / slope;
      double next = tau - move;
      // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
      if (!(next > low && next < high)) next = 0.5 * (low + high);
      const bool close = std::abs(next - tau) <= 1e-9 * width && next == tau - move;
      tau = next;
      if (close || high - low <= 1e-16) break;
    }
    return tau;
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
      here[0] += inside * kRelease * std::abs(now);
      roots_.clear();
      real_roots(here, L, first, roots_);
      double low = 0;
      for (std::size_t k = 0; k <= roots_.size(); ++k) {
        const double high = k < roots_.size() ? roots_[k] : first;
        if (inside * polynomial(here, L, 0.5 * (low + high)) < 0) {
          first = std::min(first, low);
          break;
        }
        low = high;
      }
    }
    return first;
  }

  // Roots in (0, limit) where the polynomial changes its sign, increasing: between the critical
  // points of each derivative there is at most one root of the one before.
  static void real_roots(const Terms& c, int count, double limit, std::vector<double>& roots) {
    double critical[kTerms + 1];
    int criticals = 0;
    for (int degree = 1; degree < count; ++degree) {
      // the (count - 1 - degree)-th derivative, of this degree
      const int order = count - 1 - degree;
      double d[kTerms];
      for (int k = 0; k <= degree; ++k) {
        d[k] = c[k + order];
        for (int q = 1; q <= order; ++q) d[k] *= k + q;
      }
      const auto value = [&](double x) {
        double sum = d[degree];
        for (int k = degree - 1; k >= 0; --k) sum = sum * x + d[k];
        return sum;
      };
      double found[kTerms];
      int count_found = 0;
      double low = 0, at_low = value(0);
      for (int k = 0; k <= criticals; ++k) {
        const double high = k < criticals ? critical[k] : limit;
        const double at_high = value(high);
        if ((at_low < 0) != (at_high < 0) && high > low)
          found[count_found++] = bisect(value, low, at_low, high, at_high);
        low = high;
        at_low = at_high;
      }
      std::copy_n(found, count_found, critical);
      criticals = count_found;
    }
    for (int k = 0; k < criticals; ++k)
      if (critical[k] > 0 && critical[k] < limit) roots.push_back(critical[k]);
  }

  // By Illinois: the end that stays is halved.
  template <class Value>
  static double bisect(const Value& value, double low, double at_low, double high, double at_high) {
    const double width = high - low;
    for (int step = 0; step < 100 && high - low > 1e-15 * width; ++step) {
      double middle = low + (high - low) * at_low / (at_low - at_high);
      // NOLINTNEXTLINE(readability-simplify-boolean-expr): true of NaN
      if (!(middle > low && middle < high)) middle = 0.5 * (low + high);
      const double at_middle = value(middle);
      if (at_middle == 0) return middle;
      if ((at_middle < 0) == (at_high < 0)) {
        high = middle;
        at_high = at_middle;
        at_low *= 0.5;
      } else {
        low = middle;
        at_low = at_middle;
        at_high *= 0.5;
      }
      if (step % 3 == 2) {  // never slower than bisection by much
        const double half = 0.5 * (low + high);
        const double at_half = value(half);
        if ((at_half < 0) == (at_high < 0)) {
          high = half;
          at_high = at_half;
        } else {
          low = half;
          at_low = at_half;
        }
      }
    }
    return 0.5 * (low + high);
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
      a[count] = static_cast<T>(here.a);
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
      const V z = S::load(z_.data() + i);
      for (int q = 0; q < count; ++q) {
        V now = decay[q] * z;
        for (int l = 0; l < L; ++l) now += A[q][l] * u[l];
        const V low = slope * now;
        T* sum = out + q * stride + i;
        S::store(sum, S::load(sum) + a[q] * (now > low ? now : low));
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
      V now = decay * S::load(z_.data() + i);
      for (int l = 0; l < L; ++l) now += A[l] * S::load(field(l) + i);
      S::store(z_.data() + i, now);
    }
    Terms moved = here.decay * Q_;
    for (int l = 0; l < L; ++l) moved += here.A[l] * M_[l];
    Q_ = moved;
    const Index padded = samples_->padded_d();
    for (Index k = 0; k < padded; k += D::kLanes) {
      typename D::Vector w = here.decay * D::load(w_.data() + k);
      for (int l = 0; l < L; ++l) w += here.A[l] * D::load(direction(l) + k);
      D::store(w_.data() + k, w);
    }
    a_ = event.kind == Event::head ? 0.0 : here.a;
    s_ += event.tau;
    for (const Held& held : held_) z_.data()[held.sample] = T(0);
    if (event.kind == Event::crossing) z_.data()[event.sample] = T(0);
  }

  // At an event: who is on which side from now on.
  template <int L>
  void settle(const Event& event) {
    if (event.kind == Event::head) {
      head_sign_ = -head_sign_;
      if (!held_.empty()) resolve<L>({});
      return;
    }
    ties_.clear();
    if (event.kind == Event::crossing) {
      ties_.push_back(event.sample);
      norm_ = std::sqrt(squared_norm_of_w());
      const V width = S::fill(
          static_cast<T>(16 * static_cast<double>(std::numeric_limits<T>::epsilon()) * norm_));
      for (Index i = 0; i < samples_->padded_n(); i += S::kLanes) {
        unsigned near =
            S::positive(width * S::load(samples_->norms() + i) - magnitude(S::load(z_.data() + i)));
        for (; near; near &= near - 1) {
          const Index k = i + __builtin_ctz(near);
          if (k != event.sample && side_.data()[k] != T(0)) ties_.push_back(k);
        }
      }
      if (ties_.size() == 1 && held_.empty()) {
        pass<L>(event.sample);
        return;
      }
    }
    resolve<L>(ties_);
  }

  // One sample alone: across, or held.
  template <int L>
  void pass(Index b) {
    Terms u, r;
    load_field<L>(b, u);
    terms::load(jump(b), r);
    const bool was_on = side_.data()[b] > T(0);
    const double squared = samples_->norm(b) * samples_->norm(b);
    const double change = (was_on ? -1 : 1) * polynomial(r, L, s_) * squared;
    const double before = head_sign_ * polynomial(u, L, s_);
    const double after = before + head_sign_ * change;
    const double wanted = was_on ? -1 : 1;
    if (wanted * after > 0) {
      flip<L>(b, !was_on);
    } else if (wanted * before > 0) {
      // it comes back from the other side: held
      held_.push_back({b, was_on ? r : Terms{}});
      side_.data()[b] = T(0);
      note(b, EventKind::held);
      hold<L>();
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
    z_.data()[b] = T(0);
    note(b, on ? EventKind::on : EventKind::off);
  }

  // v(s) gains change(s) x_b.
  template <int L>
  void add(Index b, const Terms& change) {
    const T* products = samples_->products(b, products_.data());
    Terms u;
    load_field<L>(b, u);
    const double squared = samples_->norm(b) * samples_->norm(b);
    for (int l = 0; l < L; ++l) M_[l] += change[l] * u + (u[l] + change[l] * squared) * change;
    Q_ += static_cast<double>(z_.data()[b]) * change;
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

  double product(Index i, Index k) const {
    return dot(samples_->row(i), samples_->row(k), samples_->padded_d());
  }

  // Chooses the coefficients of the held samples so that v is across them at every s.
  template <int L>
  void hold() {
    const auto count = static_cast<Index>(held_.size());
    if (count == 0) return;
    ColMatrix<double> gram(count, count);
    ColMatrix<double> fields(count, L);
    for (Index p = 0; p < count; ++p) {
      const Index b = held_[static_cast<std::size_t>(p)].sample;
      for (int l = 0; l < L; ++l) fields(p, l) = static_cast<double>(field(l)[b]);
      for (Index q = 0; q <= p; ++q)
        gram(p, q) = gram(q, p) = product(b, held_[static_cast<std::size_t>(q)].sample);
    }
    const ColMatrix<double> changes =
        Eigen::CompleteOrthogonalDecomposition<ColMatrix<double>>(gram).solve(-fields);
    for (Index p = 0; p < count; ++p) {
      Held& held = held_[static_cast<std::size_t>(p)];
      Terms change{};
      for (int l = 0; l < L; ++l) change[l] = changes(p, l);
      add<L>(held.sample, change);
      held.coefficient += change;
    }
  }

  // Several samples at zero at once: the field of Filippov, by pivoting. At the end each is on,
  // off or held so that none that is on or off moves to the other side and each held one has its
  // share inside [0, 1]. Repelling samples are never held.
  template <int L>
  void resolve(const std::vector<Index>& crossing) {
    tied_.clear();
    for (const Held& held : held_) tied_.push_back(held.sample);
    tied_.insert(tied_.end(), crossing.begin(), crossing.end());
    const auto count = static_cast<Index>(tied_.size());
    const auto at = [](Index p) { return static_cast<std::size_t>(p); };
    std::vector<int> status(tied_.size());
    Vector<double> base(count), r(count), share(count);
    ColMatrix<double> gram(count, count);
    double scale = 0;
    for (Index p = 0; p < count; ++p) {
      const Index b = tied_[at(p)];
      status[at(p)] = static_cast<int>(side_.data()[b]);
      Terms u, values;
      load_field<L>(b, u);
      terms::load(jump(b), values);
      base(p) = polynomial(u, L, s_);
      r(p) = polynomial(values, L, s_);
      share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      if (p < static_cast<Index>(held_.size())) {
        const double c = polynomial(held_[at(p)].coefficient, L, s_);
        share(p) = r(p) != 0 ? c / r(p) : 0.0;
      }
      for (Index q = 0; q <= p; ++q) gram(p, q) = gram(q, p) = product(b, tied_[at(q)]);
      scale = std::max(scale, std::abs(r(p)) * gram(p, p));
    }
    // u with every tied sample off
    for (Index p = 0; p < count; ++p)
      for (Index q = 0; q < count; ++q) base(p) -= gram(p, q) * share(q) * r(q);
    const double tolerance = 1e-12 * scale;
    for (Index round = 0; round < 20 + 10 * count; ++round) {
      std::vector<Index> inside;
      for (Index p = 0; p < count; ++p) {
        if (status[at(p)] == 0)
          inside.push_back(p);
        else
          share(p) = status[at(p)] > 0 ? 1.0 : 0.0;
      }
      const auto size = static_cast<Index>(inside.size());
      Vector<double> u = base;
      for (Index q = 0; q < count; ++q)
        if (status[at(q)] > 0) u += gram.col(q) * r(q);
      if (size > 0) {
        ColMatrix<double> system(size, size);
        Vector<double> right(size);
        for (Index p = 0; p < size; ++p) {
          right(p) = -u(inside[at(p)]);
          for (Index q = 0; q < size; ++q) system(p, q) = gram(inside[at(p)], inside[at(q)]);
        }
        const Vector<double> c =
            Eigen::CompleteOrthogonalDecomposition<ColMatrix<double>>(system).solve(right);
        for (Index p = 0; p < size; ++p) {
          share(inside[at(p)]) = r(inside[at(p)]) != 0 ? c(p) / r(inside[at(p)]) : 2.0;
          u += gram.col(inside[at(p)]) * c(p);
        }
      }
      Index changed = -1;
      for (Index p = 0; p < count && changed < 0; ++p) {
        const bool attracting = head_sign_ * r(p) < 0;
        const double speed = head_sign_ * u(p);
        const int old = status[at(p)];
        if (old == 0) {
          if (!attracting || share(p) < -0.5 * kRelease)
            status[at(p)] = -1;
          else if (share(p) > 1 + 0.5 * kRelease)
            status[at(p)] = 1;
        } else if (old * speed < -tolerance) {
          status[at(p)] = attracting ? 0 : -old;
        }
        if (status[at(p)] != old) changed = p;
      }
      if (changed < 0) break;
    }
    take<L>(status);
  }

  // Gives the tied samples their new status.
  template <int L>
  void take(const std::vector<int>& status) {
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
      z_.data()[b] = T(0);
      if (now == 0) {
        held_.push_back({b, coefficient});
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
  double head_sign_ = 1;  // of a just after s_
  double norm_ = 0;       // of w at the last event
  double start_norm_ = 0;
  double squared_gradient_ = 0;
  Terms Q_;
  Terms M_[kTerms];
  Buffer<T> U_;  // (terms, padded_n): <x_i, V_l>
  Buffer<T> z_;
  Buffer<T> side_;  // +1, -1, and 0 for held samples and padding
  Buffer<T> products_;
  Buffer<double> V_;  // (terms, padded_d)
  Buffer<double> w_;
  std::vector<Index> on_, off_, candidates_, ties_, tied_;
  std::vector<Held> held_;
  std::vector<double> roots_;
};

}  // namespace featcore
