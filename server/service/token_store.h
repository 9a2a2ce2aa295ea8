// One-time tokens that stand for descriptors until their owner fetches them over the descriptor socket.
#ifndef TRUN_SERVER_SERVICE_TOKEN_STORE_H_
#define TRUN_SERVER_SERVICE_TOKEN_STORE_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"

namespace trun {

// Thread-safe.
class TokenStore {
 public:
  static constexpr absl::Duration kValid = absl::Seconds(10);
  static constexpr size_t kMaxTokensPerUser = 64;

  // `clock` outlives it.
  explicit TokenStore(Clock* clock) : clock_(clock) {}

  // A token of 256 random bits, in hex. RESOURCE_EXHAUSTED kQuota: this user has too many that nobody
  // fetched.
  absl::StatusOr<std::string> Put(uid_t user, std::vector<UniqueFd> descriptors);

  // The descriptors, once. NOT_FOUND kHandle for a token that is unknown, used, expired or another user's,
  // with one message for all; another user's try leaves it in place.
  absl::StatusOr<std::vector<UniqueFd>> Take(absl::string_view token, uid_t user);

  // Closes the descriptors of expired tokens; whoever keeps the daemon's clock calls it now and then.
  void DropExpired();

 private:
  struct Entry {
    uid_t user = 0;
    absl::Time expires;
    std::vector<UniqueFd> descriptors;
  };

  void DropExpiredLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock* const clock_;
  Mutex mu_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_TOKEN_STORE_H_
