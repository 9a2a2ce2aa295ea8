#include "server/main/connection_table.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

absl::Status ConnectionTable::Add(int fd, const PeerCredentials& peer) {
  struct stat info;
  if (fstat(fd, &info) != 0) return FromErrno(errno, "looking at a connection");
  Connection connection;
  connection.fd = fd;
  connection.device = info.st_dev;
  connection.inode = info.st_ino;
  connection.caller.user = peer.uid;
  connection.caller.tenant = absl::StrCat("uid:", peer.uid);
  connection.caller.is_owner = peer.uid == owner_ || peer.uid == 0;
  MutexLock lock(&mu_);
  connections_[absl::StrCat("fd:", fd)] = std::move(connection);
  return absl::OkStatus();
}

absl::StatusOr<Caller> ConnectionTable::Find(const std::string& peer) const {
  MutexLock lock(&mu_);
  const auto found = connections_.find(peer);
  if (found == connections_.end()) {
    return MakeError(absl::StatusCode::kUnauthenticated, Reason::kNotPermitted,
                     "this connection is of nobody known");
  }
  return found->second.caller;
}

size_t ConnectionTable::Sweep() {
  MutexLock lock(&mu_);
  for (auto entry = connections_.begin(); entry != connections_.end();) {
    struct stat info;
    const Connection& connection = entry->second;
    const bool open = fstat(connection.fd, &info) == 0 && info.st_dev == connection.device &&
                      info.st_ino == connection.inode;
    entry = open ? std::next(entry) : connections_.erase(entry);
  }
  return connections_.size();
}

}  // namespace trun
