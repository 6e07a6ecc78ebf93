// The event-resolved flow of a network with kinks: crossings are located, not stepped over.
//
// On a step the residuals are polynomials of time; given those, every neuron is carried alone, from
// one of its own events to the next, to rounding. What the neurons give at the points of the step
// makes better polynomials, until both agree. See docs/derivations.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/flow_stepper.hpp"
#include "featcore/form.hpp"
#include "featcore/neuron_path.hpp"
#include "featcore/neuron_scales.hpp"
#include "featcore/objective.hpp"
#include "featcore/weights.hpp"

namespace featcore {

struct EventFlowOptions {
  double rtol = 1e-6;
  double atol = 1e-9;
  Rates rates;
  // |z| up to this many |w| |x| is a zero at the start: what rounding of the weights leaves of one.
  double zero = 0;
  // Of the neurons, whose weights are then mantissas; must outlive the flow. Null for plain
  // weights.
  const NeuronScales* scales = nullptr;
};

// Where a flow stands between two steps, and what it needs to go on to the same bits.
template <class T>
struct EventFlowState {
  double time = 0;
  double step = 0;  // the length to try next; 0 before the first
  std::vector<T> W, a;
  std::vector<std::int8_t> sides;  // (m, lines of samples)
  std::vector<T> f;                // (n)
  // Of the last step: its length, and its residuals in Legendre's basis, (n, kTerms).
  double last_step = 0;
  std::vector<double> legendre;  // times 2^doublings
  int doublings = 0;
  int trusted = 0;   // terms that extrapolate best
  double ratio = 0;  // of its error to what was allowed
  T rest = 1;        // what is left of weights that only decay
  // With scales only: see NeuronScales, (m), and |v| of the fastest neuron of the last step.
  std::vector<std::int64_t> exponents;
  double fastest = 0;
};

template <class T>
class EventFlow final : public FlowStepper<T> {
 public:
  using typename FlowStepper<T>::Step;
  using typename FlowStepper<T>::Standing;

  // The samples must outlive the flow. Those that share a hyperplane are found among `given`, where
  // the objective's are the same in other coordinates.
  EventFlow(const NetworkView<T>& net, Activation activation, const Objective<T>& objective,
            const EventFlowOptions& options, const SplitView<T>* given = nullptr)
      : options_(options),
        slope_(activation.slope),
        objective_(&objective),
        m_(net.m),
        d_(net.d),
        n_(objective.split().n),
        samples_(objective.split(), given ? *given : objective.split()),
        grid_(terms_for(options.rtol), 2 * terms_for(options.rtol) - 2),
        chunks_(net.m, std::clamp(net.m / 48, kFewChunks, kMostChunks), 1),
        stride_((samples_.mirrored() ? 2 : 1) * samples_.padded_n()),
        chunk_size_((grid_.points() - 1) * stride_),
        sums_(chunks_.pieces() * chunk_size_),
        f_(grid_.points() * n_),
        r_(grid_.points() * n_),
        residuals_(n_ * kTerms),
        refitted_(n_ * kTerms),
        jumps_(samples_.n() * kTerms),
        rests_(samples_.n() * kTerms),
        sizes_(samples_.padded_d()),
        off_(kTerms * samples_.padded_d()),
        on_(kTerms * samples_.padded_d()),
        events_(size(chunks_.pieces())) {
    if (!activation.homogeneous())
      throw std::invalid_argument("the event-resolved flow needs ReLU or leaky ReLU");
    if (objective.spec().loss == Loss::hinge)
      throw std::invalid_argument(
          "the residuals of the hinge loss jump: the event-resolved flow cannot follow them");
    if (!(options.rtol > 0) || !(options.atol >= 0))
      throw std::invalid_argument("rtol must be positive and atol must not be negative");
    for (int q = 1; q < grid_.points(); ++q) points_.push_back(grid_.at(q));
    state_.W.assign(net.W, net.W + m_ * d_);
    state_.a.assign(net.a, net.a + m_);
    if (options.scales) {
      state_.exponents.assign(size(m_), 0);
      renormalise(state_);
    }
  }

