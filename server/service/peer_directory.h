// Who is on the other side of a connection.
#ifndef TRUN_SERVER_SERVICE_PEER_DIRECTORY_H_
#define TRUN_SERVER_SERVICE_PEER_DIRECTORY_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/status.h"

namespace trun {

struct Caller {
  uid_t user = 0;
  std::string tenant;     // "uid:1000"
  bool is_owner = false;  // the daemon's own user, or root
};

// PERMISSION_DENIED kNotPermitted for anybody but the daemon's own user and root.
inline absl::Status RequireOwner(const Caller& caller) {
  if (caller.is_owner) return absl::OkStatus();
  return MakeError(absl::StatusCode::kPermissionDenied, Reason::kNotPermitted,
                   "only the user that runs the daemon may do this");
}

// Thread-safe.
class PeerDirectory {
 public:
  virtual ~PeerDirectory() = default;
  // `peer` is what gRPC calls the connection. UNAUTHENTICATED kNotPermitted when it is none of ours.
  virtual absl::StatusOr<Caller> Find(const std::string& peer) const = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_PEER_DIRECTORY_H_
