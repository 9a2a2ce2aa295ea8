// How instructions carry what is undefined from their sources to their destinations.
//
// Of every register and lane a mask says which bytes nothing has written: bit k is byte k, a predicate has
// bit 0. An operation on undefined bytes gives undefined bytes, no more of them than it must: a mask that
// clears them, a selection that does not take them, and the other half of a packed pair stay defined. Where
// an instruction is not known here its results count as defined: reports may be missing, never wrong.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_DEFINEDNESS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_DEFINEDNESS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "server/device/emulator/exec/instrument.h"

namespace trun::device {

inline constexpr uint32_t kNowhere = 0xffffffff;  // an origin: never written at all

using LaneBytes = std::array<uint16_t, 32>;    // undefined bytes of a register, by lane
using LaneOrigins = std::array<uint32_t, 32>;  // the instruction that they are from

constexpr uint16_t AllBytes(Width width) {
  switch (width) {
    case Width::kPredicate:
      return 1;
    case Width::k32:
      return 0xf;
    case Width::k64:
      return 0xff;
    case Width::k128:
      return 0xffff;
  }
  return 0;
}

// Of one warp's registers, by cell.
struct RegisterDefinedness {
  std::vector<LaneBytes> undefined;
  std::vector<LaneOrigins> origin;

  // Nothing is written.
  void Reset(uint32_t cells);
};

// What one instruction does to definedness, found once.
enum class Flow : uint8_t {
  kDefined,       // results are defined
  kAll,           // any undefined byte makes all of the result undefined
  kParts,         // the same, part by part (packed pairs)
  kBytes,         // byte by byte: moves, not, xor
  kAnd,           // as kBytes, but a zero of the other source defines a byte
  kOr,            // the same with all ones
  kLogic3,        // lop3: a byte of which no bit depends on an undefined one is defined
  kSelect,        // the source that the predicate takes
  kCompare,       // setp: two sources, and a predicate that may decide alone
  kComparePairs,  // setp of pairs: a predicate for each half
  kPack,          // parts side by side
  kUnpack,
  kShiftLeft,
  kShiftRight,
  kField,        // bfe
  kPermute,      // prmt in its plain mode
  kConvertPack,  // two sources, one half each, the first one above
  kNarrow,       // integers: low bytes taken over, the rest as `extends` says
  kShuffle,
  kVote,       // any undefined lane makes all lanes undefined
  kMultiply,   // mma, wmma.mma, movmatrix: checks/matrix_definedness.h
  kWarpgroup,  // wgmma
  kMemory,     // the check of memory sees to it
};

struct FlowRule {
  Flow flow = Flow::kDefined;
  uint32_t part_bytes = 2;    // kParts
  uint32_t table = 0;         // kLogic3
  uint32_t narrow_bytes = 4;  // kNarrow
  bool extends_sign = false;  // kNarrow
  uint32_t boolean = 0;       // kCompare: kSetpAnd, kSetpOr, kSetpXor
  bool negated = false;
};

FlowRule FlowOf(const Program& program, uint32_t pc);

// The definedness of the destinations of an instruction about to run, for all lanes; in the order of the
// destinations among its operands. kMemory, kMultiply and kWarpgroup give nothing.
struct FlowResult {
  LaneBytes undefined;
  LaneOrigins origin;
};
void Propagate(const FlowRule& rule, const WatchedStep& step, const RegisterDefinedness& registers,
               std::vector<FlowResult>* results);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_DEFINEDNESS_H_
