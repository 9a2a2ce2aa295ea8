#include "common/rpc/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"

namespace trun {
namespace {

absl::StatusOr<sockaddr_un> MakeAddress(const std::string& path) {
  TRUN_RETURN_IF_ERROR(CheckSocketPath(path));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> MakeSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return FromErrno(errno, "making a UNIX socket");
  return fd;
}

}  // namespace

absl::Status CheckSocketPath(const std::string& path) {
  if (path.empty() || path[0] != '/') {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a socket's path must be absolute, not '", path, "'"));
  }
  if (path.find('\0') != std::string::npos) {
    return InvalidArgument(Reason::kArgument, "a socket's path may not hold a zero byte");
  }
  if (path.size() > kMaxSocketPathBytes) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("the socket path ", path, " has ", path.size(), " bytes; the limit is ",
                     kMaxSocketPathBytes, ": choose a shorter one (TRUN_ADDRESS, --socket)"),
        {{"limit", absl::StrCat(kMaxSocketPathBytes)}});
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, int backlog) {
  TRUN_ASSIGN_OR_RETURN(const sockaddr_un address, MakeAddress(path));
  TRUN_ASSIGN_OR_RETURN(UniqueFd fd, MakeSocket());
  // The mode of the socket's inode before bind decides the file's: no window in which others could connect.
  if (fchmod(fd.get(), 0600) != 0) return FromErrno(errno, absl::StrCat("setting the mode of ", path));
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EADDRINUSE) {
      return MakeError(absl::StatusCode::kAlreadyExists, Reason::kUnavailable,
                       absl::StrCat(path, " exists already"));
    }
    return FromErrno(errno, absl::StrCat("binding ", path), Reason::kUnavailable);
  }
  if (chmod(path.c_str(), 0600) != 0) return FromErrno(errno, absl::StrCat("setting the mode of ", path));
  if (listen(fd.get(), backlog) != 0) return FromErrno(errno, absl::StrCat("listening on ", path));
  return fd;
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path) {
  TRUN_ASSIGN_OR_RETURN(const sockaddr_un address, MakeAddress(path));
  TRUN_ASSIGN_OR_RETURN(UniqueFd fd, MakeSocket());
  while (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR) {
      return Unavailable(Reason::kUnavailable, absl::StrCat("no daemon listens on ", path));
    }
    return FromErrno(errno, absl::StrCat("connecting to ", path), Reason::kUnavailable);
  }
  return fd;
}

absl::StatusOr<PeerCredentials> GetPeerCredentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return FromErrno(errno, "reading the peer's credentials");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

absl::Status SetSocketTimeout(int fd, absl::Duration timeout) {
  const timeval value = absl::ToTimeval(timeout);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof(value)) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value)) != 0) {
    return FromErrno(errno, "setting a socket's timeout");
  }
  return absl::OkStatus();
}

}  // namespace trun
