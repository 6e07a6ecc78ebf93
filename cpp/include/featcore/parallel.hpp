// A parallel loop over independent items. What an item computes may not depend on who runs it, so
// results have the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "featcore/float_state.hpp"
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

  // `work`: flops since it was asked last, as many as a look at the clock is worth if unknown.
  bool stop(double work = 1e6) const {
    if (id == 0) monitor_->tick(work);
    return monitor_->stop_requested();
  }

  const int id;

 private:
  Monitor* monitor_;
};

// What an item is taken to cost at least where it does not say (flops).
constexpr double kItemWork = 2e4;

// A call of body(item, worker) that does not know what the body is: loops are compiled once, not
// once a body.
class Work {
 public:
  Work() = default;
  template <class Body>
  explicit Work(Body& body)
      : body_(const_cast<void*>(static_cast<const void*>(&body))),
        call_([](void* context, Index item, const Worker& worker) {
          (*static_cast<Body*>(context))(item, worker);
        }) {}

  void operator()(Index item, const Worker& worker) const { call_(body_, item, worker); }

 private:
  void* body_ = nullptr;
  void (*call_)(void*, Index, const Worker&) = nullptr;
};

// Threads that share the items of one loop after another. Each begins with a part of its own, the
// same in every loop, so that what it wrote is near, and helps the others when that is done. A loop
// is over when its items are done, not when every thread has come by: a thread that the system has
// put aside holds nobody up.
class Crew {
 public:
  Crew(int threads, Monitor& monitor)
      : monitor_(&monitor), parts_(static_cast<std::size_t>(threads)) {}
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() = default;

  // On the calling thread: runs every item, together with those who serve.
  void share(Index items, const Work& work) {
    work_ = work;
    items_ = items;
    pending_.store(items, std::memory_order_relaxed);
    ++epoch_;
    for (std::size_t part = 0; part < parts_.size(); ++part)
      parts_[part].ticket.store(
          (epoch_ << kCountBits) | static_cast<std::uint64_t>(end(part) - begin(part)),
          std::memory_order_release);
    const Worker worker(0, *monitor_);
    while (take(worker)) {
    }
    Patience patience;
    while (pending_.load(std::memory_order_acquire) != 0) {
      monitor_->tick(kItemWork);
      patience.wait();
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  // On every other thread, until dismissed.
  void serve(int id) {
    const Worker worker(id, *monitor_);
    Patience patience;
    while (!dismissed_.load(std::memory_order_acquire)) {
      if (take(worker))
        patience = Patience();
      else
        patience.wait();
    }
  }

  void dismiss() { dismissed_.store(true, std::memory_order_release); }

 private:
  static constexpr int kCountBits = 40;
  static constexpr std::uint64_t kCountMask = (std::uint64_t(1) << kCountBits) - 1;

  // Spins for about as long as a serial stretch between two loops takes, then lets others run.
  class Patience {
   public:
    void wait() {
      if (++tries_ < 1000) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
      } else if (tries_ < 1100) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }

   private:
    int tries_ = 0;
  };

  Index begin(std::size_t part) const {
    const Index count = static_cast<Index>(parts_.size());
    const Index p = static_cast<Index>(part);
    return items_ / count * p + std::min(items_ % count, p);
  }
  Index end(std::size_t part) const { return begin(part + 1); }

  // Claims one item and runs it; false if none is left.
  bool take(const Worker& worker) {
    for (std::size_t k = 0; k < parts_.size(); ++k)
      if (take((static_cast<std::size_t>(worker.id) + k) % parts_.size(), worker)) return true;
    return false;
  }

  // A ticket holds the number of the loop and the number of items left, so that a late thread
  // cannot claim an item of a loop that is over; what the loop runs is read after the claim, when
  // the loop cannot end any more.
  bool take(std::size_t part, const Worker& worker) {
    std::atomic<std::uint64_t>& shared = parts_[part].ticket;
    std::uint64_t ticket = shared.load(std::memory_order_acquire);
    do {
      if ((ticket & kCountMask) == 0) return false;
    } while (!shared.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acquire));
    const Index item = end(part) - static_cast<Index>(ticket & kCountMask);
    if (!worker.stop(kItemWork)) {
      try {
        work_(item, worker);
      } catch (...) {
        const std::scoped_lock lock(error_mutex_);
        error_ = std::current_exception();
      }
    }
    pending_.fetch_sub(1, std::memory_order_release);
    return true;
  }

  Monitor* monitor_;
  Work work_;
  Index items_ = 0;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  // On lines of their own: threads hammer them.
  struct alignas(64) Part {
    std::atomic<std::uint64_t> ticket{0};
  };
  std::vector<Part> parts_;
  std::uint64_t epoch_ = 0;
  alignas(64) std::atomic<Index> pending_{0};
  alignas(64) std::atomic<bool> dismissed_{false};
};

class Team {
 public:
  Team(int threads, Monitor& monitor) : threads_(threads), monitor_(&monitor) {
    detail::watch_forks();
    if (threads_ < 1 || !has_openmp() || detail::forked().load(std::memory_order_relaxed))
      threads_ = 1;
    threads_ = std::min(threads_, kMostThreads);
  }

  // libgomp ends the process when it cannot start a thread.
  static constexpr int kMostThreads = 256;

  int threads() const { return threads_; }
  Monitor& monitor() const { return *monitor_; }

  // The same team on one thread where sharing would cost more than `work` (flops) is worth.
  Team for_work(double work) const {
    constexpr double kWorthSharing = 5e4;
    Team team = *this;
    if (work < kWorthSharing) team.threads_ = 1;
    return team;
  }

  // Calls body(team) with the threads gathered: the loops inside share them, and start in less than
  // a microsecond. All compute with the same rounding, whatever the calling thread was told.
  template <class Body>
  void together(Body&& body) const {
    const DefaultFloats floats;
#ifdef _OPENMP
    if (threads_ > 1 && crew_ == nullptr) {
      Crew crew(threads_, *monitor_);
      Team gathered = *this;
      gathered.crew_ = &crew;
      std::exception_ptr error;
#pragma omp parallel num_threads(threads_)
      {
        const DefaultFloats of_the_thread;
        if (omp_get_thread_num() == 0) {
          try {
            body(gathered);
          } catch (...) {
            error = std::current_exception();
          }
          crew.dismiss();
        } else {
          crew.serve(omp_get_thread_num());
        }
      }
      if (error) std::rethrow_exception(error);
      return;
    }
#endif
    body(*this);
  }

  // Calls body(item, worker) for every item. Throws Stopped after all items have come to rest, or
  // what an item threw.
  template <class Body>
  void for_each(Index items, Body&& body) const {
    run(items, Work(body));
  }

 private:
  void run(Index items, const Work& work) const {
    if (threads_ > 1 && items > 1) {
      if (crew_ == nullptr) {
        together([&](const Team& team) { team.run(items, work); });
        return;
      }
      crew_->share(items, work);
    } else {
      const Worker worker(0, *monitor_);
      for (Index item = 0; item < items && !worker.stop(kItemWork); ++item) work(item, worker);
    }
    if (monitor_->stop_requested()) throw Stopped{};
  }

  int threads_;
  Monitor* monitor_;
  Crew* crew_ = nullptr;
};

}  // namespace featcore
