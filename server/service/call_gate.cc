#include "server/service/call_gate.h"

#include <chrono>

#include "common/base/status.h"

namespace trun {

absl::Status CallGate::Enter(WhileDraining kind) {
  MutexLock lock(&mu_);
  if (draining_ && kind == WhileDraining::kRefused) {
    return Unavailable(Reason::kDraining, "the daemon is ending: try again, against the next one");
  }
  ++in_flight_;
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
