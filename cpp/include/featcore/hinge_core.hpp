// The exact flow of a network with kinks under the hinge loss: from one event to the next all
// residuals are constants, or those of support vectors, which follow from their margins staying at
// 1. See docs/derivations.md. In double whatever others see: compiled once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/box_program.hpp"
#include "featcore/filippov.hpp"
#include "featcore/first_root.hpp"
#include "featcore/flow_stepper.hpp"
#include "featcore/hinge_samples.hpp"
#include "featcore/hinge_series.hpp"
#include "featcore/least_norm.hpp"
#include "featcore/types.hpp"
#include "featcore/way_out.hpp"

namespace featcore {

struct HingeFlowOptions {
  Rates rates;
  // |z| up to this many |w| |x| is a zero at the start: what rounding of the weights leaves of one.
  double zero = 0;
  int rounds = 60;          // of the choice at a tie: then it is given up, as an underflow
  double shortest = 1e-15;  // step, of the time and of a thousand units in which samples pull
  int stalls = 4;           // shorter steps in a row, by neuron and sample: more are an underflow
};

// Where a flow stands between two steps, and what it needs to go on to the same bits.
struct HingeState {
  double time = 0;
  double step = 0;                   // the length to try next; 0 before the first
  std::vector<double> w, heads;      // (m, padded inputs), (m)
  std::vector<double> z;             // (m, padded lines): exactly 0 on a hyperplane
  std::vector<std::int8_t> sides;    // (m, lines): on (1), off (-1), held (0) or still (-2)
  std::vector<std::int8_t> demands;  // (groups)
  // (m): at w = 0; for good, as relu'(0) = 0 has it, or, if leaky, until there is a way out.
  std::vector<std::int8_t> rests;
  std::vector<double> eta;  // (groups): the demand as a number, in (0, 1) if held
  // (groups): what rounding had left of margin - 1 when the demand was last chosen.
  std::vector<double> shifts;
  // (m): |w|^2 - a^2 in units of their rates, which the flow keeps; 0 if it is but rounding.
  std::vector<double> balances;
};

class HingeCore {
 public:
  using Step = FlowStep;

  HingeCore(const NetworkView<double>& net, Activation activation, HingeSamples samples,
            const HingeFlowOptions& options)
      : options_(options),
        slope_(activation.slope),
        m_(net.m),
        samples_(std::move(samples)),
        lines_(samples_.lines().n()),
        padded_n_(samples_.lines().padded_n()),
        padded_d_(samples_.lines().padded_d()),
        chunks_(net.m, std::clamp<Index>(net.m / 32, 1, 64), 1),
        start_w_(size(m_ * padded_d_), 0.0),
        start_heads_(net.a, net.a + m_),
        outputs_(size(samples_.n())) {
    if (!activation.homogeneous())
      throw std::invalid_argument("the exact hinge flow needs ReLU or leaky ReLU");
    for (Index j = 0; j < m_; ++j)
      samples_.lines().gather(net.W + j * net.d, start_w_.data() + j * padded_d_);
    measure_terms();
  }

  HingeCore(const HingeCore&) = delete;
  HingeCore& operator=(const HingeCore&) = delete;
  ~HingeCore() = default;

  // Goes on from a state of a flow with the same data and options.
  void resume(HingeState state) {
    const std::size_t groups = samples_.groups().size();
    const bool fits = state.w.size() == size(m_ * padded_d_) && state.heads.size() == size(m_) &&
                      state.z.size() == size(m_ * padded_n_) &&
                      state.sides.size() == size(m_ * lines_) && state.rests.size() == size(m_) &&
                      state.demands.size() == groups && state.eta.size() == groups &&
                      state.shifts.size() == groups && state.balances.size() == size(m_);
    if (!fits) throw std::invalid_argument("the state is not of this flow");
    state_ = std::move(state);
    begun_ = true;
  }

  // The first sides and demands. False if outputs are not finite.
  bool begin(const Team& team) {
    if (samples_.lines().n() > 0) samples_.lines().multiply_all(team);
    if (!begun_) {
      HingeState first = state_;
      first.w = start_w_;
      first.heads = start_heads_;
      first.z.assign(size(m_ * padded_n_), 0.0);
      first.sides.assign(size(m_ * lines_), -1);
      multiply(first.w.data(), first.z.data(), team);
      for (Index j = 0; j < m_; ++j) {
        first.balances.push_back(balance_at_start(first, j));
        first.rests.push_back(slope_ == 0 && norm_of(first, j) == 0 ? 1 : 0);
        const double least = options_.zero * norm_of(first, j);
        for (Index u = 0; u < lines_; ++u) {
          double& z = first.z[size(j * padded_n_ + u)];
          if (std::abs(z) <= least * line_norm(u)) z = 0;
          const bool stays = z == 0 && first.rests.back() == 0 && line_norm(u) > 0;
          first.sides[size(j * lines_ + u)] = z > 0 ? 1 : (stays ? kStill : -1);
        }
      }
      const std::vector<HingeGroup>& groups = samples_.groups();
      first.eta.assign(groups.size(), 0.0);
      first.demands.assign(groups.size(), static_cast<std::int8_t>(Demand::none));
      first.shifts.assign(groups.size(), 0.0);
      sum_lines(first.heads, first.z, team);
      for (std::size_t g = 0; g < groups.size(); ++g) {
        const double margin = margin_of(groups[g]);
        if (!std::isfinite(margin)) return false;
        if (!(margin < 1) || !(groups[g].weight > 0)) continue;
        first.demands[g] = static_cast<std::int8_t>(Demand::full);
        first.eta[g] = 1;
      }
      unsettled_ = !settle(first, Event(), team);
      write_outputs(outputs_.data());
      if (!unsettled_) {
        state_ = std::move(first);
        begun_ = true;
      }
    }
    if (begun_) {
      sum_lines(state_.heads, state_.z, team);
      std::swap(sums_, partial_);
    }
    prepared_ = false;
    return true;
  }

  // Goes on to the next event, or as far as the series holds. After Stopped nothing has moved.
  Step step(const Team& team) {
    if (unsettled_) return Step::underflow;
    prepare(team);
    if (at_rest_) throw std::logic_error("a flow at rest takes no step");
    const double pull = pull_;
    double reach = state_.step > 0 ? state_.step : 0.1 / pull;
    sizes_ = Vector<double>(m_);
    for (Index j = 0; j < m_; ++j)
      sizes_(j) = std::max(std::hypot(state_.heads[size(j)], norm_of(state_, j) / aspect()),
                           std::numeric_limits<double>::min());
    reach = course_.series.expand(course_.piece, sizes_, reach);
    ++counts_.evaluations;
    if (!std::isfinite(reach)) return Step::non_finite;
    Event event;
    event.tau = reach;
    find_slack(event);
    find_pull(event);
    find_crossing(event, team);
    find_margin(event, team);
    moved_ = state_;
    move(event, team);
    bool finite = true;
    for (const double head : moved_.heads) finite = finite && std::isfinite(head);
    for (const double w : moved_.w) finite = finite && std::isfinite(w);
    if (!finite) return Step::non_finite;
    moved_.time = state_.time + event.tau;
    const bool stalls = !(event.tau > options_.shortest * (state_.time + 1000 / pull));
    stalled_ = stalls ? stalled_ + 1 : 0;
    if (stalled_ > options_.stalls * (25 + m_ + static_cast<Index>(samples_.groups().size())))
      return Step::underflow;
    moved_.step = event.kind == Event::none ? 4 * event.tau : std::max(0.25 * reach, 2 * event.tau);
    std::swap(course_, last_);
    if (!settle(moved_, event, team)) {
      unsettled_ = true;
      return Step::underflow;
    }
    write_outputs(outputs_.data());
    std::swap(sums_, partial_);
    note_events();
    ++counts_.accepted;
    std::swap(before_, state_);
    std::swap(state_, moved_);
    prepared_ = false;
    return Step::taken;
  }

  // Whether nothing moves any more: no sample asks for more margin, or what they ask for cancels.
  bool at_rest(const Team& team) {
    if (unsettled_) return false;
    prepare(team);
    return at_rest_;
  }

  // Weights and heads where the flow was at `time` within the last step taken.
  const HingeState& look(double time, const Team& team) {
    looked_.w.resize(size(m_ * padded_d_));
    looked_.heads.resize(size(m_));
    place(time, team, looked_);
    return looked_;
  }

