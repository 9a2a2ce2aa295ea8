// Memory of the host that a client, trund and the executor of a session on a GPU share: the client copies
// into it, or makes its arrays there, and the GPU copies from it.
#ifndef TRUN_SERVER_SESSION_SHARED_STAGING_H_
#define TRUN_SERVER_SESSION_SHARED_STAGING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "server/executor/control/executor_control.h"
#include "server/session/memory_account.h"

namespace trun {

// An area: a sealed memfd, charged to the accounts as long as it lives. The client may write it at any time,
// so nobody looks at its bytes.
class SharedStaging {
 public:
  static constexpr uint64_t kGranuleBytes = uint64_t{2} << 20;
  static constexpr uint64_t kMaxBytes = uint64_t{16} << 30;

  // Rounded up to granules. INVALID_ARGUMENT kArgument: no bytes, or too many. RESOURCE_EXHAUSTED kQuota,
  // kOutOfMemory. The accounts outlive it.
  static absl::StatusOr<std::shared_ptr<SharedStaging>> Create(uint64_t number, uint64_t bytes,
                                                               MemoryAccount* session, MemoryAccount* tenant);
  ~SharedStaging();
  SharedStaging(const SharedStaging&) = delete;
  SharedStaging& operator=(const SharedStaging&) = delete;

  uint64_t number() const { return number_; }
  uint64_t bytes() const { return bytes_; }
  const UniqueFd& descriptor() const { return fd_; }
  // OUT_OF_RANGE kArgument.
  absl::Status CheckRange(uint64_t offset, uint64_t bytes) const;

  // Held while an executor is given the area; before the session's locks.
  Mutex attach_mu;
  bool freed ABSL_GUARDED_BY(attach_mu) = false;        // and never attached again
  uint64_t attached_to ABSL_GUARDED_BY(attach_mu) = 0;  // generation of the executor that has it
  std::string unregistered ABSL_GUARDED_BY(attach_mu);  // why that one's driver refused it

 private:
  SharedStaging(uint64_t number, uint64_t bytes, MemoryAccount* session, MemoryAccount* tenant)
      : number_(number), bytes_(bytes), session_(session), tenant_(tenant) {}

  const uint64_t number_;
  const uint64_t bytes_;
  MemoryAccount* const session_;
  MemoryAccount* const tenant_;
  UniqueFd fd_;
};

// Answers that are outstanding; outlives the call that waits for them where an executor still holds a
// callback. Thread-safe.
class OutstandingAnswers {
 public:
  explicit OutstandingAnswers(size_t count) : left_(count) {}
  void Answer(const absl::Status& status);
  // Waits for all; the first error.
  absl::Status Wait();

 private:
  Mutex mu_;
  CondVar changed_;
  size_t left_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_SHARED_STAGING_H_
