// The stored form of a cache entry without its blobs: docs/formats/cache.md, "Entry record".
#ifndef TRUN_SERVER_CACHE_ENTRY_CODEC_H_
#define TRUN_SERVER_CACHE_ENTRY_CODEC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// All of an entry but the bytes of its blobs and the facts of its use.
struct EntryRecord {
  CacheEntry entry;                             // `artifacts` is empty: `blobs` describes them
  std::vector<CacheBlobInfo> blobs;             // in the order of their levels, each level once
  absl::Time created;                           // to the microsecond
  absl::Time expires = absl::InfiniteFuture();  // of a remembered error
};

// SHA-256 of the rest, then the fields. Same record, same bytes.
std::string EncodeEntryRecord(const EntryRecord& record);

// DATA_LOSS kCorrupt: the checksum is wrong, or the bytes are no record of this version. Thread-safe; `data`
// is untrusted (an imported file has it too).
absl::StatusOr<EntryRecord> DecodeEntryRecord(absl::string_view data);

// The record of `entry`: digests its artifacts.
EntryRecord MakeEntryRecord(const CacheEntry& entry, absl::Time created, absl::Time expires);

// The description people see; the facts of its use (last_used, hits, pinned) are left for the caller to set.
CacheEntryInfo DescribeEntry(const CacheKey& key, const EntryRecord& record);

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_ENTRY_CODEC_H_
