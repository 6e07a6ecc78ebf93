#include <cmath>
#include <limits>

#include "check.hpp"
#include "featcore/banded_form.hpp"
#include "featcore/feature_products.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

namespace {

Monitor monitor;

// F F^T of `rank` random columns, times `scale`.
ColMatrix<double> moments(Index size, Index rank, double scale) {
  Random random(static_cast<std::uint64_t>(size));
  ColMatrix<double> F(size, rank);
  for (Index k = 0; k < F.size(); ++k) F(k) = random.uniform();
  return scale * (F * F.transpose());
}

std::vector<double> right_hand_side(Index size) {
  Random random(3);
  std::vector<double> right(at(size));
  for (double& value : right) value = random.uniform();
  return right;
}

// Largest |(G + s I) x - r| over (|G| + s) |x| + |r|, of all shifts: the backward error.
double backward_error(const ColMatrix<double>& G, const std::vector<double>& shifts,
                      const std::vector<double>& right, const std::vector<double>& got) {
  double most = 0;
  const ConstVector<double> r(right.data(), G.rows());
  for (std::size_t k = 0; k < shifts.size(); ++k) {
    const ConstVector<double> x(got.data() + static_cast<Index>(k) * G.rows(), G.rows());
    const double rest = (G * x + shifts[k] * x - r).norm();
    const double error = rest / ((G.norm() + shifts[k]) * x.norm() + r.norm());
    if (!(error <= most)) most = error;
  }
  return most;
}

}  // namespace

// Sizes about the band, about blocks, and those that leave rows, with more shifts than lanes.
TEST(shifted_systems_are_solved_to_rounding_on_any_number_of_threads) {
  for (const Index size : {1, 2, 3, 31, 32, 33, 34, 63, 64, 65, 66, 97, 127, 128, 129, 161, 300})
    for (const Index rank : {size, size / 2 + 1, 2 * size})
      for (const double scale : {1.0, 0x1p-960, 0x1p960}) {
        const ColMatrix<double> G = moments(size, rank, scale);
        const double trace = G.trace();
        std::vector<double> shifts;
        for (int k = 0; k < 11; ++k) shifts.push_back(trace * std::pow(10.0, 1 - k));
        const std::vector<double> right = right_hand_side(size);
        std::vector<double> first;
        for (const int threads : {1, 2, 3, 5}) {
          const Team team(threads, monitor);
          std::vector<double> got(at(size) * shifts.size());
          CHECK(BandedForm(size, G.data(), team)
                    .solve(static_cast<Index>(shifts.size()), shifts.data(), right.data(), team,
                           got.data()));
          if (threads == 1) {
            first = got;
            const ColMatrix<double> unit = G / scale;
            for (double& shift : shifts) shift /= scale;
            for (double& value : got) value *= scale;
            CHECK(backward_error(unit, shifts, right, got) < 1e-14);
            for (double& shift : shifts) shift *= scale;
          } else {
            CHECK(same_bits(got, first));
          }
        }
      }
}

// Beside the largest shifts G is nothing; those beside them do not notice, and right may be large.
TEST(shifts_and_right_hand_sides_may_be_as_large_as_numbers) {
  const Index size = 40;
  const Team team(2, monitor);
  for (const double scale : {1.0, 0x1p-990, 0x1p960})
    for (const double large : {0x1p-900, 1.0, 0x1p900}) {
      const ColMatrix<double> G = moments(size, size, scale);
      std::vector<double> right = right_hand_side(size), both(at(2 * size)), one(at(2 * size));
      for (double& value : right) value *= large;
      const std::vector<double> shifts{0.5 * scale, 0x1p1020}, twice{0.5 * scale, 0.5 * scale};
      const BandedForm form(size, G.data(), team);
      CHECK(form.solve(2, shifts.data(), right.data(), team, both.data()));
      CHECK(form.solve(2, twice.data(), right.data(), team, one.data()));
      for (Index k = 0; k < size; ++k) {
        CHECK(both[at(k)] == one[at(k)]);
        if (scale <= 1 && large >= 1)
          CHECK_CLOSE(both[at(size + k)] * 0x1p1000, right[at(k)] * 0x1p-20, 1e-15 * large);
      }
    }
}

TEST(a_shift_that_leaves_nothing_positive_or_no_matrix_is_told) {
  const Index size = 40;
  const Team team(2, monitor);
  const std::vector<double> right = right_hand_side(size);
  std::vector<double> got(at(size));
  const ColMatrix<double> G = moments(size, 3, 1.0);
  const double negative = -1e-3, none = std::numeric_limits<double>::quiet_NaN();
  CHECK(!BandedForm(size, G.data(), team).solve(1, &negative, right.data(), team, got.data()));
  CHECK(!BandedForm(size, G.data(), team).solve(1, &none, right.data(), team, got.data()));
  const ColMatrix<double> zero = ColMatrix<double>::Zero(size, size);
  const double two = 2;
  CHECK(BandedForm(size, zero.data(), team).solve(1, &two, right.data(), team, got.data()));
  for (Index k = 0; k < size; ++k) CHECK_CLOSE(got[at(k)], right[at(k)] / 2, 1e-16);
  CHECK(BandedForm(size, zero.data(), team).solve(0, &two, right.data(), team, got.data()));
}

template <class T>
static void products_with_features_agree() {
  struct Shape {
    Index n, m, k;
  };
  for (const Shape s : {Shape{1, 1, 1}, Shape{7, 3, 2}, Shape{65, 300, 20}, Shape{130, 1030, 1},
                        Shape{300, 64, 9}, Shape{5, 2, 0}}) {
    const Problem<T> p = random_problem<T>(s.n, s.m, 1);
    Random random(2);
    std::vector<double> by_feature(at(s.k * s.m)), by_sample(at(s.k * s.n));
    for (double& value : by_feature) value = random.uniform();
    for (double& value : by_sample) value = random.uniform();
    std::vector<double> want(at(s.k * s.n)), other_want(at(s.k * s.m));
    for (Index k = 0; k < s.k; ++k)
      for (Index i = 0; i < s.n; ++i)
        for (Index j = 0; j < s.m; ++j) {
          const double F = static_cast<double>(p.x[at(i * s.m + j)]);
          want[at(k * s.n + i)] += by_feature[at(k * s.m + j)] * F;
          other_want[at(k * s.m + j)] += by_sample[at(k * s.n + i)] * F;
        }
    std::vector<double> one(want.size()), other_one(other_want.size());
    for (const int threads : {1, 2, 3, 5}) {
      const Team team(threads, monitor);
      std::vector<double> got(want.size()), other(other_want.size());
      predictions(s.n, s.m, p.x.data(), s.k, by_feature.data(), team, got.data());
      combinations(s.n, s.m, p.x.data(), s.k, by_sample.data(), team, other.data());
      CHECK_CLOSE(featcore::testing::error(got, want), 0, 1e-13);
      CHECK_CLOSE(featcore::testing::error(other, other_want), 0, 1e-13);
      if (threads == 1) one = got, other_one = other;
      CHECK(same_bits(got, one));
      CHECK(same_bits(other, other_one));
    }
  }
}

TEST(products_with_a_few_vectors_agree_with_plain_loops) {
  products_with_features_agree<double>();
  products_with_features_agree<float>();
}
