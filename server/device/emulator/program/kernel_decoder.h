// One entry of a module, with the functions it calls inlined, to a Program.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_KERNEL_DECODER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_KERNEL_DECODER_H_

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/device/emulator/program/program.h"
#include "server/device/emulator/program/symbols.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {

// What all entries of a module share.
struct ModuleContext {
  const ptx::Module* module = nullptr;
  int arch = 80;
  absl::flat_hash_map<absl::string_view, VariablePlace> variables;  // .global and .const
  absl::flat_hash_map<absl::string_view, const ptx::Function*> functions;
};

// UNIMPLEMENTED kUnsupportedInstruction (details: line, instruction), INVALID_ARGUMENT kInvalidIr (details:
// line, column), RESOURCE_EXHAUSTED kTooLarge. Thread-safe.
absl::StatusOr<std::shared_ptr<const Program>> DecodeKernel(const ModuleContext& context,
                                                            const ptx::Function& entry);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_KERNEL_DECODER_H_
