// Threads for what may block: gRPC's own threads never do.
#ifndef TRUN_SERVER_SERVICE_CALL_POOL_H_
#define TRUN_SERVER_SERVICE_CALL_POOL_H_

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "common/base/mutex.h"

namespace trun {

// Runs tasks in the order in which they come, on threads that are started as they are needed and then kept.
// Thread-safe.
class CallPool {
 public:
  // `name` is for messages. REQUIRES: max_threads >= 1.
  CallPool(std::string name, size_t max_threads, size_t max_queued);
  // Runs what is queued, and waits for it.
  ~CallPool();
  CallPool(const CallPool&) = delete;
  CallPool& operator=(const CallPool&) = delete;

  // RESOURCE_EXHAUSTED kQuota when as many tasks wait as may; the task was not taken.
  absl::Status Submit(std::function<void()> task);

  // Tasks that run or wait.
  size_t unfinished() const;

  // Runs what is queued, and waits for it. Later tasks are refused (UNAVAILABLE kDraining). May be called
  // again.
  void Shutdown();

 private:
  void Work();

  const std::string name_;
  const size_t max_threads_;
  const size_t max_queued_;
  mutable Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_CALL_POOL_H_
