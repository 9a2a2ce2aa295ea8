// The connections that were accepted and handed to gRPC, and who is on the other side of each.
#ifndef TRUN_SERVER_MAIN_CONNECTION_TABLE_H_
#define TRUN_SERVER_MAIN_CONNECTION_TABLE_H_

#include <sys/types.h>

#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/rpc/unix_socket.h"
#include "server/service/peer_directory.h"

namespace trun {

// gRPC 1.51 names a connection that it was given as a descriptor "fd:N", and closes descriptor N only when
// the last call of that connection is over: so the name is right for as long as a call can ask for it.
// Thread-safe.
class ConnectionTable final : public PeerDirectory {
 public:
  explicit ConnectionTable(uid_t owner) : owner_(owner) {}

  // Call before gRPC is given `fd`.
  absl::Status Add(int fd, const PeerCredentials& peer);
  absl::StatusOr<Caller> Find(const std::string& peer) const override;
  // Forgets connections that gRPC has closed; how many are left.
  size_t Sweep();

 private:
  struct Connection {
    int fd = -1;
    dev_t device = 0;
    ino_t inode = 0;
    Caller caller;
  };

  const uid_t owner_;
  mutable Mutex mu_;
  std::map<std::string, Connection> connections_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_CONNECTION_TABLE_H_
