#include "server/compile/single_flight.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/status.h"

namespace trun {

std::unique_ptr<SingleFlight::Lease> SingleFlight::TryLead(const CacheKey& key) {
  MutexLock lock(&mu_);
  if (!flights_.emplace(key, std::make_shared<Flight>()).second) return nullptr;
  return std::make_unique<Lease>(this, key);
}

absl::StatusOr<std::optional<SingleFlight::Failure>> SingleFlight::Wait(const CacheKey& key,
                                                                        absl::Duration timeout) {
  timeout = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24));
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mu_);
  const auto found = flights_.find(key);
  if (found == flights_.end()) return std::optional<Failure>();
  const std::shared_ptr<Flight> flight = found->second;
  while (!flight->is_over) {
    if (!over_.WaitUntil(&mu_, until) && !flight->is_over) {
      return DeadlineExceeded(Reason::kCompileTimeout,
                              "the deadline passed while waiting for the same compile of another request");
    }
  }
  return flight->failure;
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
