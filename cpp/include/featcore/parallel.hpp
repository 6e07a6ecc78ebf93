// A parallel loop over independent items. What an item computes may not depend on who runs it, so
// results have the same bits for any number of threads.
#pragma once

#include <atomic>
#include <exception>

#include "featcore/monitor.hpp"
#include "featcore/types.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace featcore {

namespace detail {

inline std::atomic<bool>& forked() {
  static std::atomic<bool> flag{false};
  return flag;
}

// libgomp's workers do not survive fork, and a child that waits for them hangs: it gets one thread.
inline void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forked().store(true, std::memory_order_relaxed); });
  (void)registered;
#endif
}

}  // namespace detail

inline bool has_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

// Who runs an item: `id` picks scratch memory, `stop` is asked once a tile. Worker 0 is the thread
// that called.
class Worker {
 public:
  Worker(int id_, Monitor& monitor) : id(id_), monitor_(&monitor) {}

  bool stop() const {
    if (id == 0) monitor_->tick();
    return monitor_->stop_requested();
  }

  const int id;

 private:
  Monitor* monitor_;
};

class Team {
 public:
  Team(int threads, Monitor& monitor) : threads_(threads), monitor_(&monitor) {
    detail::watch_forks();
    if (threads_ < 1 || !has_openmp() || detail::forked().load(std::memory_order_relaxed))
      threads_ = 1;
  }

  int threads() const { return threads_; }
  Monitor& monitor() const { return *monitor_; }

  // The same team, with one thread where `work` (flops) is not worth a parallel region.
  Team for_work(double work) const {
    constexpr double kWorthARegion = 2e5;
    Team team = *this;
    if (work < kWorthARegion) team.threads_ = 1;
    return team;
  }

  // Calls body(item, worker) for every item. Throws Stopped, or what an item threw, after all
  // threads have come to rest.
  template <class Body>
  void for_each(Index items, Body&& body) const {
#ifdef _OPENMP
    if (threads_ > 1 && items > 1) {
      std::exception_ptr error;
      // A counter of our own rather than `omp for`, so that the calling thread polls between items.
      std::atomic<Index> next{0};
#pragma omp parallel num_threads(threads_)
      {
        const Worker worker(omp_get_thread_num(), *monitor_);
        try {
          for (Index item;
               (item = next.fetch_add(1, std::memory_order_relaxed)) < items && !worker.stop();)
            body(item, worker);
        } catch (...) {
#pragma omp critical(featcore_error)
          error = std::current_exception();
          next.store(items, std::memory_order_relaxed);
        }
      }
      if (error) std::rethrow_exception(error);
      if (monitor_->stop_requested()) throw Stopped{};
      return;
    }
#endif
    const Worker worker(0, *monitor_);
    for (Index item = 0; item < items && !worker.stop(); ++item) body(item, worker);
    if (monitor_->stop_requested()) throw Stopped{};
  }

 private:
  int threads_;
  Monitor* monitor_;
};

}  // namespace featcore
