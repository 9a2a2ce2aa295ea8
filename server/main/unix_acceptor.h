// A thread that accepts on a UNIX socket.
#ifndef TRUN_SERVER_MAIN_UNIX_ACCEPTOR_H_
#define TRUN_SERVER_MAIN_UNIX_ACCEPTOR_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "common/base/unique_fd.h"
#include "common/rpc/unix_socket.h"

namespace trun {

// Thread-safe. Owns the socket's file.
class UnixAcceptor {
 public:
  // Called on the acceptor's thread with a connection (close-on-exec; non-blocking if asked for) and who made
  // it.
  using Handler = std::function<void(UniqueFd connection, const PeerCredentials& peer)>;

  // Listens at `path`, mode 0600; a file left there by a daemon that died is replaced.
  // REQUIRES: the caller holds the daemon's lock on `path`.
  static absl::StatusOr<std::unique_ptr<UnixAcceptor>> Start(const std::string& path, bool non_blocking,
                                                             Handler handler);
  ~UnixAcceptor();
  // No handler runs when this returns; the file is gone. May be called again.
  void Stop();

 private:
  UnixAcceptor(std::string path, bool non_blocking, Handler handler, UniqueFd listener, UniqueFd stop)
      : path_(std::move(path)),
        non_blocking_(non_blocking),
        handler_(std::move(handler)),
        listener_(std::move(listener)),
        stop_(std::move(stop)) {}
  void Run();

  const std::string path_;
  const bool non_blocking_;
  const Handler handler_;
  UniqueFd listener_;
  UniqueFd stop_;  // eventfd
  std::thread thread_;
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_UNIX_ACCEPTOR_H_
