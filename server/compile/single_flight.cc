#include "server/compile/single_flight.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/status.h"

namespace trun {
namespace {

constexpr std::chrono::milliseconds kCancelInterval{
    50};  // how often a waiter looks whether its client is there

}  // namespace

std::unique_ptr<SingleFlight::Lease> SingleFlight::TryLead(const CacheKey& key) {
  MutexLock lock(&mu_);
  if (!flights_.emplace(key, std::make_shared<Flight>()).second) return nullptr;
  return std::make_unique<Lease>(this, key);
}

absl::StatusOr<std::optional<SingleFlight::Failure>> SingleFlight::Wait(
    const CacheKey& key, absl::Duration timeout, const std::function<bool()>& is_cancelled) {
  timeout = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24));
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mu_);
  const auto found = flights_.find(key);
  if (found == flights_.end()) return std::optional<Failure>();
  const std::shared_ptr<Flight> flight = found->second;
  ++flight->waiters;
  absl::Status status;
  while (!flight->is_over && status.ok()) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= until) {
      status = DeadlineExceeded(Reason::kCompileTimeout,
                                "the deadline passed while waiting for the same compile of another request");
    } else if (is_cancelled != nullptr && is_cancelled()) {
      status = MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the client gave the compile up");
    } else {
      over_.WaitUntil(&mu_, is_cancelled == nullptr ? until : std::min(until, now + kCancelInterval));
    }
  }
  --flight->waiters;
  if (!flight->is_over) return status;
  return flight->failure;
}

bool SingleFlight::HasWaiters(const CacheKey& key) {
  MutexLock lock(&mu_);
  const auto found = flights_.find(key);
  return found != flights_.end() && found->second->waiters > 0;
}

void SingleFlight::End(const CacheKey& key, std::optional<Failure> failure) {
  MutexLock lock(&mu_);
  const auto found = flights_.find(key);
  found->second->is_over = true;
  found->second->failure = std::move(failure);
  flights_.erase(found);
  over_.SignalAll();
}

}  // namespace trun
