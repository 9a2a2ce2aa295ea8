// Bytes to and from tensors that only the device can touch: through memory shared with the session's executor
// (StagingService), from which the GPU copies by itself.
#ifndef TRUN_CLIENT_CPP_STAGING_H_
#define TRUN_CLIENT_CPP_STAGING_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "trun/session.h"
#include "trun/v1/staging.grpc.pb.h"

namespace trun {
inline namespace client {

class Connection;

// An area of the session, mapped here. The destructor gives it back.
class StagingArea {
 public:
  // What the areas of a session have in common.
  struct Owner {
    std::unique_ptr<v1::StagingService::Stub> stub;
    std::string session;
    std::atomic<bool> open{true};  // once it is not, its areas went with it
  };

  StagingArea(std::shared_ptr<const Owner> owner, std::string handle)
      : owner_(std::move(owner)), handle_(std::move(handle)) {}
  ~StagingArea();
  StagingArea(const StagingArea&) = delete;
  StagingArea& operator=(const StagingArea&) = delete;

  const std::string& handle() const { return handle_; }
  char* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  friend class SessionStaging;
  const std::shared_ptr<const Owner> owner_;
  const std::string handle_;
  char* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// The staging areas of one session: one of its own, made with the first large copy, and those of
// PinnedMemory. Thread-safe.
class SessionStaging {
 public:
  // Below this a stream costs less than a transfer, and than the making of the session's own area.
  static constexpr uint64_t kLeastBytes = uint64_t{256} << 10;
  static constexpr uint64_t kLeastFirstBytes = uint64_t{4} << 20;

  SessionStaging(const std::shared_ptr<Connection>& connection, std::string session,
                 std::string descriptor_socket, const HostCopyOptions& options);

  // The session was closed.
  void NoteClosed() { owner_->open = false; }

  // FAILED_PRECONDITION where the session has none (the emulator, a daemon elsewhere); the daemon's errors.
  // `unregistered`: why its driver did not take the memory.
  absl::StatusOr<std::shared_ptr<StagingArea>> Create(uint64_t bytes, std::string* unregistered);

  // Whether copies of this size go this way; a copy that begins or ends in pinned memory always does.
  bool Takes(const char* data, uint64_t bytes);
  // REQUIRES: Takes said so. In order after every launch queued before. FAILED_PRECONDITION: not possible
  // after all, and nothing was moved.
  absl::Status Write(const std::string& tensor, absl::string_view data, uint64_t offset);
  absl::Status Read(const std::string& tensor, absl::Span<char> out, uint64_t offset);

 private:
  struct Copy;

  absl::Status Move(const std::string& tensor, char* data, uint64_t bytes, uint64_t offset,
                    v1::TransferDirection direction);
  absl::Status EnsureOwn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(copy_mu_);
  // The area of PinnedMemory that holds the bytes; null.
  std::shared_ptr<StagingArea> FindPinned(const char* data, uint64_t bytes);

  const std::shared_ptr<StagingArea::Owner> owner_;
  const std::string descriptor_socket_;
  const HostCopyOptions options_;
  std::atomic<bool> has_own_{false};
  std::atomic<bool> refused_{false};

  Mutex copy_mu_;  // one copy at a time has the session's own area
  std::shared_ptr<StagingArea> own_ ABSL_GUARDED_BY(copy_mu_);
  Mutex mu_;
  std::map<const char*, std::weak_ptr<StagingArea>> pinned_ ABSL_GUARDED_BY(mu_);  // by where they begin
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_STAGING_H_
