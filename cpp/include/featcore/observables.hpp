// Named quantities of (network, splits). Declared once, in `observable_table`, which Python reads.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/objective.hpp"
#include "featcore/weights.hpp"

namespace featcore {

// A split as an observable sees it.
template <class T>
struct SplitState {
  const Objective<T>* objective = nullptr;
  const T* f = nullptr;
  const Signs<T>* signs = nullptr;
  const T* f_in_units = nullptr;  // over the weights' squared unit; null where that is 1
};

template <class T>
struct Snapshot {
  const Weights<T>* weights = nullptr;
  const double* balance = nullptr;  // a_j^2 - |w_j|^2 at the start of the run
  std::vector<SplitState<T>> splits;
};

struct ObservableRequest {
  std::string name;
  const double* directions = nullptr;  // (direction_count, d)
  Index direction_count = 0;
  Index count = 0;  // of singular values
  bool absolute = false;
};

template <class T>
struct ObservableEntry {
  const char* name;
  const char*
      dims;  // space separated, outermost first: direction sign statistic neuron sample rank
  bool per_split;
  bool needs_signs;
  void (*evaluate)(const Snapshot<T>&, const ObservableRequest&, Index split, const Team&,
                   double* out);
};

namespace detail {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// With f over the weights' squared unit: its sign is right where f underflows.
template <class T>
SplitState<T> in_units(SplitState<T> s) {
  if (s.f_in_units) s.f = s.f_in_units;
  return s;
}

template <class T>
double margin(const SplitState<T>& s, Index i) {
  return static_cast<double>(s.f[i]) * static_cast<double>(s.objective->split().y[i]);
}

template <class T>
double smallest_margin(const SplitState<T>& s) {
  double least = std::numeric_limits<double>::infinity();
  for (Index i = 0; i < s.objective->split().n; ++i) {
    const double u = margin(s, i);
    if (!(u >= least)) least = u;  // keeps a NaN
    if (std::isnan(least)) break;
  }
  return least;
}

// Weighted share of samples with y f > 0; f = 0 is wrong.
template <class T>
double accuracy(const SplitState<T>& state, const T* labels) {
  const SplitState<T> s = in_units(state);
  double right = 0;
  for (Index i = 0; i < s.objective->split().n; ++i)
    if (s.f[i] * labels[i] > 0) right += s.objective->weight(i);
  return right / s.objective->total_weight();
}

// (neuron, direction)
template <class T>
void cosines(const Snapshot<T>& s, const ObservableRequest& request, const Team& team,
             double* out) {
  s.weights->cosines(request.directions, request.direction_count, team, out);
  if (!request.absolute) return;
  for (Index q = 0; q < s.weights->m() * request.direction_count; ++q) out[q] = std::abs(out[q]);
}

// (direction, sign, statistic): mean, min, max over the neurons with a_j of that sign, and the
// cosine of their mean weight. NaN for an empty group.
template <class T>
void alignment(const Snapshot<T>& s, const ObservableRequest& request, const Team& team,
               double* out) {
  const Weights<T>& weights = *s.weights;
  const Index k = request.direction_count;
  std::vector<double> all(static_cast<std::size_t>(weights.m() * k));
  cosines(s, request, team, all.data());
  std::vector<double> of_mean(static_cast<std::size_t>(k));
  for (Index sign = 0; sign < 2; ++sign) {
    std::vector<Index> members;
    for (Index j = 0; j < weights.m(); ++j)
      if (sign == 0 ? weights.head()[j] > 0 : weights.head()[j] < 0) members.push_back(j);
    if (!members.empty()) weights.sum_cosines(members, request.directions, k, team, of_mean.data());
    for (Index q = 0; q < k; ++q) {
      double* statistics = out + (q * 2 + sign) * 4;
      std::fill_n(statistics, 4, kNaN);
      if (members.empty()) continue;
      double sum = 0, least = 1, most = -1;
      for (const Index j : members) {
        const double c = all[static_cast<std::size_t>(j * k + q)];
        sum += c;
        least = std::min(least, c);
        most = std::max(most, c);
      }
      const double mean_cosine = of_mean[static_cast<std::size_t>(q)];
      statistics[0] = sum / static_cast<double>(members.size());
      statistics[1] = least;
      statistics[2] = most;
      statistics[3] = request.absolute ? std::abs(mean_cosine) : mean_cosine;
    }
  }
}

}  // namespace detail

// a_j^2 - |w_j|^2: conserved by the flow of both layers at equal rates (homogeneous activations).
template <class T>
double balance(const NetworkView<T>& net, Index j) {
  const double a = static_cast<double>(net.a[j]);
  return a * a - squared_norm(net.W + j * net.d, net.d);
}

template <class T>
const std::vector<ObservableEntry<T>>& observable_table() {
  using S = Snapshot<T>;
  using R = ObservableRequest;
  using namespace detail;
  static const std::vector<ObservableEntry<T>> table = {
      {"loss", "", true, false,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         const auto& split = s.splits[static_cast<std::size_t>(k)];
         *out = split.objective->loss(split.f, team);
       }},
      {"log_loss", "", true, false,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         const auto& split = s.splits[static_cast<std::size_t>(k)];
         *out = split.objective->log_loss(split.f, team);
       }},
      {"objective", "", false, false,
       [](const S& s, const R&, Index, const Team& team, double* out) {
         const auto& objective = *s.splits[0].objective;
         *out = objective.loss(s.splits[0].f, team) + objective.output_penalty(s.splits[0].f);
         if (const double decay = objective.spec().weight_decay; decay != 0)
           *out +=
               0.5 * decay * s.weights->squared_unit() * s.weights->parameter_norm_squared(team);
       }},
      {"accuracy", "", true, false,
       [](const S& s, const R&, Index k, const Team&, double* out) {
         const auto& split = s.splits[static_cast<std::size_t>(k)];
         *out = accuracy(split, split.objective->split().y);
       }},
      {"clean_accuracy", "", true, false,
       [](const S& s, const R&, Index k, const Team&, double* out) {
         const auto& split = s.splits[static_cast<std::size_t>(k)];
         const T* clean = split.objective->split().clean_y;
         if (!clean)
           throw std::invalid_argument("clean_accuracy needs the clean labels of every split");
         *out = accuracy(split, clean);
       }},
      {"margin", "", true, false,
       [](const S& s, const R&, Index k, const Team&, double* out) {
         *out = smallest_margin(s.splits[static_cast<std::size_t>(k)]);
       }},
      {"normalised_margin", "", true, false,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         const double norm = s.weights->parameter_norm_squared(team);
         const auto split = in_units(s.splits[static_cast<std::size_t>(k)]);
         *out = norm > 0 ? smallest_margin(split) / norm : 0.0;
       }},
      {"smoothed_margin", "", true, false,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         const auto& split = s.splits[static_cast<std::size_t>(k)];
         const double norm = s.weights->squared_unit() * s.weights->parameter_norm_squared(team);
         const double margin = margin_of_log_loss(split.objective->spec().loss,
                                                  split.objective->log_total_loss(split.f, team));
         // of nothing, several samples have a loss that is that of a negative margin
         *out = norm > 0 || margin < 0 ? margin / norm : 0.0;
       }},
      {"margins", "sample", false, false,
       [](const S& s, const R&, Index, const Team&, double* out) {
         for (Index i = 0; i < s.splits[0].objective->split().n; ++i)
           out[i] = margin(s.splits[0], i);
       }},
      {"norms", "neuron", false, false,
       [](const S& s, const R&, Index, const Team& team, double* out) {
         s.weights->norms(team, out);
         for (Index j = 0; j < s.weights->m(); ++j) out[j] *= s.weights->unit();
       }},
      {"log_norms", "neuron", false, false,
       [](const S& s, const R&, Index, const Team& team, double* out) {
         s.weights->log_norms(team, out);
       }},
      {"head", "neuron", false, false,
       [](const S& s, const R&, Index, const Team&, double* out) {
         const double unit = s.weights->unit();
         for (Index j = 0; j < s.weights->m(); ++j)
           out[j] = unit * static_cast<double>(s.weights->sized_head()[j]);
       }},
      {"cosines", "neuron direction", false, false,
       [](const S& s, const R& r, Index, const Team& team, double* out) {
         cosines(s, r, team, out);
       }},
      {"alignment", "direction sign statistic", false, false,
       [](const S& s, const R& r, Index, const Team& team, double* out) {
         alignment(s, r, team, out);
       }},
      {"patterns", "", true, true,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         *out = static_cast<double>(s.splits[static_cast<std::size_t>(k)].signs->patterns(team));
       }},
      {"dead", "", true, true,
       [](const S& s, const R&, Index k, const Team& team, double* out) {
         *out = static_cast<double>(s.splits[static_cast<std::size_t>(k)].signs->dead(team));
       }},
      {"stable_rank", "", false, false,
       [](const S& s, const R&, Index, const Team& team, double* out) {
         const double top = s.weights->singular_values(1, team)[0];
         std::vector<double> norms(static_cast<std::size_t>(s.weights->m()));
         s.weights->norms(team, norms.data());
         const double frobenius = norm(norms.data(), s.weights->m());
         const double ratio = top > 0 ? frobenius / top : 0.0;
         *out = ratio * ratio;
       }},
      {"singular_values", "rank", false, false,
       [](const S& s, const R& r, Index, const Team& team, double* out) {
         const std::vector<double> values = s.weights->singular_values(r.count, team);
         const double unit = s.weights->unit();
         for (std::size_t k = 0; k < values.size(); ++k) out[k] = unit * values[k];
       }},
      {"balance_drift", "", false, false,
       [](const S& s, const R&, Index, const Team& team, double* out) {
         std::vector<double> squares(static_cast<std::size_t>(s.weights->m()));
         s.weights->squared_norms(team, squares.data());
         double most = 0;
         for (Index j = 0; j < s.weights->m(); ++j) {
           const double a = static_cast<double>(s.weights->sized_head()[j]);
           const double now =
               s.weights->squared_unit() * (a * a - squares[static_cast<std::size_t>(j)]);
           most = std::max(most, std::abs(now - s.balance[j]));
         }
         *out = most;
       }},
  };
  return table;
}

template <class T>
const ObservableEntry<T>& find_observable(const std::string& name) {
  for (const ObservableEntry<T>& entry : observable_table<T>())
    if (name == entry.name) return entry;
  throw std::invalid_argument("unknown observable '" + name + "'");
}

}  // namespace featcore
