// Which registers an instruction reads and writes, by the names of the text: for checks and debuggers.
//
// Immutable after loading. The names point into the module's text.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_OPERAND_MAP_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_OPERAND_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

inline constexpr uint32_t kNoCell = 0xffffffff;

// A register of the text, a constant or a special register.
struct RegisterInfo {
  absl::string_view name;  // empty: a constant, or one that the decoder made
  Width width = Width::k32;
  uint32_t offset = 0;  // in the warp's register file
  // The place in the file as a small number; registers that are never alive together may share one. kNoCell:
  // a constant or special register.
  uint32_t cell = kNoCell;
  // Where its value may still be needed: before instruction i when begin < 2 * i <= end.
  uint32_t begin = 0;
  uint32_t end = 0;

  bool AliveAt(uint32_t pc) const { return cell != kNoCell && begin < 2 * pc && 2 * pc <= end; }
};

struct OperandRef {
  uint32_t slot = 0;  // as in Form; kGuardSlot: the guard
  uint32_t value = 0;
  bool is_definition = false;
};

struct OperandMap {
  std::vector<RegisterInfo> values;
  std::vector<OperandRef> refs;  // by instruction, sources first
  std::vector<uint32_t> first;   // of an instruction; one more than there are instructions
  uint32_t cells = 0;

  absl::Span<const OperandRef> At(uint32_t pc) const {
    if (pc + 1 >= first.size()) return {};
    return absl::MakeConstSpan(refs).subspan(first[pc], first[pc + 1] - first[pc]);
  }
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_OPERAND_MAP_H_
