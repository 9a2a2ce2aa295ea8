// A kernel cache in memory, with faults on request: for tests of what stands above a cache.
#ifndef TRUN_SERVER_CACHE_FAKE_KERNEL_CACHE_H_
#define TRUN_SERVER_CACHE_FAKE_KERNEL_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "server/cache/entry_codec.h"
#include "server/cache/entry_index.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// Thread-safe. Keeps the contract of KernelCache but for durability; evicts as soon as its blobs pass the
// limit.
class FakeKernelCache final : public KernelCache {
 public:
  explicit FakeKernelCache(std::function<absl::Time()> wall_clock = absl::Now,
                           uint64_t limit_bytes = uint64_t{1} << 30);

  absl::StatusOr<std::shared_ptr<const CacheEntry>> Get(const CacheKey& key,
                                                        const std::vector<Level>& levels) override;
  bool RecordUse(const CacheKey& key) override;
  absl::Status PutAll(const std::vector<CachePut>& puts) override;
  absl::StatusOr<CacheEntry> Read(const CacheKey& key) override;
  absl::StatusOr<std::string> GetBlob(const CacheKey& key, Level level) override;
  absl::StatusOr<CacheEntryInfo> Info(const CacheKey& key) override;
  absl::Status List(const std::function<bool(const CacheEntryInfo&)>& visit) override;
  absl::Status SetPinned(const CacheKey& key, bool pinned) override;
  absl::StatusOr<bool> Remove(const CacheKey& key, bool force) override;
  absl::StatusOr<CacheVerification> Verify() override;
  CacheStatistics Statistics() override;

  // Flips a byte of a stored blob. REQUIRES: the entry has that level, and it is not empty.
  void CorruptBlob(const CacheKey& key, Level level);
  // Every Put from now on fails so; OK ends it.
  void FailPuts(absl::Status status);

 private:
  const IndexedEntry* FindLive(const CacheKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool IsWhole(const CacheBlobInfo& blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Heal(const CacheBlobInfo& blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Erase(const std::vector<CacheKey>& keys) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::function<absl::Time()> wall_clock_;
  const uint64_t limit_bytes_;

  Mutex mu_;
  EntryIndex index_ ABSL_GUARDED_BY(mu_);
  std::map<CacheKey, EntryRecord> records_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Digest, std::string> blobs_ ABSL_GUARDED_BY(mu_);
  CacheStatistics counts_ ABSL_GUARDED_BY(mu_);
  absl::Status put_failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_FAKE_KERNEL_CACHE_H_
