// Who is making what: so that a thing that many ask for at once is made once.
#ifndef TRUN_SERVER_COMPILE_SINGLE_FLIGHT_H_
#define TRUN_SERVER_COMPILE_SINGLE_FLIGHT_H_

#include <functional>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/ir/level.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// Thread-safe. Results do not travel through here but through the cache; only a failure does.
//
// No deadlock: a leader may wait for keys of later levels than all that it leads, never for others.
class SingleFlight {
 public:
  // Why a leader ended without the result: what failed, and the last level that it had reached by then.
  struct Failure {
    absl::Status status;
    Level reached = Level::kUnspecified;
  };

  // The right to make one key. Its end, however it comes, wakes all who wait.
  class Lease {
   public:
    Lease(SingleFlight* flights, const CacheKey& key) : flights_(flights), key_(key) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { flights_->End(key_, std::move(failure_)); }
    void SetFailure(Failure failure) { failure_ = std::move(failure); }
    const CacheKey& key() const { return key_; }
    bool HasWaiters() const { return flights_->HasWaiters(key_); }

   private:
    SingleFlight* const flights_;
    const CacheKey key_;
    std::optional<Failure> failure_;
  };

  // Null when somebody else makes it.
  std::unique_ptr<Lease> TryLead(const CacheKey& key);

  // Waits until nobody makes `key`. Returns the leader's failure, or nothing when it ended well (or nobody
  // was there). DEADLINE_EXCEEDED kCompileTimeout after `timeout`. CANCELLED kCancelled soon after
  // `is_cancelled` (may be null) is true.
  absl::StatusOr<std::optional<Failure>> Wait(const CacheKey& key, absl::Duration timeout,
                                              const std::function<bool()>& is_cancelled);

 private:
  struct Flight {
    bool is_over = false;
    int waiters = 0;
    std::optional<Failure> failure;
  };
  bool HasWaiters(const CacheKey& key);
  void End(const CacheKey& key, std::optional<Failure> failure);

  Mutex mu_;
  CondVar over_;
  absl::flat_hash_map<CacheKey, std::shared_ptr<Flight>> flights_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_SINGLE_FLIGHT_H_
