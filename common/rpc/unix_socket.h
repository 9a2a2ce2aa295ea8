// UNIX stream sockets: listen, connect, who is on the other side.
#ifndef TRUN_COMMON_RPC_UNIX_SOCKET_H_
#define TRUN_COMMON_RPC_UNIX_SOCKET_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"

namespace trun {

// All functions are thread-safe, and every descriptor they make is close-on-exec.

// INVALID_ARGUMENT kArgument for an empty path, one that is not absolute, or one over 107 bytes.
absl::Status CheckSocketPath(const std::string& path);

// A listening socket of mode 0600 (never wider, not even for a moment) at `path`, which must not exist:
// ALREADY_EXISTS. The caller removes the file.
absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, int backlog = 128);

// UNAVAILABLE kUnavailable when nothing listens there.
absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path);

// Who connected (SO_PEERCRED): as of connect(), whatever the peer does later.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
absl::StatusOr<PeerCredentials> GetPeerCredentials(int fd);

// Bounds every single send and receive on `fd` (SO_SNDTIMEO, SO_RCVTIMEO).
absl::Status SetSocketTimeout(int fd, absl::Duration timeout);

}  // namespace trun

#endif  // TRUN_COMMON_RPC_UNIX_SOCKET_H_
