#include "server/device/emulator/numerics/convert.h"

#include <algorithm>
#include <bit>

#include "server/device/emulator/numerics/float_format.h"
#include "server/device/emulator/numerics/variant.h"

namespace trun::device::numerics {
namespace {

struct Integer {
  bool negative = false;
  uint64_t magnitude = 0;
};

uint64_t MaskOf(int bits) { return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

int64_t SignExtend(uint64_t value, int bits) {
  return static_cast<int64_t>(value << (64 - bits)) >> (64 - bits);
}

Integer ReadInteger(Type type, uint64_t value) {
  const int bits = BitsOf(type);
  if (!IsSigned(type)) return {false, value & MaskOf(bits)};
  const int64_t v = SignExtend(value, bits);
  return {v < 0, v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v)};
}

uint64_t FinishInteger(Type type, uint64_t value) {
  if (type == Type::kS8) return static_cast<uint32_t>(SignExtend(value, 8));
  return value & MaskOf(BitsOf(type));
}

uint64_t ClampInteger(Type type, const Integer& v) {
  const int bits = BitsOf(type);
  if (IsSigned(type)) {
    const uint64_t limit = uint64_t{1} << (bits - 1);
    if (v.negative) return FinishInteger(type, uint64_t{0} - (v.magnitude > limit ? limit : v.magnitude));
    return FinishInteger(type, v.magnitude > limit - 1 ? limit - 1 : v.magnitude);
  }
  if (v.negative) return 0;
  return v.magnitude > MaskOf(bits) ? MaskOf(bits) : v.magnitude;
}

// The decoded finite value rounded to an integer; saturates at 2^64 - 1.
Integer RoundToInteger(const Decoded& d, Rounding rounding) {
  if (d.exponent >= 0) {
    const int room = std::countl_zero(d.significand);
    if (d.exponent > room) return {d.negative, ~uint64_t{0}};
    return {d.negative, d.significand << d.exponent};
  }
  return {d.negative, RoundedShift(d.significand, -d.exponent, rounding, d.negative)};
}

uint64_t ReadFloatBits(Type type, uint64_t value) {
  if (type == Type::kTf32) return (value & 0xffffffff) >> 13;
  return value & MaskOf(BitsOf(type));
}

// NaNs become the canonical one, but for what an H200 was seen to do: from and to f64 the sign and the upper
// bits of the payload stay (made quiet), unless .ftz makes an f32 operand canonical first; bf16 becomes the
// upper half of an f32 as it is; .rna.tf32 cuts the bits below.
uint64_t NanFor(const Conversion& c, const FloatFormat& f, const Decoded& d, uint64_t value) {
  if (c.from == Type::kBf16 && c.to == Type::kF32) return value << 16 & 0xffffffff;
  if (c.to == Type::kTf32) return c.rounding == Rounding::kNearestAway ? value & 0xffffe000 : 0x7fffe000;
  if (c.to == Type::kF64 && c.from == Type::kF32 && c.ftz) return 0x7fffffffe0000000;
  const bool wide = c.to == Type::kF64 || c.from == Type::kF64;
  if (!wide || f.infinity == 0) return f.nan != 0 ? f.nan : f.max_finite;
  const uint64_t quiet = uint64_t{1} << (f.mantissa_bits - 1);
  return (d.negative ? uint64_t{1} << f.sign_shift() : 0) | f.infinity | quiet |
         d.significand >> (52 - f.mantissa_bits);
}

// Flushes and clamps what Round gave, and puts tf32 where PTX has it.
uint64_t FinishFloat(const Conversion& c, const FloatFormat& f, uint64_t bits) {
  const uint64_t sign = uint64_t{1} << f.sign_shift();
  const uint64_t magnitude = bits & (sign - 1);
  if (c.ftz && c.to == Type::kF32 && magnitude < (uint64_t{1} << f.mantissa_bits)) bits &= sign;
  if ((c.sat || c.relu) && (bits & sign)) bits = 0;
  if (c.sat) {
    const uint64_t one = static_cast<uint64_t>(f.bias) << f.mantissa_bits;
    if (bits > one) bits = one;
  }
  return c.to == Type::kTf32 ? bits << 13 : bits;
}

uint64_t ToUe8m0(const Conversion& c, const Decoded& d) {
  if (d.kind == FloatClass::kNan) return 0xff;
  if (d.kind == FloatClass::kZero) return 0;
  if (d.kind == FloatClass::kInfinity) return 0xfe;
  const int top = 63 - std::countl_zero(d.significand);
  int exponent = d.exponent + top + 127;
  const bool inexact = !std::has_single_bit(d.significand);
  if (c.rounding == Rounding::kUp && inexact) ++exponent;
  return exponent < 0 ? 0 : (exponent > 0xfe ? 0xfe : exponent);
}

uint64_t FromDecoded(const Conversion& c, const Decoded& d, uint64_t value) {
  if (c.to == Type::kUe8m0) return ToUe8m0(c, d);
  if (IsInteger(c.to)) {
    const int bits = BitsOf(c.to);
    switch (d.kind) {
      case FloatClass::kNan:
        return c.from == Type::kF64 || bits == 64 ? FinishInteger(c.to, uint64_t{1} << (bits - 1)) : 0;
      case FloatClass::kInfinity:
        return ClampInteger(c.to, {d.negative, ~uint64_t{0}});
      case FloatClass::kZero:
        return 0;
      case FloatClass::kFinite:
        return ClampInteger(c.to, RoundToInteger(d, c.rounding));
    }
  }
  const FloatFormat f = FormatOf(c.to);
  const uint64_t sign = d.negative ? uint64_t{1} << f.sign_shift() : 0;
  switch (d.kind) {
    case FloatClass::kNan:
      return c.sat ? 0 : NanFor(c, f, d, value);
    case FloatClass::kInfinity:
      return FinishFloat(c, f, sign | (c.satfinite || f.infinity == 0 ? f.max_finite : f.infinity));
    case FloatClass::kZero:
      return FinishFloat(c, f, sign);
    case FloatClass::kFinite:
      break;
  }
  if (c.to_integral) {
    const bool has_fraction = d.exponent < 0;
    if (has_fraction) {
      const Integer v = RoundToInteger(d, c.rounding);
      return FinishFloat(c, f, Round(f, d.negative, v.magnitude, 0, Rounding::kNearestEven, c.satfinite));
    }
  }
  return FinishFloat(c, f, Round(f, d.negative, d.significand, d.exponent, c.rounding, c.satfinite));
}

void ConvertGeneric(const Conversion& c, const void* source, void* destination) {
  const bool wide_from = BitsOf(c.from) == 64, wide_to = BitsOf(c.to) == 64;
  uint64_t in[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    in[i] = wide_from ? static_cast<const uint64_t*>(source)[i] : static_cast<const uint32_t*>(source)[i];
  }
  for (int i = 0; i < kLanes; ++i) {
    const uint64_t out = Convert(c, in[i]);
    if (wide_to) {
      static_cast<uint64_t*>(destination)[i] = out;
    } else {
      static_cast<uint32_t*>(destination)[i] = static_cast<uint32_t>(out);
    }
  }
}

// Bits from one element of a pair to the next: fp6 has byte containers, fp4 shares one byte.
// A pair fills a register of 32 bits.
int PairStride(Type type) {
  const int bits = BitsOf(type);
  return bits == 6 ? 8 : std::min(bits, 16);
}

}  // namespace

uint64_t Convert(const Conversion& c, uint64_t value) {
  if (IsInteger(c.from)) {
    const Integer v = ReadInteger(c.from, value);
    if (!IsInteger(c.to)) {
      Decoded d;
      d.kind = v.magnitude == 0 ? FloatClass::kZero : FloatClass::kFinite;
      d.negative = v.negative;
      d.significand = v.magnitude;
      return FromDecoded(c, d, value);
    }
    if (c.sat) return ClampInteger(c.to, v);
    return FinishInteger(c.to, v.negative ? uint64_t{0} - v.magnitude : v.magnitude);
  }
  if (c.from == Type::kUe8m0) {
    Decoded d;
    value &= 0xff;
    d.kind = value == 0xff ? FloatClass::kNan : FloatClass::kFinite;
    d.significand = 1;
    d.exponent = static_cast<int>(value) - 127;
    return FromDecoded(c, d, value);
  }
  Decoded d = Decode(FormatOf(c.from), ReadFloatBits(c.from, value));
  if (c.ftz && c.from == Type::kF32 && d.kind == FloatClass::kFinite && d.significand < (uint64_t{1} << 23)) {
    d.kind = FloatClass::kZero;
  }
  return FromDecoded(c, d, value);
}

ConvertLanes SelectConvert(const Conversion& conversion) {
  if (ConvertLanes fast = CurrentVariant().select_convert(conversion)) return fast;
  return &ConvertGeneric;
}

void ConvertTwoToPair(const Conversion& c, const uint32_t* upper, const uint32_t* lower,
                      uint32_t* destination) {
  uint32_t high[kLanes], low[kLanes];
  const ConvertLanes convert = SelectConvert(c);
  convert(c, upper, high);
  convert(c, lower, low);
  const int stride = PairStride(c.to);
  for (int i = 0; i < kLanes; ++i) destination[i] = high[i] << stride | low[i];
}

void ConvertPairToPair(const Conversion& c, const uint32_t* source, uint32_t* destination) {
  uint32_t high[kLanes], low[kLanes];
  const ConvertLanes convert = SelectConvert(c);
  const int from_stride = PairStride(c.from), to_stride = PairStride(c.to);
  const uint32_t mask = static_cast<uint32_t>(MaskOf(from_stride));
  for (int i = 0; i < kLanes; ++i) {
    high[i] = source[i] >> from_stride & mask;
    low[i] = source[i] & mask;
  }
  convert(c, high, high);
  convert(c, low, low);
  for (int i = 0; i < kLanes; ++i) destination[i] = high[i] << to_stride | low[i];
}

double ToDouble(Type type, uint64_t bits) {
  return std::bit_cast<double>(Convert({.to = Type::kF64, .from = type}, bits));
}

}  // namespace trun::device::numerics
