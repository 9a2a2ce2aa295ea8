// What Device::FillMemory and its kin refuse, the same on every device. Pure functions, thread-safe.
#ifndef TRUN_SERVER_DEVICE_MEMORY_CHECK_H_
#define TRUN_SERVER_DEVICE_MEMORY_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trun::device {

// The status for a range that is not all in one arena.
absl::Status NotInAnArena(uint64_t address, uint64_t bytes);
absl::Status CheckPattern(absl::string_view pattern, uint64_t bytes);
absl::Status CheckDisjoint(uint64_t to, uint64_t from, uint64_t bytes);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_MEMORY_CHECK_H_
