// An executor on a thread of this process: for tests, and for the sanitizers to see both sides at once.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_IN_PROCESS_EXECUTOR_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_IN_PROCESS_EXECUTOR_H_

#include <vector>

#include "server/executor/control/executor_control.h"
#include "server/executor/control/socket_executor.h"
#include "server/executor/runtime/device_registry.h"
#include "server/executor/runtime/executor_loop.h"

namespace trun {

// Thread-safe. `devices` must outlive the executors. No isolation: a kernel that kills its process kills this
// one. Scratch of all its executors lies from `scratch_address` on.
class InProcessExecutorFactory final : public ExecutorFactory {
 public:
  InProcessExecutorFactory(const DeviceRegistry* devices, std::vector<std::string> names,
                           const SocketExecutorOptions& options = {},
                           uint64_t scratch_address = ExecutorLoopOptions().scratch_address)
      : devices_(devices), names_(std::move(names)), options_(options), scratch_address_(scratch_address) {}

  absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view device,
                                                          absl::string_view session) override;
  std::vector<DeviceDescription> Devices() const override;

 private:
  absl::StatusOr<std::unique_ptr<SocketExecutor>> Start(absl::string_view device,
                                                        absl::string_view session) const;

  const DeviceRegistry* const devices_;
  const std::vector<std::string> names_;
  const SocketExecutorOptions options_;
  const uint64_t scratch_address_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_IN_PROCESS_EXECUTOR_H_
