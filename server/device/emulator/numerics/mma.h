// mma.sync over warp fragments.
//
// Accumulation order and rounding: for each element of D, acc = C, then for k = 0 … K-1 in order
// acc = round(acc + A[i,k] · B[k,j]), the product exact and one rounding to nearest even per step, in f32 for
// f16, bf16, tf32, fp8, fp6 and fp4 operands (tf32 operands are cut to 19 bits first), in f64 for f64. With
// an f16 accumulator the sum is kept in f32 and rounded to f16 once, at the end. Tensor cores add groups of
// products with truncation below a few extra bits, so they differ in the last bits; this order's error is no
// larger than theirs. Integers are exact: wrapping, or with satfinite clamped to s32 once at the end. NaN
// results are canonical.
//
// Pure functions, thread-safe; results are the same on every host.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MMA_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MMA_H_

#include <cstdint>

#include "server/device/emulator/numerics/types.h"

namespace trun::device::numerics {

struct MmaShape {
  int m = 16, n = 8, k = 16;
  Type a = Type::kF16,
       b = Type::kF16;  // kS4, kU4, kB1 too; a and b may differ among fp8 or among 8- or 4-bit ints
  Type c = Type::kF32, d = Type::kF32;  // kF16, kF32, kF64 or kS32
  bool satfinite = false;               // integers
  bool b1_and = false;                  // .b1: .and.popc instead of .xor.popc

  friend bool operator==(const MmaShape&, const MmaShape&) = default;
};

// Registers of one fragment in PTX order, each 32 lanes: uint32_t, or uint64_t where the type is f64.
// Pointers past the count that the shape needs are not read. d may be the same registers as c.
struct MmaRegisters {
  const void* a[8] = {};
  const void* b[4] = {};
  const void* c[8] = {};
  void* d[8] = {};
};

// How many registers each operand has; all zero for a shape that PTX does not have.
struct MmaCounts {
  int a = 0, b = 0, c = 0, d = 0;
};
MmaCounts CountsOf(const MmaShape& shape);

using MmaFunction = void (*)(const MmaShape& shape, const MmaRegisters& registers);

// The function for `shape`, to be called with that same shape; null when CountsOf says zero. Shapes:
// m16n8k{8,16} f16 and bf16, m16n8k{4,8} tf32, m16n8k{16,32} fp8 (and fp6, fp4 in byte containers), m8n8k16
// and m16n8k{16,32} s8/u8, m8n8k32 and m16n8k{32,64} s4/u4, m8n8k128 and m16n8k{128,256} b1, m8n8k4 and
// m16n8k{4,8,16} f64.
MmaFunction SelectMma(const MmaShape& shape);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MMA_H_
