// Keeps what was read lately in memory, so that a repeat costs no disk, no decompression and no digest.
#ifndef TRUN_SERVER_CACHE_TIERED_KERNEL_CACHE_H_
#define TRUN_SERVER_CACHE_TIERED_KERNEL_CACHE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/base/mutex.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// Thread-safe. A bounded table of verified entries in front of another cache. The same entry asked for twice
// is the same object, for as long as it stays in the table: callers may key what they derive from it by its
// address. An entry that the cache behind no longer has is never answered. Remembered errors are not kept:
// they end by the clock of the cache behind.
class TieredKernelCache final : public KernelCache {
 public:
  // `base` outlives it. `memory_bytes` bounds the artifacts and texts in the table.
  TieredKernelCache(KernelCache* base, uint64_t memory_bytes) : base_(base), memory_bytes_(memory_bytes) {}

  absl::StatusOr<std::shared_ptr<const CacheEntry>> Get(const CacheKey& key,
                                                        const std::vector<Level>& levels) override;
  bool RecordUse(const CacheKey& key) override { return base_->RecordUse(key); }
  absl::Status PutAll(const std::vector<CachePut>& puts) override;
  absl::StatusOr<CacheEntry> Read(const CacheKey& key) override { return base_->Read(key); }
  absl::StatusOr<std::string> GetBlob(const CacheKey& key, Level level) override {
    return base_->GetBlob(key, level);
  }
  absl::StatusOr<CacheEntryInfo> Info(const CacheKey& key) override { return base_->Info(key); }
  absl::Status List(const std::function<bool(const CacheEntryInfo&)>& visit) override {
    return base_->List(visit);
  }
  absl::Status SetPinned(const CacheKey& key, bool pinned) override { return base_->SetPinned(key, pinned); }
  absl::StatusOr<bool> Remove(const CacheKey& key, bool force) override;
  absl::StatusOr<CacheVerification> Verify() override { return base_->Verify(); }
  // The base's, with memory_hits.
  CacheStatistics Statistics() override;

  uint64_t bytes_in_memory();

 private:
  // One answer: a key, and the set of levels that was asked for.
  using Slot = std::pair<CacheKey, uint32_t>;
  struct Held {
    Slot slot;
    std::shared_ptr<const CacheEntry> entry;
    uint64_t bytes = 0;
  };

  void Forget(const CacheKey& key);
  void Drop(std::list<Held>::iterator held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  KernelCache* const base_;
  const uint64_t memory_bytes_;

  Mutex mu_;
  std::list<Held> order_ ABSL_GUARDED_BY(mu_);  // the latest used first
  absl::flat_hash_map<Slot, std::list<Held>::iterator> table_ ABSL_GUARDED_BY(mu_);
  uint64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t memory_hits_ ABSL_GUARDED_BY(mu_) = 0;
  // Changes whenever something is replaced or removed: what was read before then is not put into the table.
  uint64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_TIERED_KERNEL_CACHE_H_
