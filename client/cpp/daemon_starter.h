// Finds the daemon of a socket, or starts a private one there.
#ifndef TRUN_CLIENT_CPP_DAEMON_STARTER_H_
#define TRUN_CLIENT_CPP_DAEMON_STARTER_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace trun {
inline namespace client {

struct DaemonStart {
  std::string socket_path;
  std::string trund;                     // empty: FindTrund()
  std::vector<std::string> extra_flags;  // given to trund as they are; relative paths are this process's
  bool private_daemon = true;            // ends by itself when idle
  absl::Duration timeout = absl::Seconds(20);
};

// Thread-safe. True: started by this call; false: one answered already. Several callers at once, in any
// number of processes, start one daemon: they take turns by a flock on StartLockPath(socket_path).
// UNAVAILABLE kUnavailable: trund was not found, or ended at once (the message ends with its log's tail).
// DEADLINE_EXCEEDED kUnavailable: it did not answer in time; it is ended.
absl::StatusOr<bool> EnsureDaemon(const DaemonStart& start);

// Whether something accepts connections there.
bool DaemonAnswers(const std::string& socket_path);

// TRUN_TRUND, beside this program, beside this library (its folder or ../bin), PATH; the first one that is
// there. UNAVAILABLE kUnavailable that lists where it was looked for.
absl::StatusOr<std::string> FindTrund();

// Where a private daemon of that socket writes its log.
std::string DaemonLogPath(absl::string_view socket_path);
// The last lines of a file, at most `lines` of them and 64 KiB; empty where there is none. `end`, where
// given, is set to how much of the file that is: what comes later is not among them.
std::string LogTail(const std::string& path, int lines, off_t* end = nullptr);

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_DAEMON_STARTER_H_
