// The executor a session has now: started, told of the session's memory and kernels, and replaced when it is
// lost.
#ifndef TRUN_SERVER_SESSION_EXECUTOR_BINDING_H_
#define TRUN_SERVER_SESSION_EXECUTOR_BINDING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ir/kernel.h"
#include "server/executor/control/executor_control.h"
#include "server/session/argument_encoder.h"
#include "server/session/tensor_table.h"

namespace trun {

// A kernel of the session, shared by the handles that name the same compiled kernel.
struct SessionKernel {
  std::shared_ptr<const CompiledKernel> compiled;
  uint64_t number = 0;  // what executors call it; never used again
  absl::StatusOr<DescriptorPassing> passing = DescriptorPassing();
  uint32_t handles = 0;  // the session's; nobody can launch it any more at zero
  // The binding's.
  uint64_t loaded_in = 0;  // generation of the executor that has it; 0: none
  device::KernelAttributes attributes;
};

// Thread-compatible. `snapshot` gives all of the session's memory, for a new executor.
class ExecutorBinding {
 public:
  ExecutorBinding(ExecutorFactory* factory, std::string device, std::string session,
                  std::function<std::vector<MemoryChange>()> snapshot)
      : factory_(factory),
        device_(std::move(device)),
        session_(std::move(session)),
        snapshot_(std::move(snapshot)) {}

  // The factory's errors.
  absl::Status Start();
  // Makes sure of a healthy executor that has applied `changes` and released `unloads`, and has `kernel` (may
  // be null) loaded. An executor that is lost is replaced, once per call. The factory's and the kernel's
  // errors; UNAVAILABLE kExecutorLost when the replacement is lost too.
  absl::Status Prepare(const std::vector<MemoryChange>& changes, const std::vector<uint64_t>& unloads,
                       SessionKernel* kernel);
  // Gives the executor up: its callbacks are called before this returns.
  std::unique_ptr<ExecutorControl> Release();

  // Null before Start, after Release, and when a replacement could not be started.
  ExecutorControl* executor() const { return executor_.get(); }
  const device::DeviceInfo& device_info() const { return info_; }
  // Which executor it is, counted from 1.
  uint64_t generation() const { return generation_; }
  uint64_t restarts() const { return generation_ > 0 ? generation_ - 1 : 0; }

 private:
  absl::Status Replace();
  absl::Status Apply(const std::vector<MemoryChange>& changes);
  absl::Status Load(SessionKernel* kernel);

  ExecutorFactory* const factory_;
  const std::string device_;
  const std::string session_;
  const std::function<std::vector<MemoryChange>()> snapshot_;
  std::unique_ptr<ExecutorControl> executor_;
  device::DeviceInfo info_;
  uint64_t generation_ = 0;  // executors started so far
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_EXECUTOR_BINDING_H_
