// Operations that are compiled once per instruction set of the host: loops over the 32 lanes that the
// compiler vectorises. Only selectors are exported; their files include nothing that could leak into other
// objects.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_OPERATIONS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_OPERATIONS_H_

#include <cstdint>

#include "server/device/emulator/program/form.h"
#include "server/device/emulator/program/instruction.h"
#include "server/device/emulator/program/type.h"

namespace trun::device {

// Operands: 0 the destination, 1, 2, 3 the sources.
enum class LaneOpcode : uint8_t {
  // two sources
  kAdd,
  kSub,
  kMulLo,
  kMulHi,
  kMulWide,
  kDiv,
  kRem,
  kMin,
  kMax,
  kAnd,
  kOr,
  kXor,
  kShl,
  kShr,
  kAddSat,
  kSubSat,
  kMul24Lo,
  kMul24Hi,
  kBmskClamp,
  kBmskWrap,
  kMinRelu,
  kMaxRelu,
  // one source
  kMov,
  kNot,
  kCnot,
  kNeg,
  kAbs,
  kClz,
  kPopc,
  kBrev,
  kBfind,
  kBfindShift,
  // three sources
  kMadLo,
  kMadHi,
  kMadWide,
  kMadHiSat,
  kMad24Lo,
  kMad24Hi,
  kMad24HiSat,
  kSad,
  kBfe,
  kShfLWrap,
  kShfLClamp,
  kShfRWrap,
  kShfRClamp,
  // prmt, by mode; lop3 has its table in immediate
  kPrmt,
  kPrmtF4e,
  kPrmtB4e,
  kPrmtRc8,
  kPrmtEcl,
  kPrmtEcr,
  kPrmtRc16,
  kLop3,
  // four sources
  kBfi,
  // a predicate in operand 3
  kSelp,
  // carries: immediate bit 0: carry in, bit 1: carry out
  kAddCarry,
  kSubCarry,
  kMadLoCarry,
  kMadHiCarry,
};

enum class Comparison : uint8_t {
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,  // integers; floats: false with NaN (ne too)
  kEqu,
  kNeu,
  kLtu,
  kLeu,
  kGtu,
  kGeu,  // floats: true with NaN
  kNum,
  kNan,
};

// How setp combines: immediate bits.
inline constexpr int64_t kSetpAnd = 1, kSetpOr = 2, kSetpXor = 3;  // with the predicate in operand 4
inline constexpr int64_t kSetpNegate = 4;                          // that predicate
inline constexpr int64_t kSetpSecond = 8;                          // operand 3 is the second destination
inline constexpr int64_t kSetpFtz = 16;

struct MemoryForm {
  uint32_t bytes = 4;        // of one element: 1, 2, 4, 8 or 16
  uint32_t vector = 1;       // elements
  bool is_signed = false;    // ld: sign-extends
  Width width = Width::k32;  // of the data registers
  bool address32 = false;
  Space space = Space::kGlobal;
};

struct LaneOperations {
  const char* name;
  Operation (*integer)(LaneOpcode opcode, Type type);
  // Operands: 0 the predicate, 1 and 2 the sources; see kSetp….
  Operation (*compare)(Comparison comparison, Type type);
  // Integer to integer, wrapping; with `saturate` clamping to the range of `to`. Operands 0 and 1, of the
  // widths.
  Operation (*convert)(Type to, Width to_width, Type from, Width from_width, bool saturate);
  // Operands: 0 the address, list (slot 7 …) the data.
  Operation (*load)(const MemoryForm& form);
  Operation (*store)(const MemoryForm& form);
  // From the parameter buffer at `immediate`.
  Operation (*load_parameter)(const MemoryForm& form);
};

// The table that suits this host best. Thread-safe.
const LaneOperations& HostLaneOperations();

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_OPERATIONS_H_
