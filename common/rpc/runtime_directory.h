// Where daemon and clients of one user meet: the same rules on both sides.
//
//   TRUN_ADDRESS        "unix:/path" or "/path" of the daemon's socket; overrides everything
//   $XDG_RUNTIME_DIR    trun/trund.sock in it, where it is a directory of this user
//   otherwise           /tmp/trun-<uid>/trund.sock
//
// The folder belongs to the user, mode 0700, and is no symbolic link: checked each time, so that nobody else
// can put a socket there. All functions are thread-safe.
#ifndef TRUN_COMMON_RPC_RUNTIME_DIRECTORY_H_
#define TRUN_COMMON_RPC_RUNTIME_DIRECTORY_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// What the rules look at; Current() reads the process, tests make their own.
struct RuntimeEnvironment {
  std::string trun_address;     // empty: not set
  std::string xdg_runtime_dir;  // empty: not set
  std::string temp = "/tmp";
  uid_t uid = 0;

  static RuntimeEnvironment Current();
};

// The folder for sockets, locks and the private daemon's log; made when missing. FAILED_PRECONDITION
// kNotPermitted when it exists and is not a folder of this user with mode 0700.
absl::StatusOr<std::string> RuntimeDirectory(
    const RuntimeEnvironment& environment = RuntimeEnvironment::Current());

// Makes `path` (its parent must exist) as an owned 0700 folder, or checks that it is one.
absl::Status MakePrivateDirectory(const std::string& path, uid_t uid);

// "unix:/path", "unix:///path" or "/path" → the path. INVALID_ARGUMENT kArgument otherwise, or when it is too
// long.
absl::StatusOr<std::string> ParseAddress(absl::string_view address);

// The socket of this user's daemon, by the rules above. Makes the runtime directory when it is the one used.
absl::StatusOr<std::string> DaemonSocketPath(
    const RuntimeEnvironment& environment = RuntimeEnvironment::Current());

// Files beside a daemon's socket.
std::string DescriptorSocketPath(absl::string_view socket_path);  // + ".fds"
std::string DaemonLockPath(
    absl::string_view socket_path);  // + ".lock": flock held, pid inside, while it runs
// A client that wants to start a private daemon holds a flock on this one while it looks and starts: +
// ".start".
std::string StartLockPath(absl::string_view socket_path);

}  // namespace trun

#endif  // TRUN_COMMON_RPC_RUNTIME_DIRECTORY_H_
