// The kinds of mma that are not one dense product of a warp's fragments.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_

#include <cstdint>

#include "server/device/emulator/numerics/types.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

// Which one; .sync.aligned and the words that say it have been taken.
enum class MmaKind {
  kSparse,     // mma.sp: half of A's elements, with metadata that says where they belong
  kScaled,     // .block_scale, and .kind::f8f6f4, whose elements of 4 bits are in the middle of bytes
  kQuadPairs,  // m8n8k4 of f16: four products, one per eight lanes
};

// A decoded one: what Instruction::data points to.
struct SpecialMma {
  using Element = numerics::Type;

  MmaKind kind = MmaKind::kSparse;
  int k = 0;
  Element a = Element::kF16, b = Element::kF16, c = Element::kF32, d = Element::kF32;
  int bits = 16;           // of an element as a register holds it
  bool satfinite = false;  // integers
  uint32_t selector = 0;   // sparse
  int scales = 0;          // scaled: scale factors in a row of A; 0: none
  Element scale = Element::kUe8m0;
  bool a_by_column = false, b_by_row = false;  // quad pairs
  int count_a = 0, count_b = 0, count_c = 0, count_d = 0;

  // Where the fragments are in the list, and the other operands in slots.
  static constexpr int kListD = 0, kListA = 8, kListB = 16, kListC = 24;
  static constexpr int kMetadata = 0, kScaleA = 0, kByteA = 1, kThreadA = 2, kScaleB = 3, kByteB = 4,
                       kThreadB = 5;
};

// Decodes the rest, from the layouts on.
Operation DecodeSpecialMma(Form& form, MmaKind kind, int m, int n, int k);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_
