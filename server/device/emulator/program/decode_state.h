// What decoding one kernel has gathered so far.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_DECODE_STATE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_DECODE_STATE_H_

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/device/emulator/program/kernel_decoder.h"
#include "server/device/emulator/program/register_allocation.h"
#include "server/device/emulator/program/symbols.h"

namespace trun::device {

// Limits of one kernel after inlining.
inline constexpr size_t kMaxInstructions = size_t{1} << 20;
inline constexpr size_t kMaxValues = size_t{1} << 21;
inline constexpr uint64_t kMaxLocalBytes = uint64_t{512} << 10;
inline constexpr uint64_t kLocalGapBytes = 16;  // between variables, at least: no access is wider
inline constexpr size_t kMaxCallDepth = 32;

// Thread-compatible.
class DecodeState {
 public:
  DecodeState(const ModuleContext& context, Program* program) : context(context), program(program) {}

  // The value of a register name, made on its first use; nullopt when no scope declares it.
  std::optional<uint32_t> FindRegister(absl::string_view name);
  // A variable that the scopes or the module declare; null when there is none.
  const VariablePlace* FindVariable(absl::string_view name) const;
  // A label's number; nullopt when no scope has it.
  std::optional<uint32_t> FindLabel(absl::string_view name) const;
  const ptx::BranchTargets* FindTargets(absl::string_view name) const;
  // The value of a special register such as %tid.x; nullopt for a name that is none.
  std::optional<uint32_t> FindSpecial(absl::string_view name);

  uint32_t NewRegister(Width width, absl::string_view name = {});
  uint32_t ConstantValue(uint64_t value, Width width);
  // Space for a variable in the thread's local memory; sets `error` over the limit.
  uint64_t AllocateLocal(absl::string_view name, uint64_t bytes, uint64_t align);

  const ModuleContext& context;
  Program* const program;
  AllocationInput allocation;
  std::vector<SymbolScope> scopes;
  size_t scope_floor = 0;  // scopes below it belong to callers
  uint64_t local_bytes = 0;
  absl::Status error;

 private:
  std::map<std::pair<uint64_t, int>, uint32_t> constants_;
  std::map<SpecialRegister, uint32_t> specials_;
};

// Of "b32", "pred" …; nullopt for a type that registers do not have.
std::optional<Width> RegisterWidthOf(absl::string_view type);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_DECODE_STATE_H_
