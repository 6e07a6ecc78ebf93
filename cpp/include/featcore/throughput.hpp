// How many multiply-adds a second this machine does, with the vectors that the kernels are compiled
// for: what a kernel is measured against. Measured on the spot, for clocks change with load, heat
// and the width of vectors.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "featcore/simd.hpp"

namespace featcore {

namespace detail {

// Independent sums hide the latency of an instruction: twice the 4 to 5 cycles of today's CPUs.
// Two operands, and without FMA a product, need registers as well.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::size_t kThroughputSums = 24;  // of 32 registers
#else
constexpr std::size_t kThroughputSums = 12;  // of 16
#endif

// The compiler must take `value` as read, and perhaps changed.
template <class V>
inline void opaque(V& value) {
  asm volatile("" : "+m"(value));  // NOLINT(portability-no-assembler): there is no other way
}

// 2·iterations multiply-adds on each sum, all in registers: sums are named by I, for a compiler
// that does not unroll a loop over them keeps them in memory.
template <class T, std::size_t... I>
inline void multiply_add(int iterations, std::index_sequence<I...> /*sums*/) {
  using S = Simd<T>;
  T small = T(1) / 1024;
  opaque(small);
  const typename S::Vector up = S::fill(small);
  const typename S::Vector down = S::fill(-small);
  // different from one another, or the compiler would keep one for all
  typename S::Vector sum[] = {S::fill(1 + static_cast<T>(I) * small)...};
  for (int k = 0; k < iterations; ++k) {
    // a little up, a little down: sums stay near 1, and each waits for none but itself
    ((sum[I] += sum[I] * up), ...);
    ((sum[I] += sum[I] * down), ...);
  }
  (opaque(sum[I]), ...);
}

// The rate of one thread, in floating-point operations a second.
template <class T>
inline double multiply_add_rate(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int kIterations = 2000;  // some 10 µs: the clock is read rarely enough
  constexpr double kFlops = 2. * 2 * double{kThroughputSums} * Simd<T>::kLanes * kIterations;
  double flops = 0;
  const Clock::time_point began = Clock::now();
  std::chrono::duration<double> elapsed{0};
  do {
    multiply_add<T>(kIterations, std::make_index_sequence<kThroughputSums>{});
    flops += kFlops;
    elapsed = Clock::now() - began;
  } while (elapsed.count() < seconds);
  return flops / elapsed.count();
}

}  // namespace detail

// Floating-point operations a second of `threads` threads that do nothing but multiply and add in
// registers, for about `seconds`. A multiply-add counts as two, also where the instruction set has
// no fused one.
template <class T>
inline double fma_rate(int threads, double seconds) {
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
  const bool in_range = seconds > 0 && seconds <= 10;  // NaN is not
  if (!in_range) throw std::invalid_argument("seconds must be in (0, 10]");
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::atomic<bool> go{false};
  std::vector<std::thread> team;
  const auto work = [&](std::size_t id) {
    // at once: alone, a thread may run at a higher clock
    while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
    rates[id] = detail::multiply_add_rate<T>(seconds);
  };
  const auto finish = [&] {
    go.store(true, std::memory_order_release);
    for (std::thread& thread : team) thread.join();
  };
  try {
    for (std::size_t id = 1; id < rates.size(); ++id) team.emplace_back(work, id);
  } catch (...) {  // the system gives no more threads
    finish();
    throw;
  }
  go.store(true, std::memory_order_release);
  work(0);
  finish();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

}  // namespace featcore
