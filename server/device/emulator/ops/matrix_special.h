// The kinds of mma that are not one dense product of a warp's fragments.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_

#include "server/device/emulator/program/form.h"

namespace trun::device {

// Which one; .sync.aligned and the words that say it have been taken.
enum class MmaKind {
  kSparse,     // mma.sp: half of A's elements, with metadata that says where they belong
  kScaled,     // .block_scale, and .kind::f8f6f4, whose elements of 4 bits are in the middle of bytes
  kQuadPairs,  // m8n8k4 of f16: four products, one per eight lanes
};

// Decodes the rest, from the layouts on.
Operation DecodeSpecialMma(Form& form, MmaKind kind, int m, int n, int k);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_MATRIX_SPECIAL_H_
