// What names stand for while a function is decoded.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_SYMBOLS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_SYMBOLS_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "server/device/emulator/program/form.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {

// A variable with its place. Kernel parameters have space kParam; parameters of functions and of calls live
// in the thread's local memory and have space kLocal.
struct VariablePlace {
  Space space = Space::kGlobal;
  uint64_t address = 0;  // in its space
  uint64_t bytes = 0;
};

struct RegisterRange {
  uint32_t count = 0;
  Width width = Width::k32;
  Type type = Type::kB32;
};

// One { … } of a function.
struct SymbolScope {
  absl::flat_hash_map<absl::string_view, uint32_t> registers;    // exact names → value
  absl::flat_hash_map<absl::string_view, RegisterRange> ranges;  // prefix → range
  absl::flat_hash_map<absl::string_view, VariablePlace> variables;
  absl::flat_hash_map<absl::string_view, uint32_t> labels;  // → label number
  absl::flat_hash_map<absl::string_view, const ptx::BranchTargets*> targets;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_SYMBOLS_H_
