// Where the running program lies.
#ifndef TRUN_COMMON_BASE_PROGRAM_PATH_H_
#define TRUN_COMMON_BASE_PROGRAM_PATH_H_

#include <string>

#include "absl/status/statusor.h"

namespace trun {

// Absolute path of the running program, symbolic links resolved. Without /proc (an empty chroot) the path
// that it was started by, made absolute by the current folder: ask before that changes. Thread-safe.
// UNAVAILABLE when there is neither.
absl::StatusOr<std::string> ProgramPath();

}  // namespace trun

#endif  // TRUN_COMMON_BASE_PROGRAM_PATH_H_
