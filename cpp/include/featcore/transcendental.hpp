// exp, tanh and erf without branches and without calls, so that loops over them become vectors: the
// C library takes them one at a time, which at some 10 ns each is as long as the product beside it.
//
// Polynomials are Chebyshev fits in 50 digits (mpmath.chebyfit), written in powers. Errors are
// below 2 roundings of the result, unless the comment says otherwise. NaN stays NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace featcore::transcendental {

// c[0] + c[1] x + ..., from c[K] on.
template <std::size_t K = 0, class T, std::size_t N>
[[gnu::always_inline]] inline T polynomial(const T (&c)[N], T x) {
  if constexpr (K + 1 == N)
    return c[K];
  else
    return c[K] + x * polynomial<K + 1>(c, x);
}

template <class T>
struct Constants;

template <>
struct Constants<double> {
  using Bits = std::uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr Bits kBias = 1023;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLeast = -708;  // of exp, where it is a normal number
  static constexpr double kZero = -746;   // where it is 0 to rounding
  static constexpr double kLn2High = 0x1.62e42fefa0000p-1;
  static constexpr double kLn2Low = 0x1.cf79abc9e3b3ap-40;
  static constexpr double kExp[] = {1.0,
                                    1.0,
                                    1.0 / 2,
                                    1.0 / 6,
                                    1.0 / 24,
                                    1.0 / 120,
                                    1.0 / 720,
                                    1.0 / 5040,
                                    1.0 / 40320,
                                    1.0 / 362880,
                                    1.0 / 3628800,
                                    1.0 / 39916800,
                                    1.0 / 479001600,
                                    1.0 / 6227020800};
  // (tanh(z)/z - 1)/z^2 in z^2 < 0.625^2
  static constexpr double kTanh[] = {
      -0.3333333333333333332,    0.1333333333333332076,      -0.05396825396823590134,
      0.02186948853513322201,    -0.008863235499801992569,   0.003592127507599252229,
      -0.001455828399830324586,  0.0005899818158388232071,   -0.000238889446367511739,
      0.00009604109157026265988, -0.00003708106921544233385, 0.00001220992179016278166,
      -2.438831631472087804e-6};
  static constexpr double kTanhEnd = 22;  // 1 to rounding
  // erf(z)/z in z^2 < 1
  static constexpr double kErf[] = {
      1.128379167095512574,     -0.3761263890318374806,     0.1128379167095487867,
      -0.02686617064507679325,  0.005223977624818014467,    -0.0008548326980833789905,
      0.0001205533111164271092, -0.00001492559526683118157, 1.646100048412136803e-6,
      -1.635031270105469501e-7, 1.465977527404743581e-8,    -1.137284885679167367e-9,
      5.957176147748911404e-11};
  // erfc(z) exp(z^2) in t = (z - 2)/(z + 2), 1 <= z <= kErfEnd
  static constexpr double kErfc[] = {
      0.2553956763105057438,      -0.4271858474139583965,    0.2416581942424664639,
      -0.07897858101573212542,    0.003732892404327763925,   0.006997461739200443767,
      -0.0008471432509203844009,  -0.0009819770265678889227, 0.00004355560219515472207,
      0.0001743611654539226372,   0.0000275254803612060667,  -0.00002757986467430578585,
      -0.00001396807230177146069, 1.392621183618802935e-6,   3.789215643758463971e-6,
      1.178077521562558259e-6,    -5.322696855655786338e-7,  -4.215301054238320988e-7};
  static constexpr double kErfEnd = 6;
};

template <>
struct Constants<float> {
  using Bits = std::uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr Bits kBias = 127;
  static constexpr float kRound = 0x1.8p23f;
  static constexpr float kLeast = -87;
  static constexpr float kZero = -104;
  static constexpr float kLn2High = 0x1.62e4p-1f;
  static constexpr float kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr float kExp[] = {1.0f,      1.0f,       1.0f / 2,   1.0f / 6,
                                   1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
  static constexpr float kTanh[] = {-0.3333333317f, 0.1333330356f,    -0.05395925958f,
                                    0.02176891865f, -0.008343945516f, 0.002292744816f};
  static constexpr float kTanhEnd = 10;
  static constexpr float kErf[] = {1.128379166f,    -0.3761262667f,  0.1128359472f,
                                   -0.02685421201f, 0.005189087423f, -0.0008016864287f,
                                   7.875875063e-5f};
  static constexpr float kErfc[] = {0.2553956763f,     -0.4271858476f,   0.2416582111f,
                                    -0.07897852327f,   0.003732141351f,  0.006994855414f,
                                    -0.0008365899736f, -0.0009441596341f};
  static constexpr float kErfEnd = 4;
};

// exp(x) for x below 80. Where that is no normal number it is 0, or with Subnormal what it should
// be.
template <bool Subnormal = false, class T>
[[gnu::always_inline]] inline T exp(T x) {
  using C = Constants<T>;
  constexpr T kEnd = Subnormal ? C::kZero : C::kLeast;
  constexpr typename C::Bits kLift = 64;
  const T held = x < kEnd ? kEnd : x;
  const T shifted =
      held * static_cast<T>(1.4426950408889634) + C::kRound;  // 2^n, n in the low bits
  const T n = shifted - C::kRound;
  const T rest = (held - n * C::kLn2High) - n * C::kLn2Low;
  typename C::Bits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const bool lift = Subnormal && x < C::kLeast;
  bits = (bits + C::kBias + (lift ? kLift : 0)) << C::kMantissa;
  T power;
  std::memcpy(&power, &bits, sizeof power);
  const T value = polynomial(C::kExp, rest) * power;
  if constexpr (Subnormal) return lift ? value * static_cast<T>(0x1p-64) : value;
  return x < C::kLeast ? T(0) : value;
}

template <class T>
[[gnu::always_inline]] inline T tanh(T z) {
  using C = Constants<T>;
  const T size = z < 0 ? -z : z;
  const T square = z * z;
  const T near = z + z * (square * polynomial(C::kTanh, square));
  const T end = size > C::kTanhEnd ? C::kTanhEnd : size;
  const T far = 1 - 2 / (exp(2 * end) + 1);
  return size < static_cast<T>(0.625) ? near : (z < 0 ? -far : far);
}

// erf(z), given exp(-z^2).
template <class T>
[[gnu::always_inline]] inline T erf(T z, T gauss) {
  using C = Constants<T>;
  const T size = z < 0 ? -z : z;
  const T near = z * polynomial(C::kErf, z * z);
  const T end = size > C::kErfEnd ? C::kErfEnd : size;
  // beyond the end, gauss is nothing beside 1
  const T far = 1 - gauss * polynomial(C::kErfc, (end - 2) / (end + 2));
  return size < 1 ? near : (z < 0 ? -far : far);
}

}  // namespace featcore::transcendental