  // Goes on from a state of a flow with the same data and options.
  void resume(EventFlowState<T> state) {
    const bool fits = state.W.size() == size(m_ * d_) && state.a.size() == size(m_) &&
                      state.sides.size() == size(m_ * samples_.n()) && state.f.size() == size(n_) &&
                      state.legendre.size() == size(n_ * kTerms) && state.trusted >= 0 &&
                      state.trusted <= grid_.terms() &&
                      state.exponents.size() == (options_.scales ? size(m_) : 0);
    if (!fits) throw std::invalid_argument("the state is not of this flow");
    state_ = std::move(state);
    begun_ = true;
  }

  // The first sides too.
  bool begin(const Team& team) override {
    if (!prepared_) {
      samples_.multiply_all(team);
      next_ = state_;
      prepared_ = true;
    }
    gather(team);
    if (!begun_) {
      const Index lines = samples_.n();
      const Index padded = samples_.padded_n();
      EventFlowState<T> first = state_;  // a stop in here leaves a flow that has not begun
      first.sides.assign(size(m_ * lines), -1);
      first.f.assign(size(n_), T(0));
      first.legendre.assign(size(n_ * kTerms), 0.0);
      team.for_work(2.0 * static_cast<double>(lines * m_ * d_))
          .for_each(chunks_.pieces(), [&](Index chunk, const Worker& worker) {
            T* sums = sums_.data() + chunk * chunk_size_;
            std::fill_n(sums, stride_, T(0));
            constexpr Index kRows = 8;
            Buffer<double> w(kRows * samples_.padded_d());
            Buffer<T> z(kRows * padded);
            for (Index j = chunks_.begin(chunk); j < chunks_.end(chunk); ++j) {
              const Index row = (j - chunks_.begin(chunk)) % kRows;
              if (row == 0) {
                if (worker.stop()) return;
                const Index rows = std::min(kRows, chunks_.end(chunk) - j);
                for (Index q = 0; q < rows; ++q)
                  samples_.gather(state_.W.data() + (j + q) * d_,
                                  w.data() + q * samples_.padded_d());
                samples_.multiply(w.data(), samples_.padded_d(), rows, z.data());
              }
              const T a = static_cast<T>(share(state_, j) * static_cast<double>(state_.a[size(j)]));
              const T least =
                  static_cast<T>(options_.zero * detail::norm(state_.W.data() + j * d_,
                                                              options_.zero > 0 ? d_ : 0));
              for (Index u = 0; u < lines; ++u) {
                const T zu = z.data()[row * padded + u];
                const T norm = samples_.norms()[u];
                Side side = zu > 0 ? Side::active : Side::inactive;
                if (std::abs(zu) <= least * norm && norm > 0) side = Side::still;
                first.sides[size(j * lines + u)] = static_cast<std::int8_t>(side);
                sums[u] += a * (zu > 0 ? zu : static_cast<T>(slope_) * zu);
                if (samples_.mirrored()) sums[padded + u] += a * zu;
              }
            }
          });
      gather_outputs(0, first.f.data());
      state_ = std::move(first);
      next_ = state_;
      begun_ = true;
    }
    start();
    for (Index i = 0; i < n_; ++i)
      if (!sound(state_.f[size(i)]) || !sound(r0_[size(i)])) return false;
    return true;
  }

  // As long as its error allows.
  Step step(const Team& team) override {
    start();
    double h = std::min(state_.step > 0 ? state_.step : first_step(), kLongest);
    if (options_.scales) h = std::min(h, longest_step());
    for (;;) {
      if (!(h > kShortest * state_.time) || h < kLeast)
        return finite_ ? Step::underflow : Step::non_finite;
      const double factor = attempt(h, team);
      if (factor > 0) {
        state_.step = h * factor;
        break;
      }
      h *= -factor;
      ++counts_.rejected;
    }
    ++counts_.accepted;
    return Step::taken;
  }

  FlowPoint<T> look(double time, const Team& team) override {
    if (time == state_.time) return point(state_);
    const double h = state_.last_step;
    looked_.W.resize(state_.W.size());
    looked_.a.resize(state_.a.size());
    looked_.sides.resize(state_.sides.size());
    looked_.exponents = next_.exponents;
    StepView view = step_view(h, next_);
    view.point_count = 0;
    view.end = std::clamp(2 * (time - next_.time) / h - 1, -1.0, 1.0);
    if (!carry_all(view, next_, looked_, team)) throw Unrepeatable{};
    looked_.rest = decayed(next_.rest, view);
    return point(looked_);
  }