  // Outputs on the training samples at `time` within the last step taken.
  void outputs(double time, const Team& team, double* f) {
    look(time, team);
    looked_.z.assign(size(m_ * padded_n_), 0.0);
    multiply(looked_.w.data(), looked_.z.data(), team);
    sum_lines(looked_.heads, looked_.z, team);
    write_outputs(f);
  }

  // At the end of the last step, and of all so far.
  const HingeState& state() const { return state_; }
  // Where it stands, on the training samples; after resume() only once a step is taken.
  const std::vector<double>& outputs() const { return outputs_; }
  const HingeSamples& samples() const { return samples_; }
  bool begun() const { return begun_; }
  const FlowCounts& counts() const { return counts_; }
  double time() const { return state_.time; }
  // Squared norm of the objective's gradient where the flow stands, over the layers that move.
  double squared_gradient(const Team& team) {
    if (unsettled_) return std::numeric_limits<double>::infinity();
    prepare(team);
    return squared_gradient_;
  }
  // Of the last step, in order. Events of margins have neuron -1.
  const std::vector<FlowEvent>& events() const { return step_events_; }

  // From where a run that was at `time` goes on with the same steps: the end of the last step, or,
  // within it, its start.
  HingeState resumable(double time) const { return time < state_.time ? before_ : state_; }

 private:
  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }

  using Matrix = RowMatrix<double>;

  // What a margin may be beyond 1, besides rounding, before it is an event.
  static constexpr double kSlack = 1e-13;
  static constexpr double kRounding = std::numeric_limits<double>::epsilon();
  // Roundings of z, relative to |w| |x|, that may be left of a zero.
  static constexpr double kBlur = 16 * kRounding;
  static constexpr double kRest = 1e-13;  // of the weight at the start: rounding
  // Of |w|^2 + a^2: what rounding makes of a weight that is given |w| = |a|.
  static constexpr double kBalanced = 32 * kRounding;
  static constexpr double kLeastWeight = 1e-152;  // of a balanced neuron; squares keep their digits
  // On the hyperplane as at the start or where it has begun to repel: neither x nor -x is active,
  // until the field, which is then more than this part of its terms, leads to either side.
  static constexpr std::int8_t kStill = -2;
  static constexpr double kNoise = 1e-12;

  struct Event {
    enum Kind { none, crossing, slack, margin, pull };
    Kind kind = none;
    double tau = 0;
    Index neuron = -1;
    Index line = -1;
    Index group = -1;  // of a margin
  };

  struct Pair {
    Index neuron, line;
  };

  // The lines that a neuron slides on, and what makes its multipliers: constant - S (gates eta).
  struct Slide {
    Index neuron;
    std::vector<Index> lines;
    Vector<double> constant;
    ColMatrix<double> S;
    LeastNorm gram;
  };

  // What carries all neurons along a piece. V has the demands of support vectors at its start in
  // it, `eta`, and the series what they change by: where all nearly cancels it does so once, and
  // not again at the end of a step however long.
  struct Course {
    HingePiece piece;
    Matrix V, held_rows;
    std::vector<Slide> slides;
    Vector<double> eta;
    HingeSeries series;

    // Coefficients of the demand of support vector b.
    double demand(int k, Index b) const { return series.eta(k)(b) + (k == 0 ? eta(b) : 0.0); }
  };

  template <class Body>
  void each_chunk(const Team& team, double work, Body&& body) const {
    team.for_work(work).for_each(chunks_.pieces(), [&](Index chunk, const Worker&) {
      body(chunk, chunks_.begin(chunk), chunks_.end(chunk));
    });
  }

  // How fast |w| and |a| grow in what all samples ask for, and |w| / |a| where both have grown:
  // what is compared with these does not depend on the units that samples are measured in.
  double growth() const {
    const Rates& rates = options_.rates;
    return both_move() ? std::sqrt(rates.W * rates.a) : std::max(rates.W, rates.a);
  }
  double aspect() const {
    return both_move() ? std::sqrt(options_.rates.W / options_.rates.a) : 1.0;
  }
  bool both_move() const { return options_.rates.W > 0 && options_.rates.a > 0; }

  double norm_of(const HingeState& s, Index j) const {
    return detail::norm(s.w.data() + j * padded_d_, padded_d_);
  }
  std::int8_t side(const HingeState& s, Index j, Index u) const {
    return s.sides[size(j * lines_ + u)];
  }
  // Shares of a neuron's size, in the units of its balance.
  struct Sizes {
    double weight, head;
  };
  Sizes sizes_of(const HingeState& s, Index j) const {
    const double norm = norm_of(s, j), a = s.heads[size(j)];
    return {norm * norm / aspect(), a * a * aspect()};
  }
  double balance_at_start(const HingeState& s, Index j) const {
    const auto [weight, head] = sizes_of(s, j);
    const double balance = weight - head;
    return std::abs(balance) <= kBalanced * (weight + head) ? 0 : balance;
  }
  static bool any_still(const HingeState& s) {
    return std::find(s.sides.begin(), s.sides.end(), kStill) != s.sides.end();
  }
  // Whether it stays there on the piece.
  static bool on_hyperplane(std::int8_t side) { return side == 0 || side == kStill; }
  double line_norm(Index u) const { return samples_.lines().norm(u); }
  // What rounding may leave of a z that is zero.
  double blur(double norm, Index u) const { return kBlur * norm * line_norm(u); }
  double product(Index u, Index v) const { return samples_.lines().product(u, v); }

  // sigma' at z, and its share of x: +-factor where z changes its sign on the line.
  double gate(const HingeGroup& group, double side) const {
    const bool on = side != kStill && (group.factor > 0) == (side > 0);
    return group.factor * (on ? 1.0 : slope_);
  }

  // out = X w, for all neurons.
  void multiply(const double* w, double* out, const Team& team) {
    if (products_.size() == 0) products_ = Buffer<double>(m_ * padded_n_);
    each_chunk(team, 2.0 * static_cast<double>(m_ * padded_n_ * padded_d_),
               [&](Index, Index first, Index last) {
                 double* to = products_.data() + first * padded_n_;
                 samples_.lines().multiply(w + first * padded_d_, padded_d_, last - first, to);
                 std::copy_n(to, (last - first) * padded_n_, out + first * padded_n_);
               });
  }

  // Residuals of samples that are not held make these: v_j is the sum over lines of `off`, or `on`,
  // or `still`.
  void find_coefficients(const HingeState& s) {
    off_.assign(size(lines_), 0.0);
    on_.assign(size(lines_), 0.0);
    still_.assign(size(lines_), 0.0);
    active_lines_.clear();
    const std::vector<HingeGroup>& groups = samples_.groups();
    for (Index u = 0; u < lines_; ++u) {
      const auto [first, last] = samples_.of_line(u);
      double terms = 0;
      for (std::size_t g = first; g < last; ++g) {
        if (in_held_[g] >= 0 || s.demands[g] != static_cast<std::int8_t>(Demand::full)) continue;
        const double r = groups[g].label * groups[g].weight;
        off_[size(u)] += r * gate(groups[g], -1);
        on_[size(u)] += r * gate(groups[g], 1);
        still_[size(u)] += r * gate(groups[g], kStill);
        terms += std::abs(r * gate(groups[g], kStill));
      }
      // x and -x may cancel, to rounding
      if (std::abs(still_[size(u)]) <= 4 * kRounding * terms) still_[size(u)] = 0;
      if (off_[size(u)] != 0 || on_[size(u)] != 0) active_lines_.push_back(u);
    }
  }

  // Of v_j on line u, which is on that side; without samples that are held.
  double coefficient(Index u, std::int8_t side) const {
    return side > 0 ? on_[size(u)] : (side == kStill ? still_[size(u)] : off_[size(u)]);
  }

