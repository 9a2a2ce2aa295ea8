#include "client/cpp/session_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trun {
inline namespace client {

SessionState::SessionState(std::shared_ptr<Connection> connection,
                           std::unique_ptr<v1::SessionService::Stub> session_stub,
                           const v1::OpenSessionResponse& opened, const HostCopyOptions& copies)
    : connection(std::move(connection)),
      opened(opened),
      id(opened.session()),
      sessions(std::move(session_stub)),
      compiles(v1::CompileService::NewStub(this->connection->channel)),
      tensors(v1::TensorService::NewStub(this->connection->channel)),
      launches(v1::LaunchService::NewStub(this->connection->channel)),
      staging(this->connection, id, opened.descriptor_socket(), copies),
      lease_thread_([this] { KeepAlive(); }) {}

SessionState::~SessionState() {
  // A session that cannot be closed ends by its lease; there is nobody left to tell.
  Close().IgnoreError();
}

absl::Status SessionState::CheckOpen() const {
  if (open_.load(std::memory_order_acquire)) return absl::OkStatus();
  return NotFound(Reason::kSessionExpired, absl::StrCat("session ", id, " was closed"));
}

absl::Status SessionState::Close() {
  if (!open_.exchange(false)) return CheckOpen();
  staging.NoteClosed();
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.SignalAll();
  if (lease_thread_.joinable()) lease_thread_.join();
  v1::CloseSessionRequest request;
  request.set_session(id);
  return Call(*sessions, &v1::SessionService::Stub::CloseSession, request).status();
}

void SessionState::KeepAlive() {
  const absl::Duration lease = std::max(FromProto(opened.lease()), absl::Milliseconds(100));
  const auto interval = absl::ToChronoMilliseconds(lease / 3);
  auto next = std::chrono::steady_clock::now() + interval;
  for (;;) {
    {
      MutexLock lock(&mu_);
      while (!stopping_ && std::chrono::steady_clock::now() < next) wake_.WaitUntil(&mu_, next);
      if (stopping_) return;
    }
    v1::KeepAliveRequest request;
    request.set_session(id);
    // A renewal that fails is tried again at the next interval; calls of the user report an expired session.
    const absl::Status status =
        Call(*sessions, &v1::SessionService::Stub::KeepAlive, request, lease / 3).status();
    if (absl::IsNotFound(status)) return;
    next = std::chrono::steady_clock::now() + interval;
  }
}

}  // namespace client
}  // namespace trun