  // Between the points of the step.
  void look_at_outputs(double time, const Team&, T* f) override {
    const double s = std::clamp(2 * (time - next_.time) / state_.last_step - 1, -1.0, 1.0);
    std::fill_n(f, n_, T(0));
    double total = 0;
    std::vector<double> weights(size(grid_.points()));
    for (int q = 0; q < grid_.points(); ++q) {
      const double gap = s - grid_.at(q);
      const double end = q == 0 || q + 1 == grid_.points() ? 0.5 : 1.0;
      if (gap == 0) {
        std::fill(weights.begin(), weights.end(), 0.0);
        weights[size(q)] = total = 1;
        break;
      }
      total += weights[size(q)] = (q % 2 == 0 ? end : -end) / gap;
    }
    for (int q = 0; q < grid_.points(); ++q) {
      const T weight = static_cast<T>(weights[size(q)] / total);
      const T* at = q == 0 ? next_.f.data() : f_.data() + q * n_;
      for (Index i = 0; i < n_; ++i) f[i] += weight * at[i];
    }
  }

  // At the end of the last step, and of all so far.
  const EventFlowState<T>& state() const { return state_; }
  FlowPoint<T> here() const override { return point(state_); }
  const T* outputs() const override { return state_.f.data(); }
  const FlowCounts& counts() const override { return counts_; }
  double time() const override { return state_.time; }
  double squared_gradient(const Team& team) override {
    if (!measured_) measure(team);
    return squared_gradient_;
  }
  const std::vector<FlowEvent>& events() const override { return step_events_; }
  // Outputs are interpolated, which costs little.
  int looks() const override { return 12; }

  Standing resumes_from(double time) const override {
    const EventFlowState<T>& from = time < state_.time ? next_ : state_;
    return {from.time, point(from)};
  }
  EventFlowState<T> resumable(double time) const {
    if (!(time < state_.time)) return state_;
    EventFlowState<T> before = next_;
    before.step = state_.last_step;
    return before;
  }

 private:
  FlowPoint<T> point(const EventFlowState<T>& state) const {
    return {{m_, d_, state.W.data(), state.a.data()},
            state.rest,
            options_.scales ? state.exponents.data() : nullptr};
  }

  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  static int terms_for(double rtol) {
    if (rtol > 3e-5) return NeuronPath<T>::kFewTerms;
    return rtol > 3e-8 ? NeuronPath<T>::kSomeTerms : NeuronPath<T>::kMostTerms;
  }

  static constexpr Index kFewChunks = 16;
  static constexpr Index kMostChunks = 64;
  static constexpr double kShortest = 1e-14;  // step, of the time
  static constexpr double kLeast = 1e-290;
  static constexpr double kLongest = 1e307;

  static bool sound(T value) { return std::abs(value) <= largest_sound<T>(); }

  void gather(const Team& team) {
    while (paths_.size() < static_cast<std::size_t>(team.threads()))
      paths_.emplace_back(samples_, slope_);
  }

  void start() {
    doublings_ = objective_->halvings(state_.f.data());
    r0_.resize(size(n_));
    objective_->residuals(0, n_, state_.f.data(), r0_.data(), doublings_);
    speed_ = rounding_ = 0;
    for (Index i = 0; i < n_; ++i) {
      const T r = r0_[size(i)];
      speed_ += std::abs(static_cast<double>(r)) * samples_.length(i);
      rounding_ += objective_->roundings(i, state_.f[size(i)], r) * samples_.length(i);
    }
  }

  // A weight's logarithm changes by 1/10 at most.
  double first_step() const {
    const double speed = pace() * (speed_ + objective_->spec().weight_decay);
    return speed > 0 ? std::ldexp(0.1 / speed, doublings_) : 1.0;
  }

  // Time, that of the fastest layer, passes so much faster than the clock.
  double pace() const { return std::max(options_.rates.W, options_.rates.a); }

  // A length of time in the units of a step, in which residuals are what they are times
  // 2^doublings: late in training neither these nor their squares underflow.
  double scaled(double h) const { return std::ldexp(h, -doublings_); }

  // From the units of the last step to those of this one.
  double last_unit() const { return std::ldexp(1.0, doublings_ - state_.doublings); }

