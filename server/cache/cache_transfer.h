// A cache as a stream of bytes, to carry kernels from one machine to another: docs/formats/cache.md,
// "Export".
#ifndef TRUN_SERVER_CACHE_CACHE_TRANSFER_H_
#define TRUN_SERVER_CACHE_CACHE_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/unique_fd.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// Writes the entries of `keys` (empty: all) to `sink`, in chunks of at most 1 MiB; a status that `sink`
// returns ends it. Remembered errors are left out, and of all entries those that vanish or turn out damaged
// meanwhile; a named one is NOT_FOUND or DATA_LOSS kCorrupt instead.
absl::Status ExportCache(KernelCache& cache, const std::vector<CacheKey>& keys,
                         const std::function<absl::Status(absl::string_view)>& sink);

struct CacheImport {
  uint64_t imported = 0;
  uint64_t already_there = 0;
};

// Takes such a stream, all of it or nothing: the bytes wait in a nameless file until the last one is checked.
// Thread-compatible. The bytes are untrusted, but whoever may import decides what this cache answers: a key
// cannot be checked against its entry.
class CacheImporter {
 public:
  // `spool_folder`: where the nameless file is made. Streams above `max_bytes` are refused.
  static absl::StatusOr<std::unique_ptr<CacheImporter>> Create(const std::string& spool_folder,
                                                               uint64_t max_bytes);

  // RESOURCE_EXHAUSTED kTooLarge (details: limit), or kUnavailable when the disk is full.
  absl::Status Append(absl::string_view data);

  // Checks everything, then stores everything that `cache` does not have. INVALID_ARGUMENT kCorrupt: the
  // stream is damaged or cut short, nothing is taken. Else the errors of KernelCache::Put. REQUIRES: called
  // once, last.
  absl::StatusOr<CacheImport> Finish(KernelCache& cache);

 private:
  CacheImporter(UniqueFd spool, uint64_t max_bytes) : spool_(std::move(spool)), max_bytes_(max_bytes) {}
  absl::Status ReadAt(uint64_t offset, uint64_t bytes, std::string* out) const;
  // Calls `visit` with each entry, each blob checked against its digest. INVALID_ARGUMENT kCorrupt.
  absl::Status Walk(const std::function<absl::Status(const CacheKey&, const CacheEntry&)>& visit) const;

  const UniqueFd spool_;
  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_CACHE_TRANSFER_H_
