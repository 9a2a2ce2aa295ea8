// Child processes: the only place of trun that calls fork and exec.
#ifndef TRUN_COMMON_SUBPROCESS_SUBPROCESS_H_
#define TRUN_COMMON_SUBPROCESS_SUBPROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"

namespace trun {

struct SubprocessOptions {
  std::vector<std::string> argv;           // argv[0] is a path; no search in PATH
  std::map<std::string, std::string> env;  // the child's whole environment; nothing is inherited
  // Descriptors the child gets, at these numbers (3 and up); every other one is closed in it.
  std::map<int, int> descriptors;  // number in the child → ours
  int stdout_fd = -1;              // -1: /dev/null
  int stderr_fd = -1;              // -1: /dev/null
  std::string working_directory = "/";
  uint64_t address_space_limit = 0;  // RLIMIT_AS in bytes; 0: none
  bool die_with_parent = true;       // PR_SET_PDEATHSIG SIGKILL (and a check that the parent still lives)
  bool new_session = true;           // setsid: a terminal's signals do not reach it
};

struct ExitStatus {
  bool signaled = false;
  int code = 0;  // exit code, or the signal
  // "exit code 3", "signal 9 (Killed)".
  std::string ToString() const;
};

// One running child. Thread-safe. The destructor kills it with SIGKILL and reaps it (unless detached).
//
// All children are forked by one thread of this process that never ends (PR_SET_PDEATHSIG fires when the
// forking *thread* ends). No SIGCHLD handler is installed: a child is reaped by its own object, by pid. When
// a child with a session of its own is reaped, what is left of its process group is killed first.
class Subprocess {
 public:
  // Started when this returns (errors of exec included): INVALID_ARGUMENT (no argv, a descriptor number below
  // 3), NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED. The descriptors in `options` stay the caller's.
  static absl::StatusOr<std::unique_ptr<Subprocess>> Start(const SubprocessOptions& options);
  virtual ~Subprocess() = default;

  virtual pid_t pid() const = 0;
  // Sends a signal to the child (its process group when it has a session of its own). OK when it already
  // ended.
  virtual absl::Status Signal(int signal) = 0;
  // Waits for its end. DEADLINE_EXCEEDED when it still runs then. May be called again: the answer stays.
  virtual absl::StatusOr<ExitStatus> Wait(absl::Duration timeout) = 0;
  // Gives the child up: the destructor leaves it running (a daemon started by a client). It is reaped in the
  // background should it end before this process does.
  virtual void Detach() = 0;
};

}  // namespace trun

#endif  // TRUN_COMMON_SUBPROCESS_SUBPROCESS_H_
