#include <atomic>
#include <numeric>
#include <thread>

#ifdef __unix__
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"
#include "featcore/kernel.hpp"
#include "featcore/parallel.hpp"
#include "problem.hpp"

#endif

using namespace featcore;
using featcore::testing::at;

TEST(every_item_runs_once) {
  Monitor monitor;
  for (const int threads : {1, 2, 3, 8})
    for (const Index items : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(at(items));
      Team(threads, monitor).for_each(items, [&](Index item, const Worker& worker) {
        CHECK(worker.id >= 0 && worker.id < threads);
        ++runs[at(item)];
      });
      for (const std::atomic<int>& count : runs) CHECK(count == 1);
    }
}

TEST(small_work_stays_on_one_thread) {
  Monitor monitor;
  const Team team(4, monitor);
  CHECK(team.threads() == (has_openmp() ? 4 : 1));
  CHECK(team.for_work(1e3).threads() == 1);
  CHECK(team.for_work(1e12).threads() == team.threads());
}

TEST(what_an_item_throws_reaches_the_caller) {
  Monitor monitor;
  for (const int threads : {1, 2, 5}) {
    std::atomic<int> runs{0};
    CHECK_THROWS(std::domain_error,
                 Team(threads, monitor).for_each(1000, [&](Index item, const Worker&) {
                   ++runs;
                   if (item == 3) throw std::domain_error("no");
                 }));
    CHECK(runs >= 4);
    // The team is as good as new.
    std::atomic<Index> sum{0};
    Team(threads, monitor).for_each(10, [&](Index item, const Worker&) { sum += item; });
    CHECK(sum == 45);
  }
}

// `polls` times on, then stop. Polls come every few milliseconds, so the items are slow.
class StopAfter final : public Monitor {
 public:
  explicit StopAfter(int polls) : left_(polls) {}
  std::thread::id polled_by;

 protected:
  bool poll() override {
    polled_by = std::this_thread::get_id();
    return left_-- > 0;
  }

 private:
  int left_;
};

TEST(a_stop_ends_the_loop_and_is_polled_by_the_caller) {
  for (const int threads : {1, 3}) {
    StopAfter monitor(2);
    std::atomic<int> runs{0};
    CHECK_THROWS(Stopped, Team(threads, monitor).for_each(100000, [&](Index, const Worker&) {
      ++runs;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }));
    CHECK(runs > 0 && runs < 100000);
    CHECK(monitor.polled_by == std::this_thread::get_id());
    CHECK_THROWS(Stopped, Team(threads, monitor).for_each(10, [](Index, const Worker&) {}));
  }
}

#ifdef __SSE2__
// As PyTorch's set_flush_denormal(True) leaves the thread that calls it.
TEST(all_threads_keep_small_numbers_and_the_caller_gets_its_own_way_back) {
  constexpr unsigned kFlush = 0x8040;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlush);
  volatile double small = 1e-300;
  const auto kept = [&] { return small * 1e-20 > 0; };
  bool all = true, flushed = !kept();
  for (const int threads : {1, 2, 3, 5}) {
    Monitor monitor;
    std::vector<char> good(1000);
    Team(threads, monitor).together([&](const Team& team) {
      all = all && kept();
      team.for_each(1000, [&](Index item, const Worker&) { good[at(item)] = kept() ? 1 : 0; });
    });
    for (const char one : good) all = all && one != 0;
    flushed = flushed && !kept();
    try {
      Team(threads, monitor).together([](const Team&) { throw std::domain_error("no"); });
    } catch (const std::domain_error&) {
      flushed = flushed && !kept();
    }
  }
  _mm_setcsr(before);
  CHECK(all);
  CHECK(flushed);
}
#endif

TEST(many_threads_may_call_at_once) {
  std::vector<Index> sums(4);
  std::vector<std::thread> callers;
  for (Index& sum : sums)
    callers.emplace_back([&sum] {
      Monitor monitor;
      std::vector<Index> squares(1000);
      Team(2, monitor).for_each(1000, [&](Index item, const Worker&) {
        squares[at(item)] = item * item;
      });
      sum = std::accumulate(squares.begin(), squares.end(), Index(0));
    });
  for (std::thread& caller : callers) caller.join();
  for (const Index sum : sums) CHECK(sum == 332833500);
}

#ifdef __unix__
TEST(a_forked_child_computes_alone_and_does_not_hang) {
  Monitor monitor;
  std::atomic<Index> warm{0};
  Team(2, monitor).for_each(100, [&](Index item, const Worker&) { warm += item; });
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang ends as a signal
    const Team team(2, monitor);
    Index sum = 0;
    if (team.threads() == 1) team.for_each(100, [&](Index item, const Worker&) { sum += item; });
    _exit(sum == 4950 ? 0 : 1);
  }
  CHECK(child > 0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(Team(2, monitor).threads() == (has_openmp() ? 2 : 1));
}
#endif
