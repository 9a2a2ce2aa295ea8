// PTX text to its syntax tree.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PTX_PARSER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PTX_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device::ptx {

// What one module may hold; PTX from anybody is parsed, so everything is bounded.
inline constexpr size_t kMaxTextBytes = size_t{128} << 20;
inline constexpr size_t kMaxScopeDepth = 64;
inline constexpr size_t kMaxOperandDepth = 8;
inline constexpr uint64_t kMaxVariableBytes = uint64_t{1} << 30;
inline constexpr uint32_t kMaxRegisterRange = uint32_t{1} << 24;

// INVALID_ARGUMENT kInvalidIr (details: line, column) where the text is not PTX; RESOURCE_EXHAUSTED kTooLarge
// over a limit. `text` must outlive the result. Thread-safe.
absl::StatusOr<Module> Parse(absl::string_view text);

}  // namespace trun::device::ptx

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PTX_PARSER_H_