  // While neurons have no part in f nothing limits a step but their own series: the fastest changes
  // by e^8, so that what comes to rest is told from what was small (NeuronPath::kRest).
  static constexpr double kGrowth = 8;
  double longest_step() const {
    const double speed =
        growth_rate(state_.last_step > 0 ? state_.fastest : std::ldexp(speed_, -doublings_));
    return speed > 0 ? kGrowth / speed : std::numeric_limits<double>::infinity();
  }

  // How fast the logarithm of a weight may change where |v| is `speed`.
  double growth_rate(double speed) const {
    const bool both = options_.rates.W > 0 && options_.rates.a > 0;  // one alone grows like time
    return pace() * ((both ? speed : 0.0) + objective_->spec().weight_decay);
  }

  // |v| of the fastest neuron, of those just carried.
  double fastest() const {
    double speed = 0;
    for (const Part& part : parts_) speed = std::max(speed, part.speed);
    return speed;
  }

  // The square of a neuron's scale, by which its mantissas' part of f is multiplied.
  double share(const EventFlowState<T>& state, Index j) const {
    return options_.scales ? options_.scales->squared(j, state.exponents[size(j)]) : 1.0;
  }

  // Mantissas far from 1 hand over a power of two, which changes no digit.
  void renormalise(EventFlowState<T>& state) const {
    constexpr int kFar = 16;
    for (Index j = 0; j < m_; ++j) {
      T* w = state.W.data() + j * d_;
      T& a = state.a[size(j)];
      const double largest =
          std::max(detail::largest_entry(w, d_), std::abs(static_cast<double>(a)));
      if (!(largest > 0) || !std::isfinite(largest)) continue;
      const int exponent = std::ilogb(largest);
      if (std::abs(exponent) <= kFar) continue;
      for (Index k = 0; k < d_; ++k) w[k] = std::ldexp(w[k], -exponent);
      a = std::ldexp(a, -exponent);
      state.exponents[size(j)] += exponent;
    }
  }

  // Residuals on a step of length h as the last step has them, continued from what they are now.
  void predict(double h, int trusted, Buffer<double>& out) const {
    const int terms = grid_.terms();
    const double ratio = state_.last_step > 0 ? h / state_.last_step : 0.0;
    const std::vector<double> shifted = StepGrid::monomials(terms, ratio, 1 + ratio);
    const double unit = last_unit();
    for (Index i = 0; i < n_; ++i) {
      double* r = out.data() + i * kTerms;
      std::fill_n(r, kTerms, 0.0);
      for (int l = 0; l < trusted; ++l)
        for (int k = 0; k <= l; ++k)
          r[k] += unit * state_.legendre[size(i * kTerms + l)] * shifted[size(l * terms + k)];
      double start = 0;  // at s = -1
      for (int k = terms - 1; k >= 0; --k) start = r[k] - start;
      r[0] += static_cast<double>(r0_[size(i)]) - start;
    }
  }

  // Carries all neurons over the step with the residuals as they are. False if one fails.
  bool sweep(double h, const Team& team) {
    ++counts_.evaluations;
    find_jumps();
    if (!carry_all(step_view(h, state_), state_, next_, team)) return false;
    // f and r at the points
    const Index points = grid_.points();
    std::vector<char> finite(size(points), 1);
    team.for_work(60.0 * static_cast<double>(n_ * points))
        .for_each(points, [&](Index q, const Worker&) {
          T* r = r_.data() + q * n_;
          if (q == 0) {
            std::copy_n(r0_.data(), n_, r);
            return;
          }
          T* f = f_.data() + q * n_;
          gather_outputs(q - 1, f);
          objective_->residuals(0, n_, f, r, doublings_);
          for (Index i = 0; i < n_; ++i)
            if (!sound(f[i]) || !sound(r[i])) finite[size(q)] = 0;
        });
    for (const char one : finite) finite_ = finite_ && one != 0;
    return finite_;
  }

  // The gradient before the first step: all neurons carried over no time at all.
  void measure(const Team& team) {
    ++counts_.evaluations;
    std::fill_n(residuals_.data(), residuals_.size(), 0.0);
    for (Index i = 0; i < n_; ++i)
      residuals_.data()[i * kTerms] = static_cast<double>(r0_[size(i)]);
    find_jumps();
    StepView view = step_view(std::ldexp(1.0, doublings_), state_);
    view.point_count = 0;
    view.end = -1;
    looked_ = state_;
    if (!carry_all(view, state_, looked_, team)) throw std::logic_error("no gradient at the start");
    sum_gradient();
  }

