#ifndef TRUN_CLIENT_CACHE_H_
#define TRUN_CLIENT_CACHE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/ir/level.h"

namespace trun {
inline namespace client {

class Connection;

struct CacheStatistics {
  std::string path;
  uint64_t entries = 0, blob_bytes = 0, disk_bytes = 0, limit_bytes = 0, pinned = 0;
  uint64_t hits = 0, misses = 0, memory_hits = 0, negative_hits = 0;
  uint64_t healed = 0;  // bad or missing blobs that became misses
  uint64_t evicted = 0;
};

struct CacheBlobInfo {
  Level level = Level::kUnspecified;
  uint64_t bytes = 0;
  std::string digest;
};

struct CacheEntryInfo {
  std::string key;
  std::string kernel_name;
  std::string toolchain;
  std::string target;
  Level source_level = Level::kUnspecified;
  std::vector<CacheBlobInfo> blobs;
  absl::Time created;
  absl::Time last_used;
  uint64_t hits = 0;
  bool pinned = false;
  std::string error;          // of a remembered compile error
  std::string metadata_json;  // by Get only
};

struct CacheVerifyResult {
  uint64_t entries = 0, blobs = 0, bad_blobs = 0;
  std::vector<std::string> removed;
};

struct CacheEvictResult {
  uint64_t evicted = 0, freed_bytes = 0;
};

struct CacheImportResult {
  uint64_t imported = 0, already_there = 0;
};

// The daemon's kernel cache. Keys may be any unique prefix of at least 6 digits: NOT_FOUND, or
// INVALID_ARGUMENT when ambiguous. Thread-safe, copyable; shares the connection of the Client it came from.
// May end with UNAVAILABLE.
class Cache {
 public:
  absl::StatusOr<CacheStatistics> GetStatistics() const;
  absl::StatusOr<std::vector<CacheEntryInfo>> List() const;
  absl::StatusOr<CacheEntryInfo> Get(const std::string& key) const;
  // DATA_LOSS/CORRUPT where the stored bytes fail their checksum.
  absl::StatusOr<std::string> GetBlob(const std::string& key, Level level) const;
  absl::Status SetPinned(const std::string& key, bool pinned) const;
  // Pinned entries only with `force`.
  absl::StatusOr<CacheEvictResult> Evict(absl::Span<const std::string> keys, bool force) const;
  absl::StatusOr<CacheEvictResult> EvictAll(bool force) const;
  // Reads every blob of every entry; removes what is bad.
  absl::StatusOr<CacheVerifyResult> Verify() const;
  // Entries (all when `keys` is empty) as a file's bytes, in chunks; a status from `sink` ends the export.
  absl::Status Export(absl::Span<const std::string> keys,
                      const std::function<absl::Status(absl::string_view)>& sink) const;
  // `source` returns the next chunk, empty at the end. INVALID_ARGUMENT/CORRUPT: nothing of a damaged file is
  // taken.
  absl::StatusOr<CacheImportResult> Import(const std::function<absl::StatusOr<std::string>()>& source) const;

 private:
  friend class Client;
  explicit Cache(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  std::shared_ptr<Connection> connection_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CACHE_H_
