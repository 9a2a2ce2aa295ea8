// What a Session and everything made in it share.
#ifndef TRUN_CLIENT_CPP_SESSION_STATE_H_
#define TRUN_CLIENT_CPP_SESSION_STATE_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "client/cpp/connection.h"
#include "client/cpp/staging.h"
#include "common/base/mutex.h"
#include "trun/v1/compile.grpc.pb.h"
#include "trun/v1/launch.grpc.pb.h"
#include "trun/v1/session.grpc.pb.h"
#include "trun/v1/tensor.grpc.pb.h"

namespace trun {
inline namespace client {

// Thread-safe. The destructor closes the session.
class SessionState {
 public:
  SessionState(std::shared_ptr<Connection> connection, std::unique_ptr<v1::SessionService::Stub> session_stub,
               const v1::OpenSessionResponse& opened, const HostCopyOptions& copies);
  ~SessionState();
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;

  // Stops the lease and ends the session on the server. Later calls: NOT_FOUND/SESSION_EXPIRED.
  absl::Status Close();
  // NOT_FOUND/SESSION_EXPIRED once Close was called.
  absl::Status CheckOpen() const;

  // Launches may be queued that nobody has waited for: shared memory must not be touched before a fence.
  void NoteQueuedLaunch() { unfenced_.store(true, std::memory_order_release); }
  void NoteSynchronized() { unfenced_.store(false, std::memory_order_release); }
  bool MayHaveQueuedLaunches() const { return unfenced_.load(std::memory_order_acquire); }

  const std::shared_ptr<Connection> connection;
  const v1::OpenSessionResponse opened;
  const std::string id;
  const std::unique_ptr<v1::SessionService::Stub> sessions;
  const std::unique_ptr<v1::CompileService::Stub> compiles;
  const std::unique_ptr<v1::TensorService::Stub> tensors;
  const std::unique_ptr<v1::LaunchService::Stub> launches;
  SessionStaging staging;
  std::atomic<bool> unmappable{false};  // tensors of the device cannot be mapped into this process

 private:
  void KeepAlive();

  std::atomic<bool> unfenced_{false};
  std::atomic<bool> open_{true};
  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread lease_thread_;  // last: starts when all else is there
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_SESSION_STATE_H_
