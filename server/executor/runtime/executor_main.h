#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_MAIN_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_MAIN_H_

#include "server/executor/runtime/device_registry.h"
#include "server/executor/runtime/executor_loop.h"

namespace trun {

// The descriptor on which trund talks to an executor it has spawned.
constexpr int kExecutorSocket = 3;

// What an executor's main does once its devices are registered: serves kExecutorSocket to its end. The exit
// code: 0, or 1 after a line on stderr. `options.abandon` is its own to set.
int ExecutorMain(const DeviceRegistry& devices, ExecutorLoopOptions options = {});

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_MAIN_H_
