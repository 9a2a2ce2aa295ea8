// Floating-point formats as data: decoding to sign, significand and exponent, and rounding back, exactly
// once.
//
// Pure functions, thread-safe. IEEE 754-2019 §3.4 for the binary formats; OCP "8-bit Floating Point
// Specification" for e4m3 and e5m2; OCP "Microscaling Formats" for e2m1, e2m3, e3m2 and ue8m0 (ue8m0 is
// handled in convert.cc).
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_FORMAT_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_FORMAT_H_

#include <cstdint>

#include "server/device/emulator/numerics/types.h"

namespace trun::device::numerics {

struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  uint64_t max_finite;  // bits, without the sign
  uint64_t infinity;    // bits, without the sign; 0: the format has none
  uint64_t nan;         // canonical, with its sign; 0: the format has none
  constexpr int sign_shift() const { return exponent_bits + mantissa_bits; }
};

// REQUIRES: a floating-point type other than kUe8m0. tf32 is f32 with 10 bits of mantissa in the upper 19
// bits of the register: its format describes those 19 bits.
constexpr FloatFormat FormatOf(Type t) {
  switch (t) {
    case Type::kF16:
      return {5, 10, 15, 0x7bff, 0x7c00, kNanF16};
    case Type::kBf16:
      return {8, 7, 127, 0x7f7f, 0x7f80, kNanBf16};
    case Type::kTf32:
      return {8, 10, 127, 0x3fbff, 0x3fc00, 0x3ffff};
    case Type::kF64:
      return {11, 52, 1023, 0x7fefffffffffffff, 0x7ff0000000000000, kNanF64};
    case Type::kE4m3:
      return {4, 3, 7, 0x7e, 0, 0x7f};
    case Type::kE5m2:
      return {5, 2, 15, 0x7b, 0x7c, 0x7f};
    case Type::kE2m1:
      return {2, 1, 1, 0x7, 0, 0};
    case Type::kE2m3:
      return {2, 3, 1, 0x1f, 0, 0};
    case Type::kE3m2:
      return {3, 2, 3, 0x1f, 0, 0};
    default:
      return {8, 23, 127, 0x7f7fffff, 0x7f800000, kNanF32};
  }
}

enum class FloatClass : uint8_t { kZero, kFinite, kInfinity, kNan };

// The value is significand · 2^exponent, negated when `negative`; exact. Of a NaN, the significand is its
// mantissa, aligned to the 52 bits of f64.
struct Decoded {
  FloatClass kind = FloatClass::kZero;
  bool negative = false;
  int exponent = 0;
  uint64_t significand = 0;
};

constexpr Decoded Decode(const FloatFormat& f, uint64_t bits) {
  Decoded d;
  d.negative = (bits >> f.sign_shift()) & 1;
  const uint64_t magnitude = bits & ((uint64_t{1} << f.sign_shift()) - 1);
  const uint64_t mantissa = magnitude & ((uint64_t{1} << f.mantissa_bits) - 1);
  const int biased = static_cast<int>(magnitude >> f.mantissa_bits);
  if (magnitude > f.max_finite) {
    d.kind = f.infinity != 0 && magnitude == f.infinity ? FloatClass::kInfinity : FloatClass::kNan;
    if (d.kind == FloatClass::kNan) d.significand = mantissa << (52 - f.mantissa_bits);
    return d;
  }
  if (magnitude == 0) return d;
  d.kind = FloatClass::kFinite;
  d.significand = biased == 0 ? mantissa : mantissa | (uint64_t{1} << f.mantissa_bits);
  d.exponent = (biased == 0 ? 1 : biased) - f.bias - f.mantissa_bits;
  return d;
}

// |value| · 2^-drop as an integer, rounded as the number of that sign is. REQUIRES: drop >= 1.
constexpr uint64_t RoundedShift(uint64_t value, int drop, Rounding rounding, bool negative) {
  uint64_t kept = 0;
  int half = -1;  // the dropped part against half a unit: -1 less, 0 equal, 1 more
  bool inexact = value != 0;
  if (drop <= 64) {
    kept = drop == 64 ? 0 : value >> drop;
    const uint64_t rest = drop == 64 ? value : value & ((uint64_t{1} << drop) - 1);
    const uint64_t middle = uint64_t{1} << (drop - 1);
    inexact = rest != 0;
    half = rest < middle ? -1 : (rest == middle ? 0 : 1);
  }
  switch (rounding) {
    case Rounding::kNearestEven:
      return kept + (half > 0 || (half == 0 && (kept & 1) != 0));
    case Rounding::kNearestAway:
      return kept + (half >= 0);
    case Rounding::kTowardZero:
      return kept;
    case Rounding::kDown:
      return kept + (negative && inexact);
    case Rounding::kUp:
      return kept + (!negative && inexact);
  }
  return kept;
}

// Rounds significand · 2^exponent to the format, once. A significand whose exact value has more bits carries
// a sticky one in its lowest bit; it must then have at least two bits more than the format. Overflow gives
// infinity or the largest finite value as the rounding asks, always the latter with `satfinite` or where
// there is no infinity.
constexpr uint64_t Round(const FloatFormat& f, bool negative, uint64_t significand, int exponent,
                         Rounding rounding, bool satfinite) {
  const uint64_t sign = negative ? uint64_t{1} << f.sign_shift() : 0;
  if (significand == 0) return sign;
  const int zeros = __builtin_clzll(significand);
  significand <<= zeros;
  const int value_exponent = exponent - zeros + 63;
  const int min_exponent = 1 - f.bias;
  const bool subnormal = value_exponent < min_exponent;
  int drop = 63 - f.mantissa_bits;
  if (subnormal) drop += min_exponent - value_exponent;
  const uint64_t kept = RoundedShift(significand, drop, rounding, negative);
  const int biased = subnormal ? 0 : value_exponent + f.bias - 1;
  const uint64_t magnitude = biased > (1 << f.exponent_bits)
                                 ? ~uint64_t{0} >> 2
                                 : (static_cast<uint64_t>(biased) << f.mantissa_bits) + kept;
  if (magnitude <= f.max_finite) return sign | magnitude;
  const bool to_finite = rounding == Rounding::kTowardZero || (rounding == Rounding::kDown && !negative) ||
                         (rounding == Rounding::kUp && negative);
  if (satfinite || to_finite || f.infinity == 0) return sign | f.max_finite;
  return sign | f.infinity;
}

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_FORMAT_H_
