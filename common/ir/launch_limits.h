#ifndef TRUN_COMMON_IR_LAUNCH_LIMITS_H_
#define TRUN_COMMON_IR_LAUNCH_LIMITS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trun {

// That a block of `kernel` needs more shared memory than `where` ("sm_86", a device's name) has: the same
// words whether it is found after the compile, in a file or at a launch. INVALID_ARGUMENT kLaunchShape
// (details: key, bytes, limit).
absl::Status TooMuchSharedMemory(absl::string_view kernel, uint64_t needed, absl::string_view where,
                                 uint64_t limit);

}  // namespace trun

#endif  // TRUN_COMMON_IR_LAUNCH_LIMITS_H_