  // Of the last time that neurons were carried.
  void sum_gradient() {
    squared_gradient_ = 0;
    for (const Part& part : parts_) squared_gradient_ += part.squared_gradient;
    squared_gradient_ = std::ldexp(squared_gradient_, -2 * doublings_);
    measured_ = true;
  }

  // What the chunks gave at a point, added up in their order: f on the samples.
  void gather_outputs(Index point, T* f) {
    T* sums = sums_.data() + point * stride_;
    for (Index c = 1; c < chunks_.pieces(); ++c) {
      const T* part = sums_.data() + c * chunk_size_ + point * stride_;
      for (Index u = 0; u < stride_; ++u) sums[u] += part[u];
    }
    const T both = static_cast<T>(1 + slope_);
    for (Index i = 0; i < n_; ++i) {
      const Index u = samples_.line(i);
      const T factor = static_cast<T>(samples_.factor(i));
      // sigma(-z) = sigma(z) - (1 + slope) z
      f[i] = factor > 0 ? factor * sums[u]
                        : -factor * (sums[u] - both * sums[samples_.padded_n() + u]);
    }
  }

  // The jumps of v at the hyperplanes, and v on either side of all of them, from the residuals. (At
  // rest on a hyperplane v lacks what the samples on its far side give: they are off, too.)
  void find_jumps() {
    const Index padded_d = samples_.padded_d();
    std::fill_n(off_.data(), off_.size(), 0.0);
    std::fill_n(on_.data(), on_.size(), 0.0);
    std::fill_n(rests_.data(), rests_.size(), 0.0);
    std::fill_n(sizes_.data(), sizes_.size(), 0.0);
    for (Index u = 0; u < samples_.n(); ++u) {
      double off[kTerms] = {};
      double* jump = jumps_.data() + u * kTerms;
      double* rest = rests_.data() + u * kTerms;
      std::fill_n(jump, kTerms, 0.0);
      double all = 0;
      samples_.each_member(u, [&](Index i) {
        const double factor = samples_.factor(i);
        const double* r = residuals_.data() + i * kTerms;
        for (int l = 0; l < grid_.terms(); ++l) {
          const double gain = (1 - slope_) * std::abs(factor) * r[l];
          off[l] += (factor > 0 ? slope_ : 1.0) * factor * r[l];
          jump[l] += gain;
          if (factor < 0) rest[l] += gain;
          all += std::abs(factor * r[l]);
        }
      });
      const double* x = samples_.row(u);
      for (Index k = 0; k < padded_d; ++k) sizes_.data()[k] += all * std::abs(x[k]);
      for (int l = 0; l < grid_.terms(); ++l)
        for (Index k = 0; k < padded_d; ++k) {
          off_.data()[l * padded_d + k] += off[l] * x[k];
          on_.data()[l * padded_d + k] += (off[l] + jump[l]) * x[k];
        }
    }
  }

  // Of a step of length h from a state.
  StepView step_view(double h, const EventFlowState<T>& from) const {
    StepView view;
    view.terms = grid_.terms();
    const double decay = objective_->spec().weight_decay;
    view.rates = {0.5 * scaled(h), options_.rates.W, options_.rates.a, options_.rates.W * decay,
                  options_.rates.a * decay};
    view.jumps = jumps_.data();
    view.rests = rests_.data();
    view.sizes = sizes_.data();
    view.doubt = options_.rtol + options_.atol;
    view.off = off_.data();
    view.on = on_.data();
    view.points = points_.data();
    view.point_count = static_cast<int>(points_.size());
    view.blurred = options_.zero > 0 && from.last_step == 0;  // the first step
    return view;
  }

