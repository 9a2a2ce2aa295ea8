// From the registers that a kernel declares to offsets in the register file of a warp.
//
// PTX is written in a form with a fresh register for every value; a warp's file with all of them would be
// megabytes. Values whose lives do not overlap share a slot, so that a warp's working set stays in the first
// caches.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_REGISTER_ALLOCATION_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_REGISTER_ALLOCATION_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/device/emulator/program/form.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {

enum class ValueKind : uint8_t { kRegister, kConstant, kSpecial };

// What an operand can name.
struct Value {
  ValueKind kind = ValueKind::kRegister;
  Width width = Width::k32;
  SpecialRegister special = SpecialRegister::kTidX;
  uint64_t constant = 0;
  absl::string_view name;  // of a register, in the module's text
};

// Operand `slot` of instruction `instruction` is `value`.
struct OperandUse {
  uint32_t instruction = 0;
  uint32_t slot = 0;  // 7 and above: in the list; kGuardSlot: the guard
  uint32_t value = 0;
  bool is_definition = false;
  bool early = false;  // written before all sources are read
};

inline constexpr uint32_t kGuardSlot = 0xffffffff;

// Where control goes after an instruction.
struct FlowEdge {
  std::vector<uint32_t> targets;  // besides the next instruction
  bool falls_through = true;
};

struct AllocationInput {
  std::vector<Value> values;
  std::vector<OperandUse> uses;                         // by instruction, sources before definitions
  std::vector<uint32_t> list_begin;                     // of each instruction's list in program.lists
  std::vector<bool> guarded;                            // a definition may leave the old value
  std::vector<std::pair<uint32_t, FlowEdge>> branches;  // by instruction
};

// Sets the operands, guards and lists of program.code, the register file's layout and program.operands.
// RESOURCE_EXHAUSTED kTooLarge when the file would pass 64 MiB a warp.
absl::Status AllocateRegisters(const AllocationInput& input, Program* program);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_REGISTER_ALLOCATION_H_