  // The smooth field of a state, where the samples in `held_` have demands that are yet to be
  // found.
  void build(const HingeState& s, const Team& team) {
    in_held_.assign(samples_.groups().size(), -1);
    for (std::size_t b = 0; b < held_.size(); ++b)
      in_held_[held_[b]] = static_cast<std::ptrdiff_t>(b);
    find_coefficients(s);
    const auto held = static_cast<Index>(held_.size());
    const auto active = static_cast<Index>(active_lines_.size());
    Matrix rows(active, padded_d_);
    for (Index c = 0; c < active; ++c) rows.row(c) = line_row(active_lines_[size(c)]);
    course_.held_rows.resize(held, padded_d_);
    for (Index b = 0; b < held; ++b) course_.held_rows.row(b) = line_row(group(b).line);
    course_.piece.rates = options_.rates;
    course_.piece.a = ConstVector<double>(s.heads.data(), m_);
    course_.piece.gates.setZero(m_, held);
    course_.piece.gram.noalias() = course_.held_rows * course_.held_rows.transpose();
    course_.V.resize(m_, padded_d_);
    each_chunk(team, 2.0 * static_cast<double>(m_ * active * padded_d_),
               [&](Index, Index first, Index last) {
                 Matrix coefficients(last - first, active);
                 for (Index j = first; j < last; ++j) {
                   const double moves = s.rests[size(j)] != 0 ? 0 : 1;
                   for (Index c = 0; c < active; ++c) {
                     const Index u = active_lines_[size(c)];
                     coefficients(j - first, c) = moves * coefficient(u, side(s, j, u));
                   }
                   for (Index b = 0; b < held; ++b)
                     course_.piece.gates(j, b) = moves * group(b).label * group(b).weight *
                                                 gate(group(b), side(s, j, group(b).line));
                 }
                 course_.V.middleRows(first, last - first).noalias() = coefficients * rows;
               });
    find_slides(s);
    measure_fields(s);
    course_.piece.y.resize(m_, held);
    for (Index b = 0; b < held; ++b)
      for (Index j = 0; j < m_; ++j)
        course_.piece.y(j, b) =
            course_.piece.gates(j, b) * s.z[size(j * padded_n_ + group(b).line)];
  }

  // What a piece needs of V.
  void measure_fields(const HingeState& s) {
    const ConstRows<double> w(s.w.data(), m_, padded_d_);
    course_.piece.y0 = course_.V.cwiseProduct(w).rowwise().sum();
    course_.piece.N00 = course_.V.rowwise().squaredNorm();
    course_.piece.N0.noalias() = course_.V * course_.held_rows.transpose();
    course_.piece.N0 = course_.piece.N0.cwiseProduct(course_.piece.gates);
  }

  Eigen::Map<const Eigen::RowVectorXd> line_row(Index u) const {
    return {samples_.lines().row(u), padded_d_};
  }
  const HingeGroup& group(Index b) const { return samples_.groups()[held_[size(b)]]; }

  // Projects course_.V of neurons that slide.
  void find_slides(const HingeState& s) {
    course_.slides.clear();
    course_.piece.corrections.clear();
    const auto held = static_cast<Index>(held_.size());
    for (Index j = 0; j < m_; ++j) {
      Slide slide;
      slide.neuron = j;
      for (Index u = 0; u < lines_; ++u)
        if (side(s, j, u) == 0) slide.lines.push_back(u);
      if (slide.lines.empty()) continue;
      const auto count = static_cast<Index>(slide.lines.size());
      ColMatrix<double> gram(count, count), across(count, held);
      Vector<double> fields(count);
      for (Index p = 0; p < count; ++p) {
        const Index u = slide.lines[size(p)];
        fields(p) = line_row(u).dot(course_.V.row(j));
        for (Index q = 0; q <= p; ++q) gram(p, q) = gram(q, p) = product(u, slide.lines[size(q)]);
        for (Index b = 0; b < held; ++b) across(p, b) = product(u, group(b).line);
      }
      slide.gram.compute(gram);
      slide.constant = slide.gram.solve_one(-fields);
      slide.S = held > 0 ? slide.gram.solve(across) : ColMatrix<double>(count, 0);
      for (Index p = 0; p < count; ++p)
        course_.V.row(j) += slide.constant(p) * line_row(slide.lines[size(p)]);
      if (held > 0) course_.piece.corrections.push_back({j, across.transpose() * slide.S});
      course_.slides.push_back(std::move(slide));
    }
  }

  // out_j = A_j V_j + sum_b B_jb g_jb x_b, projected like V.
  void combine(const Course& course, const Vector<double>& A, const ColMatrix<double>& B,
               const Team& team, double* out) const {
    Rows<double> moved(out, m_, padded_d_);
    const Index held = B.cols();
    each_chunk(team, 2.0 * static_cast<double>(m_ * (held + 1) * padded_d_),
               [&](Index, Index first, Index last) {
                 const Index count = last - first;
                 auto to = moved.middleRows(first, count);
                 to = A.segment(first, count).asDiagonal() * course.V.middleRows(first, count);
                 if (held > 0)
                   to.noalias() += B.middleRows(first, count)
                                       .cwiseProduct(course.piece.gates.middleRows(first, count)) *
                                   course.held_rows;
               });
    for (const Slide& slide : course.slides) {
      const Index j = slide.neuron;
      const auto take = [&](const Vector<double>& lost) {
        for (Index p = 0; p < lost.size(); ++p)
          moved.row(j) -= lost(p) * line_row(slide.lines[size(p)]);
      };
      if (held > 0) take(slide.S * course.piece.gates.row(j).cwiseProduct(B.row(j)).transpose());
      // Once more: where most has cancelled, what rounding left of V across the lines has not.
      Vector<double> left(slide.constant.size());
      for (Index p = 0; p < left.size(); ++p)
        left(p) = line_row(slide.lines[size(p)]).dot(moved.row(j));
      take(slide.gram.solve_one(left));
    }
  }

