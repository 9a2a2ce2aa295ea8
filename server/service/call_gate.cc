#include "server/service/call_gate.h"

#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

absl::Status Draining() {
  return Unavailable(Reason::kDraining, "the daemon is ending: try again, against the next one");
}

}  // namespace

absl::Status CallGate::Enter(WhileDraining kind) {
  MutexLock lock(&mu_);
  if (draining_ && kind == WhileDraining::kRefused) return Draining();
  ++in_flight_;
  ++entered_;
  return absl::OkStatus();
}

void CallGate::Leave() {
  MutexLock lock(&mu_);
  if (--in_flight_ == 0) changed_.SignalAll();
}

void CallGate::StartDraining() {
  MutexLock lock(&mu_);
  draining_ = true;
}

bool CallGate::draining() const {
  MutexLock lock(&mu_);
  return draining_;
}

void CallGate::Remember(const std::shared_ptr<OpenCall>& call) {
  MutexLock lock(&mu_);
  open_[call.get()] = call;
}

void CallGate::Forget(const OpenCall* call) {
  MutexLock lock(&mu_);
  open_.erase(call);
}

void CallGate::EndIdleCalls(absl::Duration patience) {
  std::vector<std::shared_ptr<OpenCall>> calls;  // one that ends comes back to Forget and Leave
  {
    MutexLock lock(&mu_);
    for (const auto& [key, call] : open_) calls.push_back(call.lock());
  }
  for (const std::shared_ptr<OpenCall>& call : calls) {
    if (call != nullptr) call->EndIfIdle(patience, Draining());
  }
}

void CallGate::Cut() {
  MutexLock lock(&mu_);
  cut_ = true;
}

absl::Status CallGate::Explain(const absl::Status& status) const {
  if (!absl::IsCancelled(status) && !absl::IsUnavailable(status)) return status;
  if (GetReason(status) == Reason::kDraining) return status;
  MutexLock lock(&mu_);
  if (!cut_) return status;
  return Unavailable(Reason::kDraining,
                     absl::StrCat("the daemon ended and cut this call: try again, against the next one (",
                                  status.message(), ")"));
}

uint64_t CallGate::entered() const {
  MutexLock lock(&mu_);
  return entered_;
}

int CallGate::in_flight() const {
  MutexLock lock(&mu_);
  return in_flight_;
}

bool CallGate::WaitIdle(absl::Duration timeout) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mu_);
  while (in_flight_ > 0) {
    if (!changed_.WaitUntil(&mu_, deadline)) return in_flight_ == 0;
  }
  return true;
}

}  // namespace trun