  // Carries all neurons from one state over a step into another, and sums what they give in chunks.
  // False if one fails.
  bool carry_all(const StepView& view, const EventFlowState<T>& from, EventFlowState<T>& to,
                 const Team& team) {
    const Team sized = team.for_work(2.0 * static_cast<double>(n_ * m_) *
                                     static_cast<double>(grid_.terms() * (d_ + 2 * grid_.terms())));
    gather(sized);
    parts_.assign(size(chunks_.pieces()), Part());
    sized.for_each(chunks_.pieces(), [&](Index chunk, const Worker& worker) {
      T* sums = sums_.data() + chunk * chunk_size_;
      if (view.point_count > 0) std::fill_n(sums, chunk_size_, T(0));
      std::vector<FlowEvent>& events = events_[size(chunk)];
      events.clear();
      NeuronPath<T>& path = paths_[static_cast<std::size_t>(worker.id)];
      Part part;
      const Index first = chunks_.begin(chunk);
      const Index last = chunks_.end(chunk);
      const Index lines = samples_.n();
      for (Index j = first; j < last && part.good; ++j) {
        if (worker.stop()) return;
        const Index slot = (j - first) % path.batch();
        if (slot == 0)
          path.prepare(view, std::min(path.batch(), last - j), from.W.data() + j * d_, d_,
                       from.sides.data() + j * lines, worker);
        const std::size_t before = events.size();
        T* w = to.W.data() + j * d_;
        const double part_of_f = share(from, j);
        part.good =
            path.carry(view, slot, from.a[size(j)], part_of_f, from.sides.data() + j * lines, sums,
                       w, to.a.data() + j, to.sides.data() + j * lines, events, worker);
        part.squared_gradient +=
            part_of_f * (path.squared_gradient() + move_idle(view, from.W.data() + j * d_, w));
        part.speed = std::max(part.speed, path.speed());
        for (std::size_t e = before; e < events.size(); ++e) events[e].neuron = j;
      }
      parts_[size(chunk)] = part;
    });
    bool good = true;
    for (const Part& part : parts_) good = good && part.good;
    return good;
  }

  // What a view leaves of a weight that only decays.
  static T decayed(T weight, const StepView& view) {
    return static_cast<T>(std::exp(-view.rates.half * view.rates.decay_W * (view.end + 1)) *
                          static_cast<double>(weight));
  }

  // Weights of inputs that no sample has feel the decay only. Returns their part of the squared
  // gradient.
  double move_idle(const StepView& view, const T* w, T* w_end) const {
    const NeuronRates& rates = view.rates;
    double squared = 0;
    for (const Index k : samples_.idle_inputs()) {
      w_end[k] = decayed(w[k], view);
      squared += static_cast<double>(w_end[k]) * static_cast<double>(w_end[k]);
    }
    const double decay = rates.W != 0 ? rates.decay_W / rates.W : 0.0;
    return decay * decay * squared;
  }

  // Fits polynomials to the residuals at the points.
  void refit() {
    std::fill_n(refitted_.data(), refitted_.size(), 0.0);
    for (int q = 0; q < grid_.points(); ++q)
      for (Index i = 0; i < n_; ++i) {
        const double r = static_cast<double>(r_.data()[q * n_ + i]);
        for (int l = 0; l < grid_.terms(); ++l)
          refitted_.data()[i * kTerms + l] += grid_.fit(l, q) * r;
      }
  }

  // How far the integral over the step of sum_i (residual - polynomial) x_i goes astray: the
  // relative error of the weights. The residuals are those at the points, or refitted.
  enum class Against { points, refitted };
  double error(double h, const Buffer<double>& polynomials, Against against, const Team& team) {
    const int count = grid_.points();
    gaps_.resize(size(count * n_));
    for (int q = 0; q < count; ++q)
      for (Index i = 0; i < n_; ++i) {
        const double* p = polynomials.data() + i * kTerms;
        const double* other = refitted_.data() + i * kTerms;
        double sum = 0;
        if (against == Against::points) {
          for (int l = grid_.terms() - 1; l >= 0; --l) sum = sum * grid_.at(q) + p[l];
          sum = static_cast<double>(r_.data()[q * n_ + i]) - sum;
        } else {
          for (int l = grid_.terms() - 1; l >= 0; --l) sum = sum * grid_.at(q) + (other[l] - p[l]);
        }
        gaps_[size(q * n_ + i)] = sum;
      }
    integrals_.resize(size(count * n_));
    squares_.assign(size(count), 0.0);
    team.for_work(2.0 * static_cast<double>(n_ * count * count))
        .for_each(count, [&](Index c, const Worker&) {
          double* integral = integrals_.data() + c * n_;
          std::fill_n(integral, n_, 0.0);
          for (int q = 0; q < count; ++q) {
            const double weight = grid_.integral(static_cast<int>(c), q);
            const double* gap = gaps_.data() + q * n_;
            for (Index i = 0; i < n_; ++i) integral[i] += weight * gap[i];
          }
          double squared = 0;
          for (Index i = 0; i < n_; ++i) {
            const double part = integral[i] * samples_.length(i);
            squared += part * part;
          }
          squares_[size(c)] = squared;
        });
    std::size_t where = 0;
    for (std::size_t c = 0; c < squares_.size(); ++c)
      if (!(squares_[c] <= squares_[where])) where = c;
    const double worst = squares_[where];
    const double* worst_integral = integrals_.data() + where * size(n_);
    // samples of a class may pull together
    std::vector<double> sums(size(2 * samples_.padded_d()), 0.0);
    for (Index i = 0; i < n_; ++i) {
      double* sum = sums.data() + (objective_->split().y[i] > 0 ? 0 : samples_.padded_d());
      const double* x = samples_.row(samples_.line(i));
      const double weight = worst_integral[i] * samples_.factor(i);
      for (Index k = 0; k < samples_.d(); ++k) sum[k] += weight * x[k];
    }
    double together = 0;
    for (const double sum : sums) together += sum * sum;
    return 0.5 * pace() * scaled(h) * std::sqrt(std::max(worst, together));
  }

