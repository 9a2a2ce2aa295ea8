// The one thread that forks. Private to this room: use Subprocess::Start.
#ifndef TRUN_COMMON_SUBPROCESS_SPAWNER_H_
#define TRUN_COMMON_SUBPROCESS_SPAWNER_H_

#include <sys/types.h>

#include <deque>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/subprocess/subprocess.h"

namespace trun {

// Thread-safe. Its thread starts with the first call of Get and lives as long as the process: a child's
// PR_SET_PDEATHSIG is bound to the thread that forked it.
class Spawner {
 public:
  static Spawner* Get();

  // Forks and execs on the spawner's thread; the child runs `options.argv` when this returns.
  absl::StatusOr<pid_t> Spawn(const SubprocessOptions& options);
  // Reaps `pid` (a child of this process that nobody waits for) whenever a later child is started.
  void AdoptOrphan(pid_t pid);

 private:
  struct Request {
    const SubprocessOptions* options;
    absl::StatusOr<pid_t> result = -1;
    bool done = false;
  };

  Spawner();
  void Loop();
  void ReapOrphans();

  Mutex mu_;
  CondVar wake_;
  CondVar finished_;
  std::deque<Request*> queue_ ABSL_GUARDED_BY(mu_);
  std::vector<pid_t> orphans_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_COMMON_SUBPROCESS_SPAWNER_H_
