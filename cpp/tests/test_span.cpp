#include "check.hpp"
#include "featcore/flow_frames.hpp"
#include "featcore/products.hpp"
#include "featcore/span.hpp"
#include "featcore/ties.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

// Weights on the hyperplane of a sample, or across them all, in coordinates that are irrational.
TEST(ties_are_kept_in_other_coordinates) {
  const std::vector<double> x = {1, 2, 3, 7, 1, 8, 0, 0, 0, 5, -4, 2};
  const std::vector<double> y = {1, -1, 1, -1};
  const SplitView<double> split{4, 3, x.data(), y.data(), nullptr, nullptr};
  // two across the first two samples, one on the first, one on none
  const std::vector<double> W = {1, 1, -1, 2, 2, -2, 3, 0, -1, 0.25, 0.5, 0.125};
  const NetworkView<double> net{4, 3, W.data(), y.data()};
  Monitor monitor;
  const Team team(1, monitor);
  const std::vector<double> basis = span_basis(4, 3, x.data(), 3, team);
  const Index rank = static_cast<Index>(basis.size()) / 3;
  CHECK(rank == 3);
  std::vector<double> inside(12), turned(12);
  row_products(4, x.data(), rank, basis.data(), 3, team, inside.data());
  row_products(4, W.data(), rank, basis.data(), 3, team, turned.data());
  // as rounding may have it
  for (Index k = 0; k < 3; ++k) turned[at(k)] += 1e-16 * inside[at(k)];
  const std::vector<double> before = turned;
  keep_ties(net, split, rank, inside.data(), team, turned.data());
  for (Index j = 0; j < 4; ++j)
    for (Index i = 0; i < 4; ++i) {
      double z = 0, product = 0;
      for (Index k = 0; k < 3; ++k) {
        z += W[at(j * 3 + k)] * x[at(i * 3 + k)];
        product += turned[at(j * 3 + k)] * inside[at(i * 3 + k)];
      }
      CHECK_CLOSE(product, z, z == 0 ? 1e-16 * 12 : 1e-14);
    }
  for (Index k = 9; k < 12; ++k) CHECK(turned[at(k)] == before[at(k)]);  // on none
  // across samples that span the coordinates
  const SplitView<double> two{2, 3, x.data(), y.data(), nullptr, nullptr};
  const std::vector<double> plane = span_basis(2, 3, x.data(), 2, team);
  CHECK(plane.size() == 6);
  std::vector<double> samples(4), weights(8);
  row_products(2, x.data(), 2, plane.data(), 3, team, samples.data());
  row_products(4, W.data(), 2, plane.data(), 3, team, weights.data());
  weights[0] += 1e-17;
  keep_ties(net, two, 2, samples.data(), team, weights.data());
  for (Index k = 0; k < 4; ++k) CHECK(weights[at(k)] == 0);
  CHECK(weights[4] != 0 && weights[6] != 0);
}

TEST(a_span_pays_by_shape_and_rank) {
  Monitor monitor;
  const Team team(1, monitor);
  const auto rank = [&](Index n, Index d, Index m) {
    const Problem<double> p = random_problem<double>(n, d, m, 3);
    return static_cast<Index>(paying_span(p.net(), p.split(), team).size()) / d;
  };
  CHECK(rank(20, 100, 30) == 20);
  CHECK(rank(80, 100, 30) == 80);
  CHECK(rank(81, 100, 30) == 0);
  CHECK(rank(20, 31, 30) == 0);
  CHECK(rank(20, 100, 1) == 0);
}
