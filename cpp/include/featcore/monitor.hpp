// How a long computation hears from the world: the abort flag, polled per tile.
#pragma once

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

  // Looks at the clock once in a while: after `work` (flops) that takes some microseconds.
  void tick(double work) {
    work_ += work;
    if (work_ < kWorthALook) return;
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

  std::atomic<bool> stop_{false};
  double work_ = 0;  // since the last look; of the calling thread, as `next_`
  Clock::time_point next_ = Clock::now() + kInterval;
};

}  // namespace featcore
