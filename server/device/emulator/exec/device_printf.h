// printf of a kernel (CUDA C++ Programming Guide, "Formatted Output").
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_DEVICE_PRINTF_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_DEVICE_PRINTF_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace trun::device {

inline constexpr size_t kMaxPrinted = size_t{1} << 20;

// Appends `format` with its conversions filled in from the argument buffer: `argument(offset, bytes, value)`
// reads it, `string(address, text)` reads what a %s points to; false from them prints "(unreadable)".
// Conversions that are not C's are printed as they stand; widths over 1,000 are cut.
void AppendFormatted(absl::string_view format,
                     const std::function<bool(uint64_t, size_t, uint64_t*)>& argument,
                     const std::function<bool(uint64_t, std::string*)>& string, std::string* out);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_DEVICE_PRINTF_H_
