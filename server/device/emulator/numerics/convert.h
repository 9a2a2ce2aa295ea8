// cvt: between every pair of PTX types, with every rounding, bit-exact (PTX ISA, "Data Movement and
// Conversion Instructions: cvt").
//
// Pure functions, thread-safe.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_CONVERT_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_CONVERT_H_

#include <cstdint>

#include "server/device/emulator/numerics/types.h"

namespace trun::device::numerics {

// cvt.<rounding>{.ftz}{.sat}{.satfinite}{.relu}.<to>.<from>
struct Conversion {
  Type to = Type::kF32;
  Type from = Type::kF32;
  Rounding rounding = Rounding::kNearestEven;
  bool to_integral = false;  // .rni .rzi .rmi .rpi between floats of one type: round to an integral value
  bool ftz = false;          // subnormal f32 operand and result become zero with their sign
  bool sat = false;          // integers: clamp to the range of `to`; floats: clamp to [0, 1], NaN gives 0
  bool satfinite = false;  // overflow gives the largest finite value (NaN stays NaN where the format has one)
  bool relu = false;       // negative results become 0; NaN stays NaN

  friend bool operator==(const Conversion&, const Conversion&) = default;
};

// One element: the bits of `from` in the low bits of `value`, the bits of `to` in the low bits of the result
// (signed 8-bit results sign-extended to 32 bits, tf32 in the place PTX puts it: an f32 whose low 13 bits are
// zero). Float to integer clamps always; NaN gives 0, or 1 << (bits - 1) when `from` is f64 or `to` has 64
// bits.
uint64_t Convert(const Conversion& conversion, uint64_t value);

// All 32 lanes; `source` and `destination` hold lanes as types.h says and may be the same array when the
// lanes of both have the same width. The function fits the host (AVX2, AVX-512); results are the same
// everywhere.
using ConvertLanes = void (*)(const Conversion& conversion, const void* source, void* destination);
ConvertLanes SelectConvert(const Conversion& conversion);

// cvt to a pair: f16x2, bf16x2, e4m3x2, e5m2x2, e2m3x2, e3m2x2, e2m1x2, ue8m0x2 from two f32 (`upper` is
// PTX's operand a and becomes the upper element). `conversion.to` names the element. Pairs of 4-bit elements
// fill one byte.
void ConvertTwoToPair(const Conversion& conversion, const uint32_t* upper, const uint32_t* lower,
                      uint32_t* destination);

// cvt from a pair to a pair: f16x2 from e4m3x2 ..., e4m3x2 from f16x2, bf16x2 from ue8m0x2 ...
void ConvertPairToPair(const Conversion& conversion, const uint32_t* source, uint32_t* destination);

// The value of one element as a double, exact (every format here fits); NaN becomes a quiet NaN.
double ToDouble(Type type, uint64_t bits);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_CONVERT_H_
