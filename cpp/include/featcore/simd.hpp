// Vectors of the instruction set that a translation unit is compiled for, through the compiler's
// vector extension: arithmetic is written once, and only what differs (signs to bits and back) is
// told apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "featcore/types.hpp"

namespace featcore {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kVectorBytes = 64;
constexpr int kPanelVectors = 4;  // x 6 samples = 24 of 32 registers accumulate
constexpr int kMicroBlock = 6;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kPanelVectors = 2;  // x 6 = 12 of 16
constexpr int kMicroBlock = 6;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kPanelVectors = 4;  // x 6 = 24 of 32
constexpr int kMicroBlock = 6;
#else
constexpr int kVectorBytes = 16;
constexpr int kPanelVectors = 4;  // x 2 = 8 of 16: products need registers of their own without FMA
constexpr int kMicroBlock = 2;
#endif

template <class T>
struct Simd {
  // NOLINTNEXTLINE(modernize-use-using): the attribute needs a typedef
  typedef T Vector __attribute__((vector_size(kVectorBytes), may_alias));
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  // Neurons of a panel, and a word with a bit for each.
  static constexpr int kPanel = kPanelVectors * kLanes;
  using Word = std::conditional_t<
      kPanel == 8, std::uint8_t,
      std::conditional_t<kPanel == 16, std::uint16_t,
                         std::conditional_t<kPanel == 32, std::uint32_t, std::uint64_t>>>;
  static_assert(8 * sizeof(Word) == kPanel);

  static Vector load(const T* p) { return *reinterpret_cast<const Vector*>(p); }
  static void store(T* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }
  static Vector fill(T value) { return value - Vector{}; }

  // A bit a lane. As narrow as can be: wider ones pass through a general register.
  using Bits = std::conditional_t<kLanes <= 8, std::uint8_t, std::uint16_t>;

  // Bit l is set where lane l of z is positive; NaN is not.
  static Bits positive(Vector z) {
    if constexpr (sizeof(T) == 8) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
      return _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(z), _mm512_setzero_pd(), _CMP_GT_OQ);
#elif defined(__AVX2__)
      return static_cast<Bits>(_mm256_movemask_pd(
          _mm256_cmp_pd(reinterpret_cast<__m256d>(z), _mm256_setzero_pd(), _CMP_GT_OQ)));
#elif defined(__SSE2__)
      return static_cast<Bits>(
          _mm_movemask_pd(_mm_cmpgt_pd(reinterpret_cast<__m128d>(z), _mm_setzero_pd())));
#endif
    } else {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
      return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(z), _mm512_setzero_ps(), _CMP_GT_OQ);
#elif defined(__AVX2__)
      return static_cast<Bits>(_mm256_movemask_ps(
          _mm256_cmp_ps(reinterpret_cast<__m256>(z), _mm256_setzero_ps(), _CMP_GT_OQ)));
#elif defined(__SSE2__)
      return static_cast<Bits>(
          _mm_movemask_ps(_mm_cmpgt_ps(reinterpret_cast<__m128>(z), _mm_setzero_ps())));
#endif
    }
#if !defined(__SSE2__)
    unsigned bits = 0;
    for (int l = 0; l < kLanes; ++l) bits |= static_cast<unsigned>(z[l] > 0) << l;
    return static_cast<Bits>(bits);
#endif
  }

  // Lane l of `on` where bit l is set, of `off` elsewhere.
  static Vector select(Bits bits, Vector on, Vector off) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<Vector>(_mm512_mask_blend_pd(static_cast<__mmask8>(bits),
                                                           reinterpret_cast<__m512d>(off),
                                                           reinterpret_cast<__m512d>(on)));
    else
      return reinterpret_cast<Vector>(_mm512_mask_blend_ps(static_cast<__mmask16>(bits),
                                                           reinterpret_cast<__m512>(off),
                                                           reinterpret_cast<__m512>(on)));
#else
    using Int = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
    // NOLINTNEXTLINE(modernize-use-using)
    typedef Int Mask __attribute__((vector_size(kVectorBytes), may_alias));
    Mask lane{};
    for (int l = 0; l < kLanes; ++l) lane[l] = Int(1) << l;
    const Mask chosen = (lane & (static_cast<Int>(bits) - Mask{})) != 0;
    return chosen ? on : off;
#endif
  }

  // max(0, z); what is not a number stays so.
  static Vector relu(Vector z) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<Vector>(
          _mm512_max_pd(_mm512_setzero_pd(), reinterpret_cast<__m512d>(z)));
    else
      return reinterpret_cast<Vector>(
          _mm512_max_ps(_mm512_setzero_ps(), reinterpret_cast<__m512>(z)));
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<Vector>(
          _mm256_max_pd(_mm256_setzero_pd(), reinterpret_cast<__m256d>(z)));
    else
      return reinterpret_cast<Vector>(
          _mm256_max_ps(_mm256_setzero_ps(), reinterpret_cast<__m256>(z)));
#elif defined(__SSE2__)
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<Vector>(_mm_max_pd(_mm_setzero_pd(), reinterpret_cast<__m128d>(z)));
    else
      return reinterpret_cast<Vector>(_mm_max_ps(_mm_setzero_ps(), reinterpret_cast<__m128>(z)));
#else
    return z > 0 ? z : T(0) * z;
#endif
  }

  // Vectors' bits in a word and back. Where a vector has whole bytes they are moved alone: a mask
  // register goes to memory and comes from it in one instruction.
  template <int V>
  static void store_bits(const Bits (&bits)[V], Word* word) {
    if constexpr (kWholeBytes) {
      for (int v = 0; v < V; ++v)
        std::memcpy(reinterpret_cast<char*>(word) + v * sizeof(Bits), &bits[v], sizeof(Bits));
    } else {
      std::uint64_t all = 0;
      for (int v = 0; v < V; ++v) all |= static_cast<std::uint64_t>(bits[v]) << (v * kLanes);
      *word = static_cast<Word>(all);
    }
  }

  static Bits load_bits(const Word* word, int v) {
    if constexpr (kWholeBytes) {
      Bits bits;
      std::memcpy(&bits,
                  reinterpret_cast<const char*>(word) + static_cast<std::size_t>(v) * sizeof(Bits),
                  sizeof(Bits));
      return bits;
    } else {
      return static_cast<Bits>(*word >> (v * kLanes) & ((1u << kLanes) - 1));
    }
  }

  // By halves: half as many additions wait for one another at each level.
  static T sum(Vector v) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
      return _mm512_reduce_add_pd(reinterpret_cast<__m512d>(v));
    else
      return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#else
    for (int half = kLanes / 2; half > 0; half /= 2)
      for (int l = 0; l < half; ++l) v[l] += v[l + half];
    return v[0];
#endif
  }

 private:
  static constexpr bool kWholeBytes = kLanes % 8 == 0 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
};

}  // namespace featcore