  // What the error of the step of length h just swept may be: in proportion to how far it moves the
  // fastest neuron, so that the parts of a run add up to its whole. (The sum of all |r_i x_i| is no
  // measure: where samples contradict each other it stays while weights rest.) Nor is time: late in
  // training steps are as long as all before them and move weights by little. Shorter steps do not
  // help against roundings of outputs and residuals: where weights rest nothing else is left.
  double tolerance(double h) const {
    const double time = pace() * scaled(h);
    return options_.rtol * std::min(1.0, time * fastest()) +
           options_.atol * std::min(1.0, time * speed_) + rounding(h);
  }
  double rounding(double h) const {
    constexpr double kRounding = 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
    return kRounding * rounding_ * pace() * scaled(h);
  }

  // Tries a step of length h. Positive if it was taken; its size is the factor of the next length.
  double attempt(double h, const Team& team) {
    constexpr int kMostSweeps = 12;
    constexpr double kShrink = -0.3;
    predict(h, state_.trusted, residuals_);
    finite_ = true;
    double change_before = 0, contraction = 0;
    for (int sweeps = 0; sweeps < kMostSweeps; ++sweeps) {
      if (!sweep(h, team)) return kShrink;
      if (options_.scales && h * growth_rate(std::ldexp(fastest(), -doublings_)) > 2 * kGrowth)
        return kShrink;
      const double allowed = tolerance(h);
      refit();
      const double all = error(h, residuals_, Against::points, team);
      const double fit = error(h, refitted_, Against::points, team);
      const double change = error(h, residuals_, Against::refitted, team);
      if (!std::isfinite(all)) return kShrink;
      if (sweeps > 0) contraction = std::max(contraction, change / change_before);
      // what rounding leaves says nothing about the next step
      if (all <= allowed) return accept(h, fit > rounding(h) ? fit / allowed : 0.0, contraction);
      if (fit > allowed && (sweeps > 0 || change < 10 * fit))
        return -std::clamp(0.8 * std::sqrt(allowed / fit), 0.2, 0.8);
      if (sweeps > 0 && contraction > 0.5) return kShrink;
      change_before = change;
      std::swap(residuals_, refitted_);
    }
    return kShrink;
  }

