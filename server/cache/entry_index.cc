#include "server/cache/entry_index.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace trun {

void EntryIndex::Insert(IndexedEntry entry) {
  Erase(entry.info.key);
  for (const CacheBlobInfo& blob : entry.info.blobs) {
    Reference& reference = references_[blob.digest];
    if (reference.entries++ == 0) {
      reference.bytes = blob.bytes;
      blob_bytes_ += blob.bytes;
    }
  }
  entry.generation = next_generation_++;
  const CacheKey key = entry.info.key;
  entries_.insert_or_assign(key, std::move(entry));
}

IndexedEntry* EntryIndex::Find(const CacheKey& key) {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

void EntryIndex::Erase(const CacheKey& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  for (const CacheBlobInfo& blob : found->second.info.blobs) {
    const auto reference = references_.find(blob.digest);
    if (--reference->second.entries > 0) continue;
    blob_bytes_ -= reference->second.bytes;
    references_.erase(reference);
  }
  entries_.erase(found);
}

std::vector<Digest> EntryIndex::Freed(const std::vector<CacheKey>& erased,
                                      const std::vector<CacheBlobInfo>& added) const {
  absl::flat_hash_map<Digest, uint64_t> lost;
  for (const CacheKey& key : erased) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) continue;
    for (const CacheBlobInfo& blob : found->second.info.blobs) ++lost[blob.digest];
  }
  for (const CacheBlobInfo& blob : added) lost.erase(blob.digest);
  std::vector<Digest> freed;
  for (const auto& [digest, count] : lost) {
    if (references_.at(digest).entries == count) freed.push_back(digest);
  }
  return freed;
}

std::vector<CacheKey> EntryIndex::Referring(const Digest& digest) const {
  std::vector<CacheKey> keys;
  for (const auto& [key, entry] : entries_) {
    const auto& blobs = entry.info.blobs;
    if (std::any_of(blobs.begin(), blobs.end(),
                    [&](const CacheBlobInfo& blob) { return blob.digest == digest; })) {
      keys.push_back(key);
    }
  }
  return keys;
}

std::vector<CacheKey> EntryIndex::Expired(absl::Time now) const {
  std::vector<CacheKey> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry.expires <= now) keys.push_back(key);
  }
  return keys;
}

std::vector<CacheKey> EntryIndex::LeastRecentlyUsed() const {
  std::vector<std::tuple<absl::Time, uint64_t, CacheKey>> order;
  for (const auto& [key, entry] : entries_) {
    if (!entry.info.pinned) order.emplace_back(entry.info.last_used, entry.generation, key);
  }
  std::sort(order.begin(), order.end());
  std::vector<CacheKey> keys;
  keys.reserve(order.size());
  for (const auto& [time, generation, key] : order) keys.push_back(key);
  return keys;
}

std::vector<CacheEntryInfo> EntryIndex::Describe() const {
  std::vector<CacheEntryInfo> infos;
  infos.reserve(entries_.size());
  for (const auto& [key, entry] : entries_) infos.push_back(entry.info);
  return infos;
}

uint64_t EntryIndex::pinned() const {
  return std::count_if(entries_.begin(), entries_.end(),
                       [](const auto& element) { return element.second.info.pinned; });
}

}  // namespace trun
