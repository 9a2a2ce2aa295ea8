// Operations that the kernel decoder makes itself: control flow and calls into the system.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_CONTROL_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_CONTROL_H_

#include <cstdint>
#include <vector>

#include "server/device/emulator/exec/warp.h"

namespace trun::device {

// immediate: the target's index.
Step OpBranch(Warp& warp, const Instruction& in, uint32_t mask);
// operand 0: the index register; data: BranchTable.
Step OpBranchIndexed(Warp& warp, const Instruction& in, uint32_t mask);
struct BranchTable {
  std::vector<uint32_t> targets;
};

Step OpExit(Warp& warp, const Instruction& in, uint32_t mask);
Step OpTrap(Warp& warp, const Instruction& in, uint32_t mask);
Step OpNothing(Warp& warp, const Instruction& in, uint32_t mask);

// data: CallArguments, offsets in the thread's local memory.
struct CallArguments {
  std::vector<uint32_t> arguments;
  std::vector<uint32_t> results;
};
Step OpPrintf(Warp& warp, const Instruction& in, uint32_t mask);
Step OpAssertFail(Warp& warp, const Instruction& in, uint32_t mask);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_CONTROL_H_
