#ifndef TRUN_SERVER_MAIN_GPU_PROBE_H_
#define TRUN_SERVER_MAIN_GPU_PROBE_H_

#include <string>

#include "absl/status/statusor.h"

namespace trun {

// How many GPUs the driver shows, asked of a short-lived trun-executor: this process never loads the driver.
// Takes no time where the system has none (`libcuda` empty and no /dev/nvidiactl). FAILED_PRECONDITION
// kUnavailable: none can be used, and why. Blocks for up to half a minute. Thread-safe.
absl::StatusOr<int> ProbeGpus(const std::string& executor, const std::string& libcuda);

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_GPU_PROBE_H_
