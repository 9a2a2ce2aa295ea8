#include "server/service/token_store.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

absl::StatusOr<std::string> RandomToken() {
  std::array<char, 32> bits;
  size_t filled = 0;
  while (filled < bits.size()) {
    const ssize_t got = getrandom(bits.data() + filled, bits.size() - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FromErrno(errno, "getting random bits for a token");
    filled += static_cast<size_t>(got);
  }
  return absl::BytesToHexString(absl::string_view(bits.data(), bits.size()));
}

}  // namespace

absl::StatusOr<std::string> TokenStore::Put(uid_t user, std::vector<UniqueFd> descriptors) {
  TRUN_ASSIGN_OR_RETURN(std::string token, RandomToken());
  MutexLock lock(&mu_);
  DropExpiredLocked();
  const auto mine = std::count_if(entries_.begin(), entries_.end(),
                                  [user](const auto& entry) { return entry.second.user == user; });
  if (static_cast<size_t>(mine) >= kMaxTokensPerUser) {
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat(kMaxTokensPerUser, " exports wait to be fetched from the descriptor socket"),
        {{"limit", absl::StrCat(kMaxTokensPerUser)}});
  }
  entries_[token] = Entry{user, clock_->Now() + kValid, std::move(descriptors)};
  return token;
}

absl::StatusOr<std::vector<UniqueFd>> TokenStore::Take(absl::string_view token, uid_t user) {
  MutexLock lock(&mu_);
  DropExpiredLocked();
  const auto found = entries_.find(std::string(token));
  if (found == entries_.end() || found->second.user != user) {
    return NotFound(Reason::kHandle, "this token is unknown, used, expired or another user's: export again");
  }
  std::vector<UniqueFd> descriptors = std::move(found->second.descriptors);
  entries_.erase(found);
  return descriptors;
}

void TokenStore::DropExpired() {
  MutexLock lock(&mu_);
  DropExpiredLocked();
}

void TokenStore::DropExpiredLocked() {
  const absl::Time now = clock_->Now();
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    entry = entry->second.expires <= now ? entries_.erase(entry) : std::next(entry);
  }
}

}  // namespace trun
