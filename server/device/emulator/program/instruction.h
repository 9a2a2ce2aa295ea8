// Decoded instructions: what the interpreter's loop reads.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_INSTRUCTION_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_INSTRUCTION_H_

#include <cstdint>

namespace trun::device {

struct Warp;
struct Instruction;

// What the warp does after an operation.
enum class Step : uint8_t {
  kNext,  // go on with the next instruction
  kJump,  // the operation has set pc and active
  kWait,  // the operation cannot be done yet: the group waits and repeats it (or is moved on by who wakes it)
  kYield,  // done, go on with the next instruction, but let other warps run first
  kExit,   // the active lanes have ended
  kFault,  // warp.worker->fault is filled in
};

// Executes one instruction for the lanes in `mask` (never zero; a subset of warp.active). Writes no other
// lanes.
using Operation = Step (*)(Warp& warp, const Instruction& in, uint32_t mask);

// Operands are byte offsets in the warp's register file: predicates are one 32-bit word (bit = lane),
// registers of up to 32 bits 32 uint32_t, 64-bit ones 32 uint64_t, 128-bit ones the lower halves and then the
// upper halves. Constants and special registers lie in the same file, so an operation never asks what an
// operand is. Values narrower than 32 bits are zero-extended (numerics/types.h).
struct Instruction {
  Operation run = nullptr;
  uint32_t operand[7] = {};
  int32_t guard = -1;              // offset of the guard predicate, plus one when negated; -1: none
  const void* data = nullptr;      // what the family prepared at load; owned by the program
  const uint32_t* list = nullptr;  // more operands; owned by the program
  int64_t immediate = 0;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_INSTRUCTION_H_
