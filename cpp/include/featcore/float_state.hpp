// How a thread rounds. Other libraries let a thread flush small numbers to zero (PyTorch's
// set_flush_denormal), and threads that share a loop would not agree on its results.
#pragma once

#include <atomic>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <cstdint>
#endif

namespace featcore {

// While one lives, its thread rounds to nearest and keeps small numbers; then as before.
class DefaultFloats {
 public:
  DefaultFloats() : before_(get()) { set(kDefault); }
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;
  ~DefaultFloats() { set(before_); }

 private:
  // Memory is not read before, nor written after, for a compiler may not know that what it computes
  // depends on this.
#if defined(__SSE2__)
  using Word = unsigned;
  static constexpr Word kDefault = 0x1f80;  // no exception traps
  static Word get() { return _mm_getcsr(); }
  static void set(Word word) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    _mm_setcsr(word);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
#elif defined(__aarch64__)
  using Word = std::uint64_t;
  static constexpr Word kDefault = 0;
  static Word get() {
    Word word = 0;
    asm volatile("mrs %0, fpcr" : "=r"(word));  // NOLINT(portability-no-assembler)
    return word;
  }
  static void set(Word word) {
    asm volatile("msr fpcr, %0" ::"r"(word) : "memory");  // NOLINT(portability-no-assembler)
  }
#else
  using Word = int;
  static constexpr Word kDefault = 0;
  static Word get() { return kDefault; }
  static void set(Word /*word*/) {}
#endif

  Word before_;
};

}  // namespace featcore
