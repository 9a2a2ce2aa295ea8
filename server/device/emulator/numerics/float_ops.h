// Floating-point arithmetic of PTX on 32 lanes: f16, bf16, f32, f64 and packed pairs, with every rounding
// mode and modifier; bit-exact where PTX specifies the result (rn, rz, rm, rp), one rounding each, canonical
// NaNs.
//
// Pure functions, thread-safe (directed roundings set and restore the thread's MXCSR). Results are the same
// on every host: run-time dispatch changes the speed only.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_OPS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_OPS_H_

#include <cstdint>

#include "server/device/emulator/numerics/types.h"

namespace trun::device::numerics {

enum class FloatOpcode : uint8_t {
  kAdd,
  kSub,
  kMul,
  kFma,  // all types
  kMin,
  kMax,
  kAbs,
  kNeg,  // all types
  kDiv,
  kSqrt,
  kRcp,  // f32, f64: the .rn .rz .rm .rp forms
  // Approximations. Documented bounds are those of PTX ISA; ours are in approx.inc.
  kEx2Approx,
  kTanhApprox,  // f32, f16, bf16
  kLg2Approx,
  kSinApprox,
  kCosApprox,  // f32
  kRcpApprox,
  kRsqrtApprox,  // f32, f64 (.ftz.f64: the upper 32 bits only)
  kSqrtApprox,
  kDivApprox,
  kDivFull,  // f32
};

struct FloatOp {
  FloatOpcode opcode = FloatOpcode::kAdd;
  Type type = Type::kF32;  // kF16, kBf16, kF32, kF64
  bool packed = false;     // f16x2, bf16x2 (and f32x2: two f32 in a uint64_t lane)
  Rounding rounding = Rounding::kNearestEven;
  bool ftz = false;          // f32 and f16: subnormal operands and results become zero with their sign
  bool sat = false;          // clamp to [0, 1]; NaN gives +0
  bool relu = false;         // fma: negative results become +0; NaN stays canonical NaN
  bool nan = false;          // min, max: .NaN, a NaN operand gives NaN
  bool xorsign_abs = false;  // min, max: of the magnitudes, with the exclusive-or of the signs

  friend bool operator==(const FloatOp&, const FloatOp&) = default;
};

// Computes all 32 lanes. Unused operands are null. `d` may be any of a, b, c.
using FloatLanes = void (*)(const FloatOp& op, const void* a, const void* b, const void* c, void* d);

// The function for `op`, to be called with that same op; null where the combination is none of PTX's.
FloatLanes SelectFloatOp(const FloatOp& op);

// The host's instruction sets that numerics uses: "avx512", "avx2" or "baseline".
const char* NumericsVariant();

// Makes every Select function choose this variant ("avx512", "avx2", "baseline", or null for the best); false
// when the host lacks it. For tests that compare variants; not thread-safe against Select.
bool ForceNumericsVariant(const char* name);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_FLOAT_OPS_H_
