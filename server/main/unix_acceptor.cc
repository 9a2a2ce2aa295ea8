#include "server/main/unix_acceptor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/telemetry/log.h"

namespace trun {
namespace {

// How long to leave new connections waiting when this process is out of descriptors.
constexpr int kBackOffMs = 100;

}  // namespace

absl::StatusOr<std::unique_ptr<UnixAcceptor>> UnixAcceptor::Start(const std::string& path, bool non_blocking,
                                                                  Handler handler) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) {
      return FailedPrecondition(Reason::kUnavailable,
                                absl::StrCat(path, " is there and is no socket: remove it"));
    }
    if (unlink(path.c_str()) != 0)
      return FromErrno(errno, absl::StrCat("removing ", path), Reason::kUnavailable);
  }
  TRUN_ASSIGN_OR_RETURN(UniqueFd listener, ListenUnix(path));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return FromErrno(errno, "making an eventfd");
  std::unique_ptr<UnixAcceptor> acceptor(
      new UnixAcceptor(path, non_blocking, std::move(handler), std::move(listener), std::move(stop)));
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

UnixAcceptor::~UnixAcceptor() { Stop(); }

void UnixAcceptor::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  while (write(stop_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
  thread_.join();
  unlink(path_.c_str());
  listener_.reset();
}

void UnixAcceptor::Run() {
  std::array<pollfd, 2> waited = {{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (true) {
    if (poll(waited.data(), waited.size(), -1) < 0 && errno != EINTR) {
      LogError(absl::StrCat("waiting for connections on ", path_, ": ", std::strerror(errno)));
      return;
    }
    if (waited[1].revents != 0) return;
    UniqueFd connection(
        accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | (non_blocking_ ? SOCK_NONBLOCK : 0)));
    if (!connection.valid()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        LogError(absl::StrCat("a connection has to wait: ", std::strerror(errno)));
        poll(&waited[1], 1, kBackOffMs);
      }
      continue;  // the peer gave up, or a signal came
    }
    const absl::StatusOr<PeerCredentials> peer = GetPeerCredentials(connection.get());
    if (peer.ok()) handler_(std::move(connection), *peer);
  }
}

}  // namespace trun
