// wgmma.mma_async: the product of a warpgroup, with operands in registers or in shared memory through matrix
// descriptors (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//
// Accumulation order, rounding and NaNs are those of mma.h. Pure functions, thread-safe.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_WGMMA_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_WGMMA_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/device/emulator/numerics/types.h"

namespace trun::device::numerics {

enum class Swizzle : uint8_t { kNone, k32, k64, k128 };

// The 64-bit matrix descriptor, decoded. Offsets are bytes.
struct MatrixDescriptor {
  uint32_t start = 0;  // in the shared window of the CTA
  uint32_t leading_offset = 0;
  uint32_t stride_offset = 0;
  uint32_t base_offset = 0;  // 0 … 7: rows of 128 bytes from a boundary of the pattern to its start
  Swizzle swizzle = Swizzle::kNone;
};
MatrixDescriptor DecodeMatrixDescriptor(uint64_t bits);

// Where the swizzle puts the byte whose plain address is `address`: 16-byte units are exchanged within 32, 64
// or 128 bytes by the exclusive-or with the number of the 128-byte row. Used by descriptors and by tensor
// copies.
constexpr uint32_t SwizzleAddress(Swizzle swizzle, uint32_t address, uint32_t base_offset = 0) {
  const uint32_t row = (address >> 7) - base_offset;
  switch (swizzle) {
    case Swizzle::kNone:
      return address;
    case Swizzle::k32:
      return address ^ (row & 1) << 4;
    case Swizzle::k64:
      return address ^ (row & 3) << 4;
    case Swizzle::k128:
      return address ^ (row & 7) << 4;
  }
  return address;
}

// Address of the 16-byte unit `unit` of the operand. K-major (not transposed): row `line` of M or N, unit 0
// or 1 along K. MN-major (transposed): `line` is the index along K, `unit` counts 16-byte units along M or N.
uint32_t MatrixUnitAddress(const MatrixDescriptor& descriptor, bool transposed, uint32_t line, uint32_t unit);

struct WgmmaShape {
  int n = 8;  // 8 … 256 in steps of 8 (integers: PTX's shorter list is the caller's check)
  Type a = Type::kF16, b = Type::kF16;  // kF16, kBf16, kTf32, kE4m3, kE5m2, kS8, kU8, kB1
  Type d = Type::kF32;                  // kF16, kF32, kS32
  bool a_in_registers = false;
  bool transpose_a = false, transpose_b = false;  // 16-bit types only
  bool negate_a = false, negate_b = false;        // imm-scale-a, imm-scale-b of -1; floats only
  bool satfinite = false;                         // integers
  bool sparse = false;                            // half of A's elements, with metadata; K is twice as long
  int selector = 0;                               // of the lanes with metadata

  friend bool operator==(const WgmmaShape&, const WgmmaShape&) = default;
};

// Elements of A along K: 32 bytes. A sparse product has twice as many of B.
constexpr int WgmmaDepth(Type a) { return 256 / BitsOf(a); }
// Registers of D a thread: n / 2 of 32 bits, or n / 4 that hold two f16.
constexpr int WgmmaAccumulators(const WgmmaShape& s) { return s.d == Type::kF16 ? s.n / 4 : s.n / 2; }
// False for a combination that PTX does not have.
bool IsValidWgmma(const WgmmaShape& shape);

struct WgmmaOperands {
  const uint32_t* a[4][4] = {};  // [warp][register], where A is in registers
  uint64_t a_descriptor = 0, b_descriptor = 0;
  const uint32_t* metadata[4] = {};  // [warp]: a register of 32 lanes, where the product is sparse
  uint32_t* d[4][128] = {};          // [warp][register]; the accumulator and the result
  bool scale_d = true;               // false: D = A · B
};

// Runs it for all four warps. `shared` is the CTA's shared memory from address 0 of its window. Returns the
// first address that lies outside of it, nothing having been written then; nothing when all went well.
// REQUIRES: IsValidWgmma(shape).
absl::optional<uint32_t> Wgmma(const WgmmaShape& shape, const WgmmaOperands& operands,
                               absl::Span<const uint8_t> shared);

// The check that Wgmma makes first, alone.
absl::optional<uint32_t> CheckWgmmaOperands(const WgmmaShape& shape, const WgmmaOperands& operands,
                                            absl::Span<const uint8_t> shared);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_WGMMA_H_
