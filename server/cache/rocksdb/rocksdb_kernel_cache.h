// The persistent kernel cache, on RocksDB. Format: docs/formats/cache.md. Reasons:
// docs/adr/0003-kernel-cache.md.
#ifndef TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_KERNEL_CACHE_H_
#define TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_KERNEL_CACHE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "server/cache/entry_codec.h"
#include "server/cache/entry_index.h"
#include "server/cache/kernel_cache.h"

namespace trun {

class CacheBatch;
class CacheDatabase;

struct RocksDbKernelCacheOptions {
  std::string path;                           // the folder; made (0700) where there is none
  uint64_t limit_bytes = uint64_t{10} << 30;  // of the folder on disk; at least 1 MiB
  std::function<absl::Time()> wall_clock =
      absl::Now;  // dates of entries; survives a restart, so no monotonic clock
  absl::Duration sweep_period =
      absl::Minutes(1);  // how often ended errors are dropped and the limit is looked at
};

// Thread-safe. Nobody waits for a put to reach the disk: the sweeper's thread brings it there at once (ADR
// 22). The folder may pass its limit by a few buffers until the sweeper has evicted and compacted.
class RocksDbKernelCache final : public KernelCache {
 public:
  // Errors: INVALID_ARGUMENT kArgument for the options, else those of CacheDatabase::Open.
  static absl::StatusOr<std::unique_ptr<RocksDbKernelCache>> Open(const RocksDbKernelCacheOptions& options);
  ~RocksDbKernelCache() override;

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

  // Evicts, the longest unused first, until the folder is well under its limit; the sweeper does the same by
  // itself. RESOURCE_EXHAUSTED kQuota when what is pinned alone passes the limit.
  absl::Status EnforceLimit();

 private:
  friend class RocksDbKernelCachePeer;  // tests damage what is stored, and wait for the disk
  RocksDbKernelCache(const RocksDbKernelCacheOptions& options, std::unique_ptr<CacheDatabase> database);
  absl::Status Load();
  absl::StatusOr<EntryRecord> ReadRecord(const CacheKey& key);
  absl::StatusOr<std::string> ReadBlob(const CacheBlobInfo& blob);
  // What was found damaged at `generation` of `key` (these blobs; none: its record) is read once more, then
  // removed with every entry that shares it. Returns how much of it was damaged indeed.
  uint64_t Heal(const CacheKey& key, uint64_t generation, const std::vector<CacheBlobInfo>& blobs)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::Status RemoveEntries(const std::vector<CacheKey>& keys) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  void StoreUse(const CacheKey& key, bool sync) ABSL_LOCKS_EXCLUDED(mu_);
  void DropExpired() ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  void Sweep();  // the thread's body: brings what was put to the disk, and keeps the limit

  const RocksDbKernelCacheOptions options_;
  const std::unique_ptr<CacheDatabase> database_;

  Mutex sweep_mu_;  // one eviction at a time; taken before write_mu_
  Mutex write_mu_
      ABSL_ACQUIRED_AFTER(sweep_mu_);  // one change at a time, held over the write to disk; before mu_

  Mutex mu_ ABSL_ACQUIRED_AFTER(write_mu_);  // never held over I/O
  CondVar wake_;
  EntryIndex index_ ABSL_GUARDED_BY(mu_);
  CacheStatistics counts_ ABSL_GUARDED_BY(mu_);
  uint64_t unswept_bytes_ ABSL_GUARDED_BY(mu_) = 0;    // written since the limit was last looked at
  uint64_t batches_ ABSL_GUARDED_BY(mu_) = 0;          // of puts, so far
  uint64_t batches_on_disk_ ABSL_GUARDED_BY(mu_) = 0;  // of them, by the sweeper
  bool closing_ ABSL_GUARDED_BY(mu_) = false;

  std::thread sweeper_;  // last: it uses all of the above
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_KERNEL_CACHE_H_
