// Decoded wmma instructions: what Instruction::data points to.
//
// PTX leaves it open which lane holds which element of a fragment. Here lane l holds the l-th part of the
// matrix taken row by row (A by rows of M, B by rows of K, C and D by rows of M), packed as in memory, and
// again in what registers are left.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_WMMA_FORM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_WMMA_FORM_H_

#include "server/device/emulator/numerics/types.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

struct WmmaFragment {
  int rows = 0, columns = 0;
  numerics::Type element = numerics::Type::kF16;
  int registers = 0;

  int bits() const { return numerics::BitsOf(element); }
  int elements() const { return rows * columns; }
  int per_lane() const { return elements() / 32; }
  // Registers before they repeat.
  int words() const { return bits() == 64 ? registers : per_lane() * bits() / 32; }
};

struct WmmaShape {
  int m = 0, n = 0, k = 0;
};

// wmma.load, wmma.store: the address in slot 0, the stride in slot 1, the registers in the list.
struct WmmaAccess {
  WmmaFragment fragment;
  bool by_column = false;
  bool has_stride = false;
  bool store = false;
  bool wide = true;  // the address has 64 bits
  Space space = Space::kGeneric;
};

// wmma.mma
struct WmmaProduct {
  WmmaShape shape;
  WmmaFragment a, b, c, d;
  bool satfinite = false;
  bool bits_and = false;

  // Where the fragments are in the list.
  static constexpr int kListD = 0, kListA = 8, kListB = 16, kListC = 24;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_WMMA_FORM_H_
