// The processes that this one started and that still run.
#ifndef TRUN_SERVER_MAIN_CHILD_PROCESSES_H_
#define TRUN_SERVER_MAIN_CHILD_PROCESSES_H_

#include <thread>

#include "common/base/mutex.h"

namespace trun {

// Sends SIGKILL to every child of this process; how many there were. Their owners see them die and reap them.
// For the end of the daemon, when what still runs in them has passed the drain deadline. Thread-safe.
int KillChildren();

// Does so again and again while it lives: what died may be started once more by whoever has not heard of the
// end yet.
class ChildReaper {
 public:
  ChildReaper();
  ~ChildReaper();
  ChildReaper(const ChildReaper&) = delete;
  ChildReaper& operator=(const ChildReaper&) = delete;

 private:
  void Run();
  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_CHILD_PROCESSES_H_
