#include "check.hpp"
#include "featcore/throughput.hpp"

using namespace featcore;

TEST(a_rate_is_measured_for_both_types_and_on_more_threads_than_there_may_be_processors) {
  for (const int threads : {1, 2, 5}) {
    for (const double rate : {fma_rate<float>(threads, 1e-3), fma_rate<double>(threads, 1e-3)}) {
      CHECK(std::isfinite(rate));
      CHECK(rate > 1e6);
    }
  }
}

TEST(arguments_out_of_range_are_refused) {
  CHECK_THROWS(std::invalid_argument, fma_rate<float>(0, 1e-3));
  CHECK_THROWS(std::invalid_argument, fma_rate<float>(257, 1e-3));
  CHECK_THROWS(std::invalid_argument, fma_rate<double>(1, 0));
  CHECK_THROWS(std::invalid_argument, fma_rate<double>(1, std::nan("")));
}