  // Makes what was swept the new state. `ratio`: of its error, once iterated to the end, to what is
  // allowed.
  double accept(double h, double ratio, double contraction) {
    learn(h);
    const T* f = f_.data() + (grid_.points() - 1) * n_;
    next_.f.assign(f, f + n_);
    next_.legendre.assign(size(n_ * kTerms), 0.0);
    for (Index i = 0; i < n_; ++i)
      for (int q = 0; q < grid_.points(); ++q)
        for (int l = 0; l < grid_.terms(); ++l)
          next_.legendre[size(i * kTerms + l)] +=
              grid_.legendre_fit(l, q) * static_cast<double>(r_.data()[q * n_ + i]);
    next_.last_step = h;
    next_.doublings = doublings_;
    next_.time = state_.time + h;
    next_.rest = decayed(state_.rest, step_view(h, state_));
    next_.ratio = std::max(ratio, 1e-12);
    sum_gradient();
    step_events_.clear();
    for (const std::vector<FlowEvent>& events : events_)
      for (FlowEvent event : events) {
        event.time = state_.time + 0.5 * h * (1 + event.time);
        const EventKind kind = event.kind;
        samples_.each_member(event.sample, [&](Index i) {
          event.sample = i;
          event.kind = event_of(kind, samples_.factor(i) < 0);
          if (event.kind != EventKind::none) step_events_.push_back(event);
        });
      }
    std::stable_sort(step_events_.begin(), step_events_.end(),
                     [](const FlowEvent& p, const FlowEvent& q) { return p.time < q.time; });
    // Between the order of smooth residuals, terms, and that of residuals with kinks.
    const double order = static_cast<double>(grid_.terms()) / 0.7;
    double factor = 0.8 * std::pow(next_.ratio, -1 / order);
    if (state_.last_step > 0) {  // an error that grew from step to step goes on growing
      const double growth = next_.ratio / state_.ratio * std::pow(state_.last_step / h, order);
      factor *= std::pow(std::max(1.0, growth), -0.5 / order);
    }
    constexpr double kGoodContraction = 0.1;
    if (contraction > 0) factor = std::min(factor, kGoodContraction / contraction);
    next_.exponents = state_.exponents;
    next_.fastest = std::ldexp(fastest(), -doublings_);
    std::swap(state_, next_);
    if (options_.scales) renormalise(state_);
    return std::clamp(factor, 0.3, 4.0);
  }

  // How many terms of the last step would have given the best first guess at the end of this one.
  void learn(double h) {
    if (state_.last_step == 0) {
      next_.trusted = 2;
      return;
    }
    const double end = 1 + 2 * h / state_.last_step;  // in units of the last step
    const T* now = r_.data() + (grid_.points() - 1) * n_;
    std::vector<double> gaps(size(n_));
    for (Index i = 0; i < n_; ++i)
      gaps[size(i)] = static_cast<double>(r0_[size(i)]) - static_cast<double>(now[i]);
    double least = std::numeric_limits<double>::infinity();
    const double unit = last_unit();
    double before = 0, legendre = 1;
    for (int l = 0; l < grid_.terms(); ++l) {
      double sum = 0;
      for (Index i = 0; i < n_; ++i) {
        gaps[size(i)] += unit * state_.legendre[size(i * kTerms + l)] * (legendre - 1);
        sum += std::abs(gaps[size(i)]) * samples_.length(i);
      }
      if (sum < least) {
        least = sum;
        next_.trusted = l + 1;
      }
      const double after = ((2 * l + 1) * end * legendre - l * before) / (l + 1);
      before = legendre;
      legendre = after;
    }
  }

  struct Part {  // of a chunk
    bool good = true;
    double squared_gradient = 0;
    double speed = 0;  // the largest |v|
  };

  EventFlowOptions options_;
  double slope_;
  const Objective<T>* objective_;
  Index m_, d_, n_;
  FlowSamples<T> samples_;
  StepGrid grid_;
  Cut chunks_;
  Index stride_;      // of a point of a chunk
  Index chunk_size_;  // of sums_
  EventFlowState<T> state_;
  EventFlowState<T> next_;  // after a step: the state before it
  FlowCounts counts_;
  std::vector<NeuronPath<T>> paths_;  // one a thread
  Buffer<T> sums_;                    // (chunks, points - 1, 1 or 2, lines)
  Buffer<T> f_, r_;                   // (points, n)
  Buffer<double> residuals_, refitted_;
  Buffer<double> jumps_, rests_, sizes_, off_, on_;
  std::vector<double> points_;
  std::vector<std::vector<FlowEvent>> events_;  // of a sweep, by chunk
  std::vector<FlowEvent> step_events_;
  std::vector<Part> parts_;
  EventFlowState<T> looked_;
  bool prepared_ = false;
  bool begun_ = false;
  bool finite_ = true;     // whether the last attempt was
  bool measured_ = false;  // whether squared_gradient_ is known
  double squared_gradient_ = 0;
  std::vector<T> r0_;
  int doublings_ = 0;
  double speed_ = 0;     // sum of |r_i x_i|: bounds the relative speed of a weight
  double rounding_ = 0;  // and what of it is in doubt
  std::vector<double> gaps_, integrals_, squares_;
};

}  // namespace featcore
