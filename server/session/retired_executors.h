// Executors of sessions that have ended, until their processes have: the driver takes a tenth of a second to
// take a GPU's context down, for which nobody needs to wait.
#ifndef TRUN_SERVER_SESSION_RETIRED_EXECUTORS_H_
#define TRUN_SERVER_SESSION_RETIRED_EXECUTORS_H_

#include <list>
#include <memory>
#include <thread>

#include "common/base/mutex.h"
#include "server/executor/control/executor_control.h"

namespace trun {

// Thread-safe.
class RetiredExecutors {
 public:
  RetiredExecutors() = default;
  ~RetiredExecutors();
  RetiredExecutors(const RetiredExecutors&) = delete;
  RetiredExecutors& operator=(const RetiredExecutors&) = delete;

  // Ends it in the background. REQUIRES: none of its callbacks needs anything that may be gone meanwhile.
  void Add(std::unique_ptr<ExecutorControl> executor);
  // Until those that were added before are gone, and their memory with them.
  void Wait();

 private:
  struct Ending {
    std::thread thread;
    bool done = false;
  };
  void JoinDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  CondVar changed_;
  std::list<Ending> endings_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_RETIRED_EXECUTORS_H_
