#ifndef TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/executor/control/executor_control.h"

namespace trun {

// Loads a tiny kernel into the executor, launches it and unloads it: whether its device can be used, told by
// the device itself. OK, also on an architecture for which there is no such kernel; the launch's or the
// executor's error; DEADLINE_EXCEEDED kHungKernel when it takes longer than `deadline`.
absl::Status RunCanary(ExecutorControl* executor, absl::Duration deadline);

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_H_
