// What a cache holds, in memory: descriptions, uses, and which blobs are shared by which number of entries.
#ifndef TRUN_SERVER_CACHE_ENTRY_INDEX_H_
#define TRUN_SERVER_CACHE_ENTRY_INDEX_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "server/cache/kernel_cache.h"

namespace trun {

struct IndexedEntry {
  CacheEntryInfo info;
  absl::Time expires = absl::InfiniteFuture();
  uint64_t generation = 0;  // differs for each Insert: tells a replaced entry from the one that was read
  absl::Time uses_stored;   // when the facts of its use were last written down
};

// Thread-compatible. Blobs are named by their digest: two entries with equal bytes share one blob.
class EntryIndex {
 public:
  // Adds or replaces; sets the generation.
  void Insert(IndexedEntry entry);
  // Null when it is not there. The pointer is good until the next call that changes the index.
  IndexedEntry* Find(const CacheKey& key);
  // No-op for an unknown key.
  void Erase(const CacheKey& key);
  // The blobs that nothing would refer to any more once `erased` were gone and an entry with `added` were
  // there.
  std::vector<Digest> Freed(const std::vector<CacheKey>& erased,
                            const std::vector<CacheBlobInfo>& added) const;
  bool HasBlob(const Digest& digest) const { return references_.contains(digest); }
  // Keys of all entries that refer to `digest`.
  std::vector<CacheKey> Referring(const Digest& digest) const;
  // Keys of remembered errors that ended before `now`.
  std::vector<CacheKey> Expired(absl::Time now) const;
  // Keys of entries that are not pinned, the longest unused first.
  std::vector<CacheKey> LeastRecentlyUsed() const;
  // In key order.
  std::vector<CacheEntryInfo> Describe() const;

  uint64_t size() const { return entries_.size(); }
  uint64_t blob_bytes() const { return blob_bytes_; }  // shared ones once
  uint64_t pinned() const;

 private:
  struct Reference {
    uint64_t entries = 0;
    uint64_t bytes = 0;
  };

  std::map<CacheKey, IndexedEntry> entries_;
  absl::flat_hash_map<Digest, Reference> references_;
  uint64_t blob_bytes_ = 0;
  uint64_t next_generation_ = 1;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_ENTRY_INDEX_H_
