#include "server/session/shared_staging.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"

namespace trun {

absl::StatusOr<std::shared_ptr<SharedStaging>> SharedStaging::Create(uint64_t number, uint64_t bytes,
                                                                     MemoryAccount* session,
                                                                     MemoryAccount* tenant) {
  if (bytes == 0 || bytes > kMaxBytes) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a staging area of ", bytes, " bytes; it has 1 to ", kMaxBytes));
  }
  bytes = (bytes + kGranuleBytes - 1) / kGranuleBytes * kGranuleBytes;
  const auto over = [bytes](const char* whose, const MemoryAccount& account) {
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat("a staging area of ", bytes, " bytes goes over the ", whose, "'s limit of ",
                     account.limit(), ", of which ", account.used(), " are in use: free some memory first"),
        {{"limit", absl::StrCat(account.limit())}});
  };
  if (!session->TryCharge(bytes)) return over("session", *session);
  if (!tenant->TryCharge(bytes)) {
    session->Return(bytes);
    return over("tenant", *tenant);
  }
  std::shared_ptr<SharedStaging> made(new SharedStaging(number, bytes, session, tenant));
  TRUN_ASSIGN_OR_RETURN(made->fd_, device::CreateSealedMemory(bytes));
  return made;
}

SharedStaging::~SharedStaging() {
  session_->Return(bytes_);
  tenant_->Return(bytes_);
}

absl::Status SharedStaging::CheckRange(uint64_t offset, uint64_t bytes) const {
  if (offset <= bytes_ && bytes <= bytes_ - offset) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kOutOfRange, Reason::kArgument,
      absl::StrCat(bytes, " bytes from byte ", offset, " on end past the staging area, which has ", bytes_));
}

void OutstandingAnswers::Answer(const absl::Status& status) {
  MutexLock lock(&mu_);
  if (status_.ok()) status_ = status;
  if (--left_ == 0) changed_.SignalAll();
}

absl::Status OutstandingAnswers::Wait() {
  MutexLock lock(&mu_);
  while (left_ > 0) changed_.Wait(&mu_);
  return status_;
}

}  // namespace trun
