// Which form moves a network: arithmetic on shapes and on the rank of the samples, never a timing,
// so that bits do not depend on the machine's mood.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "featcore/form.hpp"
#include "featcore/form_memory.hpp"
#include "featcore/gram.hpp"
#include "featcore/primal.hpp"
#include "featcore/projected.hpp"
#include "featcore/span.hpp"

namespace featcore {

// Cost of a step in flops, over n m.
struct FormCosts {
  static double primal(Index d) { return 4.0 * static_cast<double>(d); }
  // Pre-activations and coefficients pass through memory.
  static double gram(Index n) { return 2.0 * static_cast<double>(n) + 12; }
  // A little dearer than the primal form at the same dimension: it must earn the projection.
  static double projected(Index rank) { return 4.4 * static_cast<double>(rank) + 4; }
};

// The largest rank at which the projected form is cheaper by a tenth than one of cost `other`.
inline Index largest_paying_rank(double other) {
  return static_cast<Index>((0.9 * other - FormCosts::projected(0)) /
                            (FormCosts::projected(1) - FormCosts::projected(0)));
}

// Whether products of samples stay within the range of T.
template <class T>
bool products_in_range(const SplitView<T>& split) {
  using Limits = std::numeric_limits<T>;
  const double top =
      static_cast<double>(ConstRows<T>(split.x, split.n, split.d).cwiseAbs().maxCoeff());
  constexpr double kEpsilon = Limits::epsilon();
  return top == 0 || (top > std::sqrt(static_cast<double>(Limits::min()) / kEpsilon) &&
                      top < std::sqrt(static_cast<double>(Limits::max()) * kEpsilon));
}

template <class T>
ChosenForm<T> choose_form(const std::string& wanted, const NetworkView<T>& start,
                          Activation activation, const std::vector<SplitView<T>>& splits,
                          bool signs_of_all_splits, const FormState<T>* state, const Team& team,
                          const std::function<void(const std::string&, double)>& fits) {
  ChosenForm<T> result;
  const Index n = splits[0].n;
  const Index d = start.d;
  std::string name = wanted;
  // A copy of x in double.
  const double look = 8.0 * static_cast<double>(n) * static_cast<double>(d);
  if (name == "gram" && !products_in_range(splits[0]))
    throw std::invalid_argument(
        "products of these samples leave the range of their type; scale x, or use form 'primal'");
  if (name == "auto") {
    name = FormCosts::gram(n) < 0.9 * FormCosts::primal(d) && products_in_range(splits[0])
               ? "gram"
               : "primal";
    const double best = name == "gram" ? FormCosts::gram(n) : FormCosts::primal(d);
    const Index most = largest_paying_rank(best);
    constexpr Index kPromptRank = 1500;  // a factorisation cannot be interrupted
    // Looking for the rank costs about as much as d / 4m steps.
    const bool worth_a_look = d >= 32 && d <= 4 * start.m && std::min(n, d) <= kPromptRank &&
                              most >= 1 && look <= form_memory("primal", start, {splits[0]}, 0);
    if (worth_a_look && inputs_are_alike(n, d, splits[0].x) &&
        may_lack_rank(n, d, splits[0].x, team)) {
      result.basis = span_basis(n, d, splits[0].x, most, team);
      if (!result.basis.empty()) name = "projected";
    }
  } else if (name == "projected") {
    if (state) {
      for (const FormArray<T>& array : *state)
        if (array.name == "basis" && array.columns == d) result.basis = array.values;
    } else {
      fits(name, look);
      result.basis = span_basis(n, d, splits[0].x, std::min(n, d), team);
    }
    if (result.basis.empty()) throw std::invalid_argument("the state has no basis");
  }
  const Index rank = static_cast<Index>(result.basis.size()) / d;
  fits(name, form_memory(name, start, splits, rank));
  if (name == "primal")
    result.form =
        std::make_unique<PrimalForm<T>>(start, activation, splits, signs_of_all_splits, team);
  else if (name == "gram")
    result.form =
        std::make_unique<GramForm<T>>(start, activation, splits, signs_of_all_splits, state, team);
  else if (name == "projected")
    result.form = std::make_unique<ProjectedForm<T>>(start, rank, result.basis.data(), activation,
                                                     splits, signs_of_all_splits, state, team);
  else
    throw std::invalid_argument("unknown form '" + name + "'");
  return result;
}

}  // namespace featcore
