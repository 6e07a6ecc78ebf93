#include <limits>

#include "check.hpp"
#include "featcore/partition.hpp"
#include "problem.hpp"

using namespace featcore;
using featcore::testing::at;

static void check_covers_once(const Cut& cut) {
  Index next = 0;
  for (Index piece = 0; piece < cut.pieces(); ++piece) {
    CHECK(cut.begin(piece) == next);
    CHECK(cut.end(piece) > cut.begin(piece));
    next = cut.end(piece);
  }
  CHECK(next == cut.count);
}

TEST(a_cut_covers_every_item_once) {
  for (const Index count : {1, 2, 7, 8, 9, 63, 64, 65, 100, 1000})
    for (const Index pieces : {1, 2, 3, 10, 64, 2000})
      for (const Index unit : {1, 8, 16}) {
        const Cut cut(count, pieces, unit);
        check_covers_once(cut);
        CHECK(cut.pieces() <= pieces);
        for (Index piece = 0; piece + 1 < cut.pieces(); ++piece)
          CHECK((cut.end(piece) - cut.begin(piece)) % unit == 0);
      }
}

template <class T>
static void tiles_cover_the_plane() {
  for (const Index n : {1, 5, 6, 7, 126, 128, 504, 512, 513, 1025, 100000, 3000000})
    for (const Index d : {1, 3, 784, 20000})
      for (const Index m : {1, 7, 63, 64, 65, 4097, 100000}) {
        const Partition<T> cut(n, d, m);
        CHECK(cut.sample_tiles.count == n);
        CHECK(cut.panel_chunks.count == ceil_div(m, Simd<T>::kPanel));
        CHECK(cut.sample_groups.count == cut.sample_tiles.pieces());
        CHECK(cut.sample_tiles.length <= Partition<T>::kSamples);
        for (const Cut& each : {cut.sample_tiles, cut.panel_chunks, cut.sample_groups})
          check_covers_once(each);
      }
}

TEST(tiles_cover_the_plane_once_and_fit_their_scratch) {
  tiles_cover_the_plane<double>();
  tiles_cover_the_plane<float>();
}

TEST(partial_sums_stay_within_their_budget) {
  constexpr Index kBudget = 16 * 1024 * 1024;
  for (const Index n : {1, 1000, 10000000})
    for (const Index d : {1, 784, 20000})
      for (const Index m : {1, 1000, 100000}) {
        const Partition<double> cut(n, d, m);
        const Index chunks = cut.panel_chunks.pieces();
        const Index groups = cut.sample_groups.pieces();
        CHECK(chunks == 1 || chunks * n * 8 <= kBudget);
        CHECK(groups == 1 || (groups - 1) * m * d * 8 <= kBudget);
      }
}

// The signature takes a shape and nothing else: no thread count, no timing. What is left to check
// is that a second partition of a shape is the same one.
TEST(a_partition_depends_on_the_shape_only) {
  const Partition<float> one(1000, 50, 200);
  const Partition<float> two(1000, 50, 200);
  CHECK(one.units() == two.units());
  CHECK(one.sample_tiles.length == two.sample_tiles.length);
  CHECK(one.panel_chunks.length == two.panel_chunks.length);
  CHECK(one.sample_groups.length == two.sample_groups.length);
}

TEST(large_shapes_are_shared_among_many_threads) {
  CHECK(Partition<double>(2000, 500, 4096).units() >= 16);
  CHECK(Partition<double>(100000, 10, 64).units() >= 16);
}

TEST(empty_shapes_are_refused) {
  const double x = 0;
  const Activation relu = activation_by_name("relu", 0);
  CHECK_THROWS(std::invalid_argument, Kernel<double>(0, 1, 1, &x, relu, true));
  CHECK_THROWS(std::invalid_argument, Kernel<double>(1, 0, 1, &x, relu, true));
  CHECK_THROWS(std::invalid_argument, Kernel<double>(1, 1, 0, &x, relu, true));
}
