// How a long computation hears from the world: the abort flag, polled per tile.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>

namespace featcore {

// Thrown out of a parallel loop when a stop was asked for; what the loop was computing is dropped.
struct Stopped : std::exception {
  const char* what() const noexcept override { return "stopped"; }
};

// `poll` is called on the thread that started the computation, every few milliseconds.
class Monitor {
 public:
  Monitor() = default;
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  virtual ~Monitor() = default;

  bool stop_requested() const { return stop_.load(std::memory_order_relaxed); }
  void request_stop() { stop_.store(true, std::memory_order_relaxed); }

  // The position that `poll` reports; written by the calling thread only.
  std::int64_t position = 0;

  // What follows takes a computation from where it is to `until`, 1 being its end, while `work`
  // flops are told to tick(): those of the calling thread.
  void stage(double until, double work) {
    from_ = fraction();
    until_ = until;
    expected_ = work;
    done_ = 0;
  }

  // How much of the computation is done, as far as its stages tell.
  double fraction() const {
    return expected_ > 0 ? from_ + (until_ - from_) * std::min(1.0, done_ / expected_) : from_;
  }

  // Looks at the clock once in a while: after `work` (flops) that takes some microseconds.
  void tick(double work) {
    work_ += work;
    if (work_ < kWorthALook) return;
    done_ += work_;
    work_ = 0;
    const Clock::time_point now = Clock::now();
    if (now < next_) return;
    if (!poll()) request_stop();
    next_ = Clock::now() + kInterval;
  }

 protected:
  // False asks for a stop.
  virtual bool poll() { return true; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kInterval{20};
  static constexpr double kWorthALook = 1e6;

  // On a line of its own: every thread reads it once a tile, and the calling thread writes what
  // follows as often.
  alignas(64) std::atomic<bool> stop_{false};
  alignas(64) double work_ = 0;  // since the last look; of the calling thread, as what follows
  double done_ = 0;              // of the `expected_` of this stage
  double expected_ = 0;
  double from_ = 0;
  double until_ = 1;
  Clock::time_point next_ = Clock::now() + kInterval;
};

}  // namespace featcore