  // The piece that starts where the flow stands.
  void prepare(const Team& team) {
    if (prepared_) return;
    const std::vector<std::size_t> built = std::move(built_);
    built_.clear();
    held_.clear();
    double asked = 0;  // by all samples, if nothing cancelled
    bool any_full = false;
    pull_ = 0;
    const std::vector<HingeGroup>& groups = samples_.groups();
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (state_.demands[g] == static_cast<std::int8_t>(Demand::held)) held_.push_back(g);
      any_full = any_full || state_.demands[g] == static_cast<std::int8_t>(Demand::full);
      const double size = std::abs(groups[g].label) * groups[g].weight * samples_.norm(groups[g]);
      pull_ += 2 * growth() * size;
      asked += state_.eta[g] * size;
    }
    if (held_.empty() || held_ != built) build(state_, team);
    eta_.resize(static_cast<Index>(held_.size()));
    for (std::size_t b = 0; b < held_.size(); ++b)
      eta_(static_cast<Index>(b)) = state_.eta[held_[b]];
    v_.resize(m_, padded_d_);
    combine(course_, Vector<double>::Ones(m_), Vector<double>::Ones(m_) * eta_.transpose(), team,
            v_.data());
    course_.V = v_;
    course_.eta = eta_;
    for (Slide& slide : course_.slides)
      slide.constant -=
          slide.S * course_.piece.gates.row(slide.neuron).transpose().cwiseProduct(eta_);
    measure_fields(state_);
    u_.resize(m_, padded_n_);
    multiply(v_.data(), u_.data(), team);
    // in units of the largest weight, whose square may underflow; at rest by what moves the loss
    const ConstRows<double> w(state_.w.data(), m_, padded_d_);
    const ConstVector<double> heads(state_.heads.data(), m_);
    const double largest = std::max(w.cwiseAbs().maxCoeff(), heads.cwiseAbs().maxCoeff());
    const double unit = largest > 0 ? std::exp2(std::ilogb(largest)) : 1.0;
    double squared = 0, moved = 0, most = 0;
    for (Index j = 0; j < m_; ++j) {
      const double a = heads(j) / unit;
      const double of_w = a * a * v_.row(j).squaredNorm();
      const double head = w.row(j).dot(v_.row(j)) / unit;
      const double of_a = head * head;
      if (options_.rates.W != 0) squared += of_w;
      if (options_.rates.a != 0) squared += of_a;
      moved += options_.rates.W * of_w + options_.rates.a * of_a;
      most += options_.rates.W * a * a + options_.rates.a * (w.row(j) / unit).squaredNorm();
    }
    squared_gradient_ = squared * unit * unit;
    constexpr double kCancelled = 1e-14;
    // support vectors alone, held by nothing, do not move either: what they ask for is rounding
    at_rest_ = !any_full || !(std::sqrt(moved) > kCancelled * asked * std::sqrt(most));
    prepared_ = true;
  }

  // --- events

  // First tau <= limit at which `gap`, a polynomial in units of the series that is not negative by
  // more than `slack` at 0, becomes negative: by more than `slack` if it begins no higher. Beyond
  // `limit` if it does not.
  double first_below(std::vector<double>& gap, double slack, double limit) {
    if (gap.front() < -slack) return 0;
    if (gap.front() <= slack) gap.front() = std::max(gap.front(), 0.0) + slack;
    const double unit = course_.series.unit();
    return root_(gap, limit / unit) * unit;
  }

  // Shares of support vectors and of held pairs that leave [0, 1], and heads of neurons that slide
  // and change their sign.
  void find_slack(Event& event) {
    const int order = course_.series.order();
    std::vector<double> gap;
    const auto look = [&](double slack, Index neuron, Index line) {
      const double tau = first_below(gap, slack, event.tau);
      if (tau <= event.tau) event = {Event::slack, tau, neuron, line, -1};
    };
    for (Index b = 0; b < eta_.size(); ++b)
      for (const double bound : {0.0, 1.0}) {
        gap.clear();
        for (int k = 0; k < order; ++k) gap.push_back((bound > 0 ? -1 : 1) * course_.demand(k, b));
        gap.front() += bound + kRelease;
        look(0, -1, -1);
      }
    for (const Slide& slide : course_.slides) {
      const Index j = slide.neuron;
      if (state_.rests[size(j)] != 0) continue;
      gap.clear();
      const double head = course_.series.a(0)(j);
      if (head != 0) {
        for (int k = 0; k <= order; ++k)
          gap.push_back((head > 0 ? 1 : -1) * course_.series.a(k)(j));
        look(0, j, -1);
      }
      for (Index p = 0; p < slide.constant.size(); ++p) {
        const Index u = slide.lines[size(p)];
        std::vector<double> share, jump;
        for (int k = 0; k < order; ++k) {
          const Vector<double>& eta = course_.series.eta(k);
          double lost = 0;
          for (Index b = 0; b < eta_.size(); ++b)
            lost += slide.S(p, b) * course_.piece.gates(j, b) * eta(b);
          share.push_back((k == 0 ? slide.constant(p) : 0.0) - lost);
          jump.push_back(jump_of(u, [&](Index b) { return course_.demand(k, b); }, k == 0));
        }
        const double sign = jump.front() > 0 ? 1 : -1;
        for (const bool high : {false, true}) {
          gap.clear();
          for (int k = 0; k < order; ++k) {
            const auto q = static_cast<std::size_t>(k);
            gap.push_back(sign * (high ? jump[q] - share[q] : share[q]) +
                          kRelease * sign * jump[q]);
          }
          look(0, j, u);
        }
      }
    }
  }

  // Lines at rest on their hyperplanes which the field comes to pull away.
  void find_pull(Event& event) {
    if (eta_.size() == 0) return;
    find_way_out_of_zero(event);
    if (!any_still(state_)) return;
    std::vector<double> gap;
    for (Index j = 0; j < m_; ++j)
      for (Index u = 0; u < lines_; ++u) {
        if (side(state_, j, u) != kStill || !(terms_of(u) > 0)) continue;
        const double constant = fields_of(j, u, of_held_), least = 2 * kNoise * terms_of(u);
        for (const double sign : {1.0, -1.0}) {
          gap.assign(size(course_.series.order()), 0.0);
          for (int k = 0; k < course_.series.order(); ++k)
            for (Index b = 0; b < eta_.size(); ++b)
              gap[size(k)] += sign * of_held_[size(b)] * course_.series.eta(k)(b);
          gap.front() += sign * constant + least;
          const double tau = first_below(gap, 0, event.tau);
          // a head of 0 that stays is pulled in vain
          if (tau < event.tau && (tau > 0 || course_.series.a(0)(j) != 0))
            event = {Event::pull, tau, j, u, -1};
        }
      }
  }

  // Neurons at w = 0 which demands come to leave a way out.
  void find_way_out_of_zero(Event& event) {
    for (Index j = 0; j < m_; ++j) {
      if (!may_leave_zero(state_, j)) continue;
      const auto leaves = [&](double tau) {
        const Vector<double> eta = course_.eta + course_.series.eta_at(tau);
        return way_out(state_, j, eta, 2 * kNoise).speed > 0;
      };
      if (leaves(0) || !leaves(event.tau)) continue;
      const double shortest = kRounding * event.tau;
      double low = 0, high = event.tau;
      while (high - low > shortest) {
        const double middle = low + 0.5 * (high - low);
        (leaves(middle) ? high : low) = middle;
      }
      event = {Event::pull, high, j, -1, -1};
    }
  }

  // What v gains along x_u where z_u turns positive; `eta(b)`: of held samples.
  template <class Eta>
  double jump_of(Index u, Eta&& eta, bool constant = true) const {
    double jump = constant ? on_[size(u)] - off_[size(u)] : 0.0;
    const auto [first, last] = samples_.of_line(u);
    for (std::size_t g = first; g < last; ++g)
      if (in_held_[g] >= 0) {
        const HingeGroup& group = samples_.groups()[g];
        jump += group.label * group.weight * (gate(group, 1) - gate(group, -1)) *
                eta(static_cast<Index>(in_held_[g]));
      }
    return jump;
  }

  // Bounds of sum_k |c_k| s^k and of its derivatives.
  struct Bounds {
    double value = 0, first = 0, second = 0;
  };
  template <class Term>
  static Bounds bounds(int count, double s, Term&& term) {
    Bounds b;
    for (int k = count - 1; k >= 0; --k) {
      const double c = std::abs(term(k));
      b.value = b.value * s + c;
      if (k > 0) b.first = b.first * s + k * c;
      if (k > 1) b.second = b.second * s + k * (k - 1) * c;
    }
    return b;
  }

  // Of the heads, and of what v can change by: in length, and its speed; in units of the series.
  void find_bounds(double tau) {
    const double s = tau / course_.series.unit();
    const int order = course_.series.order();
    std::vector<double> change, speed;
    for (Index b = 0; b < eta_.size(); ++b) {
      const Bounds eta = bounds(order, s, [&](int k) { return course_.series.eta(k)(b); });
      change.push_back(eta.value);
      speed.push_back(eta.first);
    }
    head_bounds_.resize(size(m_));
    drift_.resize(size(m_));
    drift_speed_.resize(size(m_));
    for (Index j = 0; j < m_; ++j) {
      head_bounds_[size(j)] = bounds(order + 1, s, [&](int k) { return course_.series.a(k)(j); });
      double sum = 0, sum_of_speeds = 0;
      for (Index b = 0; b < eta_.size(); ++b) {
        const double length = std::abs(course_.piece.gates(j, b)) * line_norm(group(b).line);
        sum += length * change[size(b)];
        sum_of_speeds += length * speed[size(b)];
      }
      drift_[size(j)] = sum;
      drift_speed_[size(j)] = sum_of_speeds;
    }
  }

  // z at tau, into z_.
  void find_z(double tau, const Team& team) {
    z_.resize(m_, padded_n_);
    shift_.resize(m_, padded_d_);
    combine(course_, course_.series.A_at(tau), course_.series.B_at(tau), team, shift_.data());
    multiply(shift_.data(), z_.data(), team);
    z_ += ConstRows<double>(state_.z.data(), m_, padded_n_);
  }

  // Coefficients of the field of line u on neuron j: <V_j, x_u>, and of every held sample.
  double fields_of(Index j, Index u, std::vector<double>& of_held) const {
    of_held.clear();
    const double constant = line_row(u).dot(course_.V.row(j));
    if (eta_.size() == 0) return constant;
    for (Index b = 0; b < eta_.size(); ++b)
      of_held.push_back(course_.piece.gates(j, b) * line_row(u).dot(course_.held_rows.row(b)));
    for (const Slide& slide : course_.slides)
      if (slide.neuron == j)
        for (std::size_t p = 0; p < slide.lines.size(); ++p) {
          const double across = product(u, slide.lines[p]);
          for (Index b = 0; b < eta_.size(); ++b)
            of_held[size(b)] -=
                course_.piece.gates(j, b) * slide.S(static_cast<Index>(p), b) * across;
        }
    return constant;
  }

  // Coefficients of z_ju.
  void path_of(Index j, Index u, std::vector<double>& z) {
    const double constant = fields_of(j, u, of_held_);
    z.clear();
    for (int k = 0; k <= course_.series.order(); ++k) {
      double sum = k == 0 ? state_.z[size(j * padded_n_ + u)] : constant * course_.series.A(k)(j);
      if (k > 0)
        for (Index b = 0; b < eta_.size(); ++b)
          sum += of_held_[size(b)] * course_.series.B(k)(j, b);
      z.push_back(sum);
    }
  }

  void find_crossing(Event& event, const Team& team) {
    if (options_.rates.W == 0) {
      find_bounds(event.tau);
      z_ = ConstRows<double>(state_.z.data(), m_, padded_n_);
      return;
    }
    find_bounds(event.tau);
    find_z(event.tau, team);
    const double reach = event.tau;
    std::vector<double> path;
    for (Index j = 0; j < m_; ++j) {
      if (state_.rests[size(j)] != 0) continue;
      const double head = std::abs(course_.series.a(0)(j));
      const Bounds& heads = head_bounds_[size(j)];
      const bool turns = heads.value >= 2 * head;  // the head may change its sign
      if (heads.value == 0) continue;              // w_j rests
      const double most = reach * options_.rates.W * heads.value;
      // where w = 0, v may be no more than what rounding leaves of sums that cancel
      const double length = norm_of(state_, j);
      const double most_length = aspect() * sizes_(j);
      const double slack = kBlur * (length > kRest * most_length ? length : most_length);
      const double* z = state_.z.data() + j * padded_n_;
      for (Index u = 0; u < lines_; ++u) {
        const double s = static_cast<double>(side(state_, j, u));
        const double now = s * z[u], then = s * z_(j, u);
        const double steady = std::abs(u_(j, u)), drift = drift_[size(j)] * line_norm(u);
        const double tiny = slack * line_norm(u);
        if (on_hyperplane(side(state_, j, u)) || !(line_norm(u) > 0)) continue;
        if (then > 0 && now > tiny &&
            ((!turns && drift < steady) || now + then > most * (steady + drift)))
          continue;
        path_of(j, u, path);
        for (double& c : path) c *= s;
        const double tau = first_below(path, tiny, event.tau);
        if (tau < event.tau) event = {Event::crossing, tau, j, u, -1};
      }
    }
    if (event.tau < reach) {
      find_bounds(event.tau);
      find_z(event.tau, team);
    }
  }

  // --- margins

  // Sums over neurons on every line: of a sigma(z), and of a sigma(-z); and of their sizes.
  void sum_lines(const std::vector<double>& heads, const std::vector<double>& z, const Team& team) {
    const Index lines = lines_;
    const double slope = slope_;
    sum_chunks(team, [&](Index j, Sums sums) {
      const double a = heads[size(j)], size_of_a = std::abs(a);
      const double* row = z.data() + j * padded_n_;
      double* const up = sums.up;
      double* const down = sums.down;
      double* const total = sums.total;
#pragma omp simd
      for (Index u = 0; u < lines; ++u) {
        const double value = row[u], low = slope * value;
        up[u] += a * (value > 0 ? value : low);
        down[u] += a * (value > 0 ? -low : -value);
        total[u] += size_of_a * std::abs(value);
      }
    });
  }

  // Three rows of sums over lines.
  struct Sums {
    double *up, *down, *total;
  };

  // Runs body(neuron, sums) for all neurons; the sums of all are in partial_.
  template <class Body>
  void sum_chunks(const Team& team, Body&& body) {
    const Index stride = 3 * lines_;
    partial_.assign(size(chunks_.pieces() * stride), 0.0);
    each_chunk(team, 6.0 * static_cast<double>(m_ * lines_),
               [&](Index chunk, Index first, Index last) {
                 double* sums = partial_.data() + chunk * stride;
                 for (Index j = first; j < last; ++j)
                   body(j, Sums{sums, sums + lines_, sums + 2 * lines_});
               });
    for (Index c = 1; c < chunks_.pieces(); ++c)
      for (Index u = 0; u < stride; ++u) partial_[size(u)] += partial_[size(c * stride + u)];
    partial_.resize(size(stride));
  }
  double of_lines(const HingeGroup& group) const {
    return std::abs(group.factor) * partial_[size(group.line + (group.factor > 0 ? 0 : lines_))];
  }
  // Of the sums just made.
  double margin_of(const HingeGroup& group) const { return group.label * of_lines(group); }
  double slack_of(const HingeGroup& group) const {
    return kSlack + 4 * kRounding * std::abs(group.factor * group.label) *
                        partial_[size(group.line + 2 * lines_)];
  }

  void write_outputs(double* f) const {
    for (const HingeGroup& group : samples_.groups())
      for (const Index i : group.members) f[i] = of_lines(group);
  }

  // The first sample that is not held and reaches 1.
  void find_margin(Event& event, const Team& team) {
    const std::vector<HingeGroup>& groups = samples_.groups();
    const double tau = event.tau;
    partial_ = sums_;
    std::vector<double> now, slack, later, bend;
    for (const HingeGroup& group : groups) {
      now.push_back(margin_of(group));
      slack.push_back(slack_of(group));
    }
    const Vector<double> heads = course_.series.a_at(tau);
    std::vector<double> end_heads(heads.data(), heads.data() + m_);
    std::vector<double> end_z(z_.data(), z_.data() + m_ * padded_n_);
    sum_lines(end_heads, end_z, team);
    for (const HingeGroup& group : groups) later.push_back(margin_of(group));
    bound_curvature(tau, team);
    const double s = tau / course_.series.unit();
    for (const HingeGroup& group : groups)
      bend.push_back(std::abs(group.label) * of_lines(group) * s * s / 8);
    std::vector<double> gap;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (!(groups[g].weight > 0) || in_held_[g] >= 0) continue;
      const double sign = state_.demands[g] == static_cast<std::int8_t>(Demand::full) ? -1 : 1;
      const double offset = 1 + state_.shifts[g];
      const double at_start = sign * (now[g] - offset), at_end = sign * (later[g] - offset);
      if (at_start > slack[g] && std::min(at_start, at_end) > bend[g] + slack[g]) continue;
      margin_path(groups[g], gap);
      for (double& c : gap) c *= sign;
      gap.front() = at_start;
      const double found = first_below(gap, slack[g], event.tau);
      if (found < event.tau) event = {Event::margin, found, -1, -1, static_cast<Index>(g)};
    }
  }

  // Sums over neurons of a bound of |(a sigma(z))''| up to tau, in units of the series.
  void bound_curvature(double tau, const Team& team) {
    const double unit = course_.series.unit(), slope = slope_;
    const double s = tau / unit, rate = options_.rates.W * unit;
    const Index lines = lines_;
    const double* const norms = samples_.lines().norms();
    sum_chunks(team, [&](Index j, Sums sums) {
      const Bounds& a = head_bounds_[size(j)];
      const double *z = state_.z.data() + j * padded_n_, *steady = u_.data() + j * padded_n_;
      const std::int8_t* const sides = state_.sides.data() + j * lines;
      const double drift = drift_[size(j)], speed_of_drift = drift_speed_[size(j)];
      double* const up = sums.up;
      double* const down = sums.down;
#pragma omp simd
      for (Index u = 0; u < lines; ++u) {
        const double field = std::abs(steady[u]) + drift * norms[u];
        const double speed = rate * a.value * field;
        const double bend = rate * (a.first * field + a.value * speed_of_drift * norms[u]);
        const double all =
            a.second * (std::abs(z[u]) + s * speed) + 2 * a.first * speed + a.value * bend;
        const double side = static_cast<double>(sides[u]);
        up[u] += all * (side > 0 ? 1.0 : (side < 0 ? slope : 0.0));
        down[u] += all * (side < 0 ? 1.0 : (side > 0 ? slope : 0.0));
      }
    });
  }

  // Coefficients of the margin of a sample.
  void margin_path(const HingeGroup& group, std::vector<double>& margin) {
    const int order = course_.series.order();
    margin.assign(size(2 * order + 1), 0.0);
    std::vector<double> path;
    for (Index j = 0; j < m_; ++j) {
      const std::int8_t s = side(state_, j, group.line);
      const double weight = group.label * gate(group, s);
      if (on_hyperplane(s) || weight == 0) continue;
      path_of(j, group.line, path);
      for (int k = 0; k <= order; ++k)
        for (int l = 0; l <= order; ++l)
          margin[size(k + l)] += weight * course_.series.a(k)(j) * path[size(l)];
    }
  }

  // --- moving

  // What a state has at `time` within the last step, of weights and heads.
  void place(double time, const Team& team, HingeState& out) const {
    if (time == state_.time) {
      out.w = state_.w;
      out.heads = state_.heads;
      return;
    }
    const double tau = std::max(0.0, time - before_.time);
    combine(last_, last_.series.A_at(tau), last_.series.B_at(tau), team, out.w.data());
    for (std::size_t k = 0; k < out.w.size(); ++k) out.w[k] += before_.w[k];
    const Vector<double> heads = last_.series.a_at(tau);
    out.heads.assign(heads.data(), heads.data() + m_);
  }

  // Moves moved_ to the event; z_ may be that of a later time.
  void move(const Event& event, const Team& team) {
    find_z(event.tau, team);
    const Vector<double> heads = course_.series.a_at(event.tau);
    moved_.heads.assign(heads.data(), heads.data() + m_);
    for (Index j = 0; j < m_; ++j)
      for (Index k = 0; k < padded_d_; ++k) moved_.w[size(j * padded_d_ + k)] += shift_(j, k);
    std::copy_n(z_.data(), m_ * padded_n_, moved_.z.data());
    for (const Slide& slide : course_.slides) straighten(slide);
    for (Index j = 0; j < m_; ++j)
      for (Index u = 0; u < lines_; ++u)
        if (on_hyperplane(side(state_, j, u))) moved_.z[size(j * padded_n_ + u)] = 0;
    const Vector<double> eta = course_.eta + course_.series.eta_at(event.tau);
    for (std::size_t b = 0; b < held_.size(); ++b)
      moved_.eta[held_[b]] = eta(static_cast<Index>(b));
    arrived_.clear();
    if (event.kind != Event::none)  // others may come to their hyperplanes at the same time
      for (Index j = 0; j < m_; ++j) {
        const double before = norm_of(state_, j), now = norm_of(moved_, j);
        for (Index u = 0; u < lines_; ++u) {
          double& z = moved_.z[size(j * padded_n_ + u)];
          const bool meant = event.kind == Event::crossing && j == event.neuron && u == event.line;
          if (on_hyperplane(side(state_, j, u)) || (!meant && std::abs(z) > blur(now, u))) continue;
          if (meant || std::abs(state_.z[size(j * padded_n_ + u)]) > blur(before, u)) {
            z = 0;
            arrived_.push_back({j, u});
          }
        }
      }
    if (event.kind == Event::slack && event.neuron >= 0 && event.line < 0)
      moved_.heads[size(event.neuron)] = 0;
    for (Index j = 0; j < m_; ++j) keep_balance(j);
    for (const Slide& slide : course_.slides)
      if (meets_zero(slide.neuron)) put_to_rest(moved_, slide.neuron);
    for (Index j = 0; j < m_; ++j) {
      // balanced, it falls to 0 for as long as there are numbers for it, and its head with it
      const bool vanishes = both_move() && state_.balances[size(j)] == 0 &&
                            norm_of(moved_, j) < kLeastWeight && norm_of(state_, j) >= kLeastWeight;
      if (!vanishes) continue;
      put_to_rest(moved_, j);
      moved_.heads[size(j)] = 0;
    }
    arrived_.erase(
        std::remove_if(arrived_.begin(), arrived_.end(),
                       [&](const Pair& pair) { return moved_.rests[size(pair.neuron)] != 0; }),
        arrived_.end());
  }

  // Whether a neuron that slides passes w = 0 at the event. The time may be that of a line which it
  // hardly leaves, so its distance on the way is what counts.
  bool meets_zero(Index j) const {
    const double before = norm_of(state_, j), now = norm_of(moved_, j);
    if (now <= kRest * before) return true;
    constexpr double kNear = 1e-8;
    const auto v = course_.V.row(j);
    const double speed = v.norm();
    if (!(now <= kNear * before) || speed == 0) return false;
    const Eigen::Map<const Eigen::RowVectorXd> w(moved_.w.data() + j * padded_d_, padded_d_);
    return (w - w.dot(v) / speed * (v / speed)).norm() <= kRest * before;
  }

  // The flow keeps |w|^2 - a^2, but what rounding makes of it grows where a neuron falls to 0: a
  // balanced one would pass it, and come back with its head turned.
  void keep_balance(Index j) {
    if (!both_move()) return;
    const auto [weight, head] = sizes_of(moved_, j);
    if (!(weight + head > kLeastWeight * kLeastWeight)) return;
    const double share = (weight - head - moved_.balances[size(j)]) / (2 * (weight + head));
    if (std::abs(share) < kRounding) return;
    moved_.heads[size(j)] *= 1 + share;
    for (Index k = 0; k < padded_d_; ++k) moved_.w[size(j * padded_d_ + k)] *= 1 - share;
    for (Index u = 0; u < lines_; ++u) moved_.z[size(j * padded_n_ + u)] *= 1 - share;
  }

  // At w = 0 a ReLU neuron stays, as nothing pulls any more (relu'(0) = 0).
  void put_to_rest(HingeState& s, Index j) const {
    std::fill_n(s.w.data() + j * padded_d_, padded_d_, 0.0);
    std::fill_n(s.z.data() + j * padded_n_, padded_n_, 0.0);
    std::fill_n(s.sides.data() + j * lines_, lines_, std::int8_t{-1});
    s.rests[size(j)] = 1;
  }

  // What rounding has left of a weight across what it slides on is of what the weight has been. It
  // would be in its way on coming to 0.
  void straighten(const Slide& slide) {
    double* const w = moved_.w.data() + slide.neuron * padded_d_;
    Eigen::Map<Eigen::RowVectorXd> row(w, padded_d_);
    Vector<double> left(slide.constant.size());
    for (Index p = 0; p < left.size(); ++p) left(p) = line_row(slide.lines[size(p)]).dot(row);
    const Vector<double> lost = slide.gram.solve_one(left);
    for (Index p = 0; p < left.size(); ++p) row -= lost(p) * line_row(slide.lines[size(p)]);
    double* const z = products_.data() + slide.neuron * padded_n_;
    samples_.lines().multiply(w, padded_d_, 1, z);
    std::copy_n(z, padded_n_, moved_.z.data() + slide.neuron * padded_n_);
  }

  // --- who is where from now on

  // Chooses sides of what is on a hyperplane and demands of samples at their margin: the velocity
  // is the shortest subgradient. False if no choice is found.
  bool settle(HingeState& s, const Event& event, const Team& team) {
    sum_lines(s.heads, s.z, team);
    if (event.kind == Event::none && begun_) return true;
    const std::vector<HingeGroup>& groups = samples_.groups();
    held_.clear();
    std::vector<double> margins;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      margins.push_back(margin_of(groups[g]));
      if (!(groups[g].weight > 0)) continue;
      const double gap = std::abs(margins[g] - 1 - s.shifts[g]);
      if (s.demands[g] == static_cast<std::int8_t>(Demand::held) || gap <= 10 * slack_of(groups[g]))
        held_.push_back(g);
    }
    eta_.resize(static_cast<Index>(held_.size()));
    in_held_.assign(groups.size(), -1);
    for (std::size_t b = 0; b < held_.size(); ++b) {
      eta_(static_cast<Index>(b)) = s.eta[held_[b]];
      in_held_[held_[b]] = static_cast<std::ptrdiff_t>(b);
    }
    std::vector<Index> touched;
    find_coefficients(s);
    for (const Pair& pair : arrived_) {
      const double jump = jump_of(pair.line);
      // unless it is pushed back, it goes on beyond
      if (s.heads[size(pair.neuron)] * jump > 0) {
        std::int8_t& side = s.sides[size(pair.neuron * lines_ + pair.line)];
        side = static_cast<std::int8_t>(-side);
      }
    }
    if (held_.empty() && begun_ && !any_still(s)) {
      if (event.kind == Event::slack) touched.push_back(event.neuron);
      for (const Pair& pair : arrived_)
        if (touched.empty() || touched.back() != pair.neuron) touched.push_back(pair.neuron);
    } else
      for (Index j = 0; j < m_; ++j)
        for (Index u = 0; u < lines_; ++u)
          if (s.z[size(j * padded_n_ + u)] == 0 && line_norm(u) > 0) {
            touched.push_back(j);
            break;
          }
    std::vector<Index> waiting;
    for (Index j = 0; j < m_; ++j)
      if (may_leave_zero(s, j)) waiting.push_back(j);
    for (const Index j : touched) let_go(s, j);
    bool leaves = true;
    while (leaves) {
      bool sound = true;
      if (held_.empty())
        for (const Index j : touched) resolve(s, j, sound);
      else
        sound = agree_to_rounding(s, event, touched, team);
      if (!sound) return false;
      leaves = false;
      for (const Index j : touched) leaves = leave(s, j) || leaves;
      for (Index& j : waiting) {  // each of them once: demands may take back what led it away
        if (j < 0 || !leave_zero(s, j)) continue;
        if (std::find(touched.begin(), touched.end(), j) == touched.end()) touched.push_back(j);
        j = -1;
        leaves = true;
      }
    }
    if (held_.empty()) return true;
    built_ = held_;
    for (std::size_t b = 0; b < held_.size(); ++b) {
      const std::size_t g = held_[b];
      const double eta = eta_(static_cast<Index>(b));
      s.eta[g] = eta;
      s.shifts[g] = margins[g] - 1;
      s.demands[g] = static_cast<std::int8_t>(eta <= 0 ? Demand::none
                                                       : (eta >= 1 ? Demand::full : Demand::held));
    }
    return true;
  }

  // What demands of samples in held_ do to half the squared velocity, with the sides of a state.
  struct Pulls {
    ColMatrix<double> kernel;
    Vector<double> drift, noise;
    Vector<double> gradient(const Vector<double>& eta) const { return kernel * eta + drift; }
  };
  Pulls pulls_of(const HingeState& s, const Team& team) {
    build(s, team);
    Pulls out{course_.piece.kernel(), course_.piece.drift(), {}};
    out.noise =
        noise_ *
        (options_.rates.a * (course_.piece.y.cwiseAbs().transpose() * course_.piece.y0.cwiseAbs()) +
         options_.rates.W *
             (course_.piece.N0.cwiseAbs().transpose() * course_.piece.a.cwiseAbs2()) +
         out.kernel.cwiseAbs() * eta_.cwiseAbs());
    return out;
  }

  // A sample that has come to its margin and would be left with the demand that it has moves, if
  // slowly: what it moves by is no rounding then. Else a run creeps on from slack to slack.
  bool agree_to_rounding(HingeState& s, const Event& event, const std::vector<Index>& neurons,
                         const Team& team) {
    noise_ = 1e-12;
    if (!agree(s, neurons, team)) return false;
    if (event.group < 0) return true;
    const auto g = static_cast<std::size_t>(event.group);
    const double was = s.demands[g] == static_cast<std::int8_t>(Demand::full) ? 1 : 0;
    if (in_held_[g] < 0 || eta_(in_held_[g]) != was) return true;
    noise_ = 2e-14;
    return agree(s, neurons, team);
  }

  // Demands of samples in held_, and sides of neurons, each given the other, until neither changes:
  // Newton's method for a convex function of the demands that is quadratic piece by piece. Where it
  // goes round in circles it goes on to the lowest point on the way only, and then it does not.
  // False if it comes to no end.
  bool agree(HingeState& s, const std::vector<Index>& neurons, const Team& team) {
    bool sound = true;
    const auto resolve_all = [&] {
      bool changed = false;
      for (const Index j : neurons) changed = resolve(s, j, sound) || changed;
      return changed;
    };
    for (int round = 0; round < 2 * options_.rounds; ++round) {
      const Vector<double> from = eta_;
      const Pulls pulls = pulls_of(s, team);
      sound = minimize_in_box(pulls.kernel, pulls.drift, pulls.noise, eta_);
      if (!resolve_all()) return sound;
      if (round < options_.rounds) continue;
      const Vector<double> way = eta_ - from;
      const auto slope_at = [&] { return pulls_of(s, team).gradient(eta_).dot(way); };
      double low = 0, high = 1;
      double at_low = pulls.gradient(from).dot(way), at_high = slope_at();
      if (!(at_high > 0)) continue;
      constexpr int kLooks = 40;
      for (int look = 0; look < kLooks && high - low > kRounding; ++look) {
        const double secant = low + (high - low) * at_low / (at_low - at_high);
        const double to = look % 2 == 0 ? secant : 0.5 * (low + high);
        eta_ = (from + to * way).cwiseMax(0).cwiseMin(1);
        resolve_all();
        const double slope = slope_at();
        (slope > 0 ? high : low) = to;
        (slope > 0 ? at_high : at_low) = slope;
      }
    }
    return false;
  }

  // The lines that a neuron is on: those at rest, and all others with their status.
  struct Ties {
    std::vector<Index> still, tied;
    std::vector<int> status;
    Eigen::RowVectorXd v;  // with all of `tied` off
    double sign = 0;       // of the head just after now
  };
  // False if there are none.
  bool find_ties(const HingeState& s, Index j, Ties& ties) const {
    if (s.rests[size(j)] != 0) return false;
    std::vector<char> is_tied(size(lines_), 0);
    for (Index u = 0; u < lines_; ++u) {
      if (s.z[size(j * padded_n_ + u)] != 0 || !(line_norm(u) > 0)) continue;
      is_tied[size(u)] = 1;
      const std::int8_t now = side(s, j, u);
      if (now == kStill) {
        ties.still.push_back(u);
        continue;
      }
      ties.tied.push_back(u);
      ties.status.push_back((now > 0 ? 1 : 0) - (now < 0 ? 1 : 0));
    }
    if (ties.still.empty() && ties.tied.empty()) return false;
    ties.v = Eigen::RowVectorXd::Zero(padded_d_);
    double speed_of_head = 0;
    const auto add = [&](Index u, double coefficient) {
      ties.v += coefficient * line_row(u);
      speed_of_head += coefficient * s.z[size(j * padded_n_ + u)];
    };
    for (const Index u : active_lines_)
      add(u, side(s, j, u) > 0 && is_tied[size(u)] == 0 ? on_[size(u)] : off_[size(u)]);
    for (Index b = 0; b < static_cast<Index>(held_.size()); ++b) {
      const Index u = group(b).line;
      const double at = is_tied[size(u)] != 0 ? -1 : static_cast<double>(side(s, j, u));
      add(u, eta_(b) * group(b).label * group(b).weight * gate(group(b), at));
    }
    for (const Index u : ties.still) ties.v -= far_part(u) * line_row(u);
    const double head = s.heads[size(j)] != 0 ? s.heads[size(j)] : speed_of_head;
    ties.sign = head > 0 ? 1.0 : (head < 0 ? -1.0 : 0.0);
    return true;
  }

  // Sides of the lines that neuron j is on, but those at rest, given all demands. True if any
  // changed; `sound` becomes false if none are found.
  bool resolve(HingeState& s, Index j, bool& sound) const {
    Ties ties;
    if (!find_ties(s, j, ties)) return false;
    sound = choose(ties, products_of(ties.tied)) && sound;
    bool changed = false;
    for (std::size_t p = 0; p < ties.tied.size(); ++p) {
      std::int8_t& now = s.sides[size(j * lines_ + ties.tied[p])];
      changed = changed || now != static_cast<std::int8_t>(ties.status[p]);
      now = static_cast<std::int8_t>(ties.status[p]);
    }
    return changed;
  }

  // Lines that neuron j is held on and that have begun to repel are as at the start.
  void let_go(HingeState& s, Index j) const {
    Ties ties;
    if (!find_ties(s, j, ties)) return;
    for (std::size_t p = 0; p < ties.tied.size(); ++p)
      if (ties.status[p] == 0 && repels(ties.tied[p], ties.sign))
        s.sides[size(j * lines_ + ties.tied[p])] = kStill;
  }

  // Lines at rest that the field pulls away go to where it leads, all of them at once, as a small
  // step of Euler's method does. True if there are any.
  bool leave(HingeState& s, Index j) const {
    Ties ties;
    if (!find_ties(s, j, ties) || ties.still.empty()) return false;
    const Eigen::RowVectorXd field = chosen_field(ties, products_of(ties.tied));
    const std::vector<std::int8_t> sides(s.sides.begin() + j * lines_,
                                         s.sides.begin() + (j + 1) * lines_);
    bool any = false;
    for (const Index u : ties.still) {
      const auto pulls = [&] { return pulled_at_all(sides, u); };
      const int way = way_of(u, line_row(u).dot(field), ties.sign, pulls);
      if (way == 0) continue;
      s.sides[size(j * lines_ + u)] = static_cast<std::int8_t>(way);
      any = true;
    }
    return any;
  }

  bool may_leave_zero(const HingeState& s, Index j) const {
    return slope_ > 0 && s.rests[size(j)] != 0 && s.heads[size(j)] != 0;
  }

  // How fast a neuron at w = 0 could leave, given all demands, and where to; none if that is no
  // more than `least` of all pulls.
  WayOut way_out(const HingeState& s, Index j, const Vector<double>& eta, double least) const {
    KinkedField field;
    std::vector<Index> kept;
    for (Index u = 0; u < lines_; ++u)
      if (line_norm(u) > 0) kept.push_back(u);
    const auto count = static_cast<Index>(kept.size());
    field.rows.resize(count, padded_d_);
    field.off.resize(count);
    field.jumps.resize(count);
    field.noise.resize(count);
    field.sign = s.heads[size(j)] > 0 ? 1 : -1;
    double pulls = 0;
    for (const HingeGroup& group : samples_.groups())
      pulls += std::abs(group.label) * group.weight * samples_.norm(group);
    const auto demand = [&](Index b) { return eta(b); };
    for (Index p = 0; p < count; ++p) {
      const Index u = kept[size(p)];
      field.rows.row(p) = line_row(u);
      field.off(p) = whole(u, -1, demand);
      field.jumps(p) = jump_of(u, demand);
      field.noise(p) = 64 * kRounding * terms_of(u);
    }
    WayOut out = find_way_out(field, least * pulls);
    if (out.speed == 0) return out;
    std::vector<int> sides(size(lines_), -1);
    for (Index p = 0; p < count; ++p) sides[size(kept[size(p)])] = out.sides[size(p)];
    out.sides = std::move(sides);
    return out;
  }

  // True if neuron j goes on from w = 0.
  bool leave_zero(HingeState& s, Index j) const {
    const WayOut out = way_out(s, j, eta_, kNoise);
    if (out.speed == 0) return false;
    for (Index u = 0; u < lines_; ++u)
      s.sides[size(j * lines_ + u)] = static_cast<std::int8_t>(out.sides[size(u)]);
    s.rests[size(j)] = 0;
    return true;
  }

  ColMatrix<double> products_of(const std::vector<Index>& tied) const {
    const auto count = static_cast<Index>(tied.size());
    ColMatrix<double> gram(count, count);
    for (Index p = 0; p < count; ++p)
      for (Index q = 0; q <= p; ++q)
        gram(p, q) = gram(q, p) = product(tied[size(p)], tied[size(q)]);
    return gram;
  }

  // The status of tied lines. False if none is found.
  bool choose(Ties& ties, const ColMatrix<double>& gram) const {
    const auto count = static_cast<Index>(ties.tied.size());
    if (count == 0) return true;
    Vector<double> base(count), jumps(count);
    double noise = 0;
    for (Index p = 0; p < count; ++p) {
      const Index u = ties.tied[size(p)];
      base(p) = line_row(u).dot(ties.v);
      jumps(p) = jump_of(u);
      noise = std::max(noise, 64 * kRounding * terms_of(u));
    }
    return choose_sides(gram, base, jumps, ties.sign, noise, ties.status);
  }

  // v with that choice.
  Eigen::RowVectorXd chosen_field(const Ties& ties, const ColMatrix<double>& gram) const {
    Eigen::RowVectorXd v = ties.v;
    std::vector<Index> inside;
    for (std::size_t p = 0; p < ties.tied.size(); ++p) {
      if (ties.status[p] > 0) v += jump_of(ties.tied[p]) * line_row(ties.tied[p]);
      if (ties.status[p] == 0) inside.push_back(static_cast<Index>(p));
    }
    const auto held = static_cast<Index>(inside.size());
    if (held == 0) return v;
    const auto row = [&](Index p) { return line_row(ties.tied[size(inside[size(p)])]); };
    ColMatrix<double> system(held, held), fields(held, 1);
    for (Index p = 0; p < held; ++p) {
      fields(p, 0) = row(p).dot(v);
      for (Index q = 0; q < held; ++q) system(p, q) = gram(inside[size(p)], inside[size(q)]);
    }
    const ColMatrix<double> coefficients = coefficients_across(system, fields);
    for (Index p = 0; p < held; ++p) v += coefficients(p, 0) * row(p);
    return v;
  }

  // To which side a line at rest leaves, where <x_u, v> is `field`; 0 if it stays. Where both sides
  // lead the same way it passes as any rounding would have it, unless nothing `pulls` at all.
  template <class Pulls>
  int way_of(Index u, double field, double sign, Pulls&& pulls) const {
    const double pull = sign * field, least = kNoise * terms_of(u);
    if (std::abs(pull) > least) return pull > 0 ? 1 : -1;
    const double squared = line_norm(u) * line_norm(u);
    const double far = pull + sign * far_part(u) * squared;
    const double near = far + sign * jump_of(u) * squared;
    if (near > least && far > least && pulls()) return 1;
    if (near < -least && far < -least && pulls()) return -1;
    return 0;
  }

  // Whether any line with a part in v has a product with line u.
  bool pulled_at_all(const std::vector<std::int8_t>& sides, Index u) const {
    for (Index k = 0; k < lines_; ++k) {
      const std::int8_t now = sides[size(k)];
      if ((now == 0 || whole(k, now) != 0) && samples_.lines().meet(k, u)) return true;
    }
    return false;
  }

  // The coefficient of line u in v on one of its sides, with samples that are held.
  double whole(Index u, std::int8_t side) const {
    return whole(u, side, [&](Index b) { return eta_(b); });
  }
  template <class Eta>
  double whole(Index u, std::int8_t side, Eta&& eta) const {
    double sum = coefficient(u, side);
    const auto [first, last] = samples_.of_line(u);
    for (std::size_t g = first; g < last; ++g)
      if (in_held_[g] >= 0) {
        const HingeGroup& group = samples_.groups()[g];
        sum +=
            eta(static_cast<Index>(in_held_[g])) * group.label * group.weight * gate(group, side);
      }
    return sum;
  }
  // What v lacks at rest on line u besides what it has where z_u is negative.
  double far_part(Index u) const { return whole(u, -1) - whole(u, kStill); }
  // Beyond rounding: where its samples' demands cancel it does neither.
  bool repels(Index u, double sign) const {
    return sign * jump_of(u) * line_norm(u) * line_norm(u) > kNoise * terms_of(u);
  }
  double jump_of(Index u) const {
    return jump_of(u, [&](Index b) { return eta_(b); });
  }

  // The most that the terms of <x_u, v> come to, whatever they cancel to.
  double terms_of(Index u) const { return terms_[size(u)]; }
  void measure_terms() {
    Eigen::RowVectorXd sizes = Eigen::RowVectorXd::Zero(padded_d_);
    for (const HingeGroup& group : samples_.groups())
      sizes +=
          std::abs(group.label * group.weight * group.factor) * line_row(group.line).cwiseAbs();
    for (Index u = 0; u < lines_; ++u) terms_.push_back(sizes.dot(line_row(u).cwiseAbs()));
  }

  // What differs between state_ and moved_.
  void note_events() {
    step_events_.clear();
    const double time = moved_.time;
    for (Index j = 0; j < m_; ++j)
      for (Index u = 0; u < lines_; ++u) {
        const std::int8_t before = side(state_, j, u), now = side(moved_, j, u);
        if (now == before) continue;
        auto kind = static_cast<EventKind>(now);
        if (now == kStill) kind = EventKind::none;
        if (before == kStill && now != 0) kind = now > 0 ? EventKind::near : EventKind::far;
        if (moved_.rests[size(j)] != 0) {  // in w = 0 all are off
          if (before == kStill) continue;
          kind = EventKind::none;
        }
        samples_.lines().each_member(u, [&](Index i) {
          const EventKind own = event_of(kind, samples_.lines().factor(i) < 0);
          if (own != EventKind::none) step_events_.push_back({time, j, i, own});
        });
      }
    const std::vector<HingeGroup>& groups = samples_.groups();
    for (std::size_t g = 0; g < groups.size(); ++g)
      if (moved_.demands[g] != state_.demands[g])
        for (const Index i : groups[g].members)
          step_events_.push_back({time, -1, i, static_cast<EventKind>(moved_.demands[g])});
  }

  HingeFlowOptions options_;
  double slope_;
  Index m_;
  HingeSamples samples_;
  Index lines_, padded_n_, padded_d_;
  Cut chunks_;
  std::vector<double> start_w_, start_heads_;
  std::vector<double> outputs_;  // (n)
  HingeState state_, before_, moved_, looked_;
  FlowCounts counts_;
  std::vector<FlowEvent> step_events_;
  bool begun_ = false;
  bool unsettled_ = false;  // no choice was found at a tie: this is the end
  Index stalled_ = 0;       // steps in a row that led nowhere

  // The piece that starts at state_, if prepared_; while it settles, one that is tried.
  bool prepared_ = false;
  bool at_rest_ = false;
  double squared_gradient_ = 0;
  double pull_ = 0;
  Course course_, last_;  // of the next step, and of the last one
  Vector<double> sizes_, eta_;
  std::vector<std::size_t> held_;         // groups
  std::vector<std::size_t> built_;        // those of the piece that settling has left, if it fits
  std::vector<std::ptrdiff_t> in_held_;   // by group, -1 if not
  std::vector<double> off_, on_, still_;  // by line
  double noise_ = 0;                      // of what demands do, relative to its terms
  std::vector<double> terms_;             // by line
  std::vector<Index> active_lines_;
  Matrix v_, u_, z_, shift_;
  Buffer<double> products_;   // aligned, as vector stores need it
  std::vector<double> sums_;  // of sum_lines, at state_
  std::vector<double> partial_, drift_, drift_speed_, of_held_;
  std::vector<Pair> arrived_;  // on their hyperplanes, at the end of a step
  std::vector<Bounds> head_bounds_;
  FirstRoot root_;
};

}  // namespace featcore
