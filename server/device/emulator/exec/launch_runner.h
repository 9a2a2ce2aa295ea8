// Runs one launch over the host's threads.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_LAUNCH_RUNNER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_LAUNCH_RUNNER_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "server/device/device.h"
#include "server/device/emulator/exec/cta.h"
#include "server/device/emulator/exec/warp.h"

namespace trun::device {

// What a host thread keeps between launches.
struct WorkerState {
  Worker worker;
  std::vector<std::unique_ptr<CtaSlot>> slots;
};

// Host threads for the CTAs of launches. Thread-safe; one launch at a time has the helpers, others run on
// their own thread alone.
class WorkerPool {
 public:
  explicit WorkerPool(int threads);
  ~WorkerPool();

  // Calls work(state) on the calling thread and, unless they are busy, on all helpers at once; returns when
  // all have.
  void Run(bool with_helpers, const std::function<void(WorkerState&)>& work);
  int threads() const { return threads_; }

 private:
  void Helper();

  const int threads_;
  Mutex mu_;
  CondVar changed_;
  const std::function<void(WorkerState&)>* work_ ABSL_GUARDED_BY(mu_) = nullptr;
  uint64_t generation_ ABSL_GUARDED_BY(mu_) = 0;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::unique_ptr<WorkerState>> idle_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> helpers_;
};

struct LaunchLimits {
  std::chrono::steady_clock::time_point deadline;
  const std::atomic<uint64_t>* cancelled = nullptr;  // the launch ends when this passes `cancel_after`
  uint64_t cancel_after = 0;
};

// REQUIRES: the launch has been checked (dimensions, parameters).
LaunchOutcome RunLaunch(Launch* launch, const LaunchLimits& limits, WorkerPool* pool);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_LAUNCH_RUNNER_H_
