// The seam of the persistent cache: what every stage of every compile made, by key.
#ifndef TRUN_SERVER_CACHE_KERNEL_CACHE_H_
#define TRUN_SERVER_CACHE_KERNEL_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/digest.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"

namespace trun {

// SHA-256 over (level, IR bytes, metadata given, target, toolchain id, options in canonical order,
// instrumentation plan). server/compile makes keys; the cache only stores under them.
using CacheKey = Digest;

// A remembered deterministic failure: the same request fails the same way without a compile.
struct CachedError {
  int code = 0;
  std::string reason;
  std::string message;
  std::map<std::string, std::string> details;
};

// What one key holds. `artifacts` maps each level the compile made to its bytes; `metadata_json` is the
// toolchain's.
struct CacheEntry {
  std::string kernel_name;
  std::string toolchain;  // name, for people
  std::string target;
  Level source_level = Level::kUnspecified;
  std::string tenant;  // who made it
  std::string metadata_json;
  std::map<Level, std::string> artifacts;
  std::string log;
  std::optional<CachedError> error;
};

// One of several entries that are stored together.
struct CachePut {
  CacheKey key;
  const CacheEntry* entry = nullptr;  // borrowed for the call
  // Of a remembered error, how long it lives; infinite for kernels.
  absl::Duration ttl = absl::InfiniteDuration();
};

struct CacheBlobInfo {
  Level level = Level::kUnspecified;
  uint64_t bytes = 0;
  Digest digest;
};

struct CacheEntryInfo {
  CacheKey key;
  std::string kernel_name;
  std::string toolchain;
  std::string target;
  Level source_level = Level::kUnspecified;
  std::string tenant;
  std::vector<CacheBlobInfo> blobs;
  absl::Time created;    // wall clock
  absl::Time last_used;  // wall clock, to about a minute
  uint64_t hits = 0;
  bool pinned = false;
  std::string error;  // message of a remembered error
};

struct CacheStatistics {
  std::string path;
  uint64_t entries = 0;
  uint64_t blob_bytes = 0;
  uint64_t disk_bytes = 0;  // of the database folder
  uint64_t limit_bytes = 0;
  uint64_t pinned = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t memory_hits = 0;
  uint64_t negative_hits = 0;
  uint64_t healed = 0;
  uint64_t evicted = 0;
};

struct CacheVerification {
  uint64_t entries = 0;
  uint64_t blobs = 0;
  uint64_t bad_blobs = 0;
  std::vector<CacheKey> removed;
};

// Thread-safe. A bad or missing blob is a miss that removes the entry and is counted, never a wrong kernel.
class KernelCache {
 public:
  virtual ~KernelCache() = default;

  // The entry with the artifacts of `levels` (those it has of them), each checked against its digest; all
  // other levels are left out. NOT_FOUND for a miss. Counts a use.
  virtual absl::StatusOr<std::shared_ptr<const CacheEntry>> Get(const CacheKey& key,
                                                                const std::vector<Level>& levels) = 0;

  // Counts a use that a tier in front of this cache answered. False: the entry is no longer here, forget it.
  virtual bool RecordUse(const CacheKey& key) = 0;

  // Stores all of the entries or nothing; replaces what was there and keeps its pin. RESOURCE_EXHAUSTED
  // kQuota: larger than the whole cache (details: limit). When it returns, a process that is killed loses
  // nothing of it; a machine that loses its power may lose the last moments, whole entries of them. REQUIRES:
  // the keys differ.
  virtual absl::Status PutAll(const std::vector<CachePut>& puts) = 0;
  absl::Status Put(const CacheKey& key, const CacheEntry& entry,
                   absl::Duration ttl = absl::InfiniteDuration()) {
    return PutAll({CachePut{key, &entry, ttl}});
  }

  // The whole entry, every blob checked, without counting a use. NOT_FOUND; DATA_LOSS kCorrupt (and the entry
  // is removed).
  virtual absl::StatusOr<CacheEntry> Read(const CacheKey& key) = 0;

  // One blob, checked, without counting a use. NOT_FOUND; DATA_LOSS kCorrupt (and the entry is removed).
  virtual absl::StatusOr<std::string> GetBlob(const CacheKey& key, Level level) = 0;

  // Without blobs and without counting a use. NOT_FOUND.
  virtual absl::StatusOr<CacheEntryInfo> Info(const CacheKey& key) = 0;
  // In key order; stops when `visit` returns false. A snapshot: entries written meanwhile are not seen.
  virtual absl::Status List(const std::function<bool(const CacheEntryInfo&)>& visit) = 0;
  // NOT_FOUND.
  virtual absl::Status SetPinned(const CacheKey& key, bool pinned) = 0;
  // True when it was there. FAILED_PRECONDITION kNotPermitted when it is pinned and `force` is not set.
  virtual absl::StatusOr<bool> Remove(const CacheKey& key, bool force) = 0;
  virtual absl::StatusOr<CacheVerification> Verify() = 0;
  virtual CacheStatistics Statistics() = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_KERNEL_CACHE_H_
