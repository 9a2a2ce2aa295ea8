#include "server/cache/fake_kernel_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

absl::Status NoEntry() { return NotFound(Reason::kHandle, "no such entry"); }
absl::Status Damaged() { return DataLoss(Reason::kCorrupt, "a blob was damaged; the entry is removed"); }

}  // namespace

FakeKernelCache::FakeKernelCache(std::function<absl::Time()> wall_clock, uint64_t limit_bytes)
    : wall_clock_(std::move(wall_clock)), limit_bytes_(limit_bytes) {}

const IndexedEntry* FakeKernelCache::FindLive(const CacheKey& key) {
  const IndexedEntry* const indexed = index_.Find(key);
  return indexed == nullptr || indexed->expires <= wall_clock_() ? nullptr : indexed;
}

bool FakeKernelCache::IsWhole(const CacheBlobInfo& blob) {
  const auto found = blobs_.find(blob.digest);
  return found != blobs_.end() && Digest::Of(found->second) == blob.digest;
}

void FakeKernelCache::Erase(const std::vector<CacheKey>& keys) {
  for (const Digest& freed : index_.Freed(keys, {})) blobs_.erase(freed);
  for (const CacheKey& key : keys) {
    index_.Erase(key);
    records_.erase(key);
  }
}

void FakeKernelCache::Heal(const CacheBlobInfo& blob) {
  Erase(index_.Referring(blob.digest));
  ++counts_.healed;
}

absl::StatusOr<std::shared_ptr<const CacheEntry>> FakeKernelCache::Get(const CacheKey& key,
                                                                       const std::vector<Level>& levels) {
  MutexLock lock(&mu_);
  if (FindLive(key) == nullptr) {
    ++counts_.misses;
    return NoEntry();
  }
  const EntryRecord& record = records_.at(key);
  auto entry = std::make_shared<CacheEntry>(record.entry);
  for (const CacheBlobInfo& blob : record.blobs) {
    if (std::find(levels.begin(), levels.end(), blob.level) == levels.end()) continue;
    if (!IsWhole(blob)) {
      Heal(CacheBlobInfo(blob));
      ++counts_.misses;
      return NoEntry();
    }
    entry->artifacts[blob.level] = blobs_.at(blob.digest);
  }
  ++counts_.hits;
  if (entry->error.has_value()) ++counts_.negative_hits;
  IndexedEntry* const indexed = index_.Find(key);
  ++indexed->info.hits;
  indexed->info.last_used = wall_clock_();
  return std::shared_ptr<const CacheEntry>(std::move(entry));
}

bool FakeKernelCache::RecordUse(const CacheKey& key) {
  MutexLock lock(&mu_);
  IndexedEntry* const indexed = index_.Find(key);
  if (indexed == nullptr) return false;
  ++counts_.hits;
  ++indexed->info.hits;
  indexed->info.last_used = wall_clock_();
  return true;
}

absl::Status FakeKernelCache::PutAll(const std::vector<CachePut>& puts) {
  const absl::Time now = wall_clock_();
  std::vector<EntryRecord> records;
  uint64_t bytes = 0;
  for (const CachePut& put : puts) {
    records.push_back(MakeEntryRecord(*put.entry, now, now + put.ttl));
    for (const CacheBlobInfo& blob : records.back().blobs) bytes += blob.bytes;
  }
  if (bytes > limit_bytes_) {
    return ResourceExhausted(Reason::kQuota, "larger than the whole cache",
                             {{"limit", absl::StrCat(limit_bytes_)}});
  }
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(put_failure_);
  for (size_t i = 0; i < puts.size(); ++i) {
    const CacheKey& key = puts[i].key;
    IndexedEntry indexed;
    indexed.info = DescribeEntry(key, records[i]);
    indexed.expires = records[i].expires;
    if (const IndexedEntry* const old = index_.Find(key)) indexed.info.pinned = old->info.pinned;
    for (const Digest& freed : index_.Freed({key}, records[i].blobs)) blobs_.erase(freed);
    for (const CacheBlobInfo& blob : records[i].blobs) {
      blobs_.emplace(blob.digest, puts[i].entry->artifacts.at(blob.level));
    }
    index_.Insert(std::move(indexed));
    records_.insert_or_assign(key, std::move(records[i]));
  }
  while (index_.blob_bytes() > limit_bytes_) {
    const std::vector<CacheKey> order = index_.LeastRecentlyUsed();
    if (order.empty()) break;
    Erase({order.front()});
    ++counts_.evicted;
  }
  return absl::OkStatus();
}

absl::StatusOr<CacheEntry> FakeKernelCache::Read(const CacheKey& key) {
  MutexLock lock(&mu_);
  if (FindLive(key) == nullptr) return NoEntry();
  const EntryRecord& record = records_.at(key);
  CacheEntry entry = record.entry;
  for (const CacheBlobInfo& blob : record.blobs) {
    if (!IsWhole(blob)) {
      Heal(CacheBlobInfo(blob));
      return Damaged();
    }
    entry.artifacts[blob.level] = blobs_.at(blob.digest);
  }
  return entry;
}

absl::StatusOr<std::string> FakeKernelCache::GetBlob(const CacheKey& key, Level level) {
  MutexLock lock(&mu_);
  if (FindLive(key) == nullptr) return NoEntry();
  for (const CacheBlobInfo& blob : records_.at(key).blobs) {
    if (blob.level != level) continue;
    if (IsWhole(blob)) return blobs_.at(blob.digest);
    Heal(CacheBlobInfo(blob));
    return Damaged();
  }
  return NoEntry();
}

absl::StatusOr<CacheEntryInfo> FakeKernelCache::Info(const CacheKey& key) {
  MutexLock lock(&mu_);
  const IndexedEntry* const indexed = FindLive(key);
  if (indexed == nullptr) return NoEntry();
  return indexed->info;
}

absl::Status FakeKernelCache::List(const std::function<bool(const CacheEntryInfo&)>& visit) {
  std::vector<CacheEntryInfo> infos;
  {
    MutexLock lock(&mu_);
    infos = index_.Describe();
  }
  for (const CacheEntryInfo& info : infos) {
    if (!visit(info)) break;
  }
  return absl::OkStatus();
}

absl::Status FakeKernelCache::SetPinned(const CacheKey& key, bool pinned) {
  MutexLock lock(&mu_);
  IndexedEntry* const indexed = index_.Find(key);
  if (indexed == nullptr) return NoEntry();
  indexed->info.pinned = pinned;
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeKernelCache::Remove(const CacheKey& key, bool force) {
  MutexLock lock(&mu_);
  const IndexedEntry* const indexed = index_.Find(key);
  if (indexed == nullptr) return false;
  if (indexed->info.pinned && !force) return FailedPrecondition(Reason::kNotPermitted, "the entry is pinned");
  Erase({key});
  return true;
}

absl::StatusOr<CacheVerification> FakeKernelCache::Verify() {
  MutexLock lock(&mu_);
  CacheVerification result;
  const std::vector<CacheEntryInfo> infos = index_.Describe();
  for (const CacheEntryInfo& info : infos) {
    if (index_.Find(info.key) == nullptr) continue;
    ++result.entries;
    result.blobs += info.blobs.size();
    std::vector<CacheBlobInfo> bad;
    for (const CacheBlobInfo& blob : info.blobs) {
      if (!IsWhole(blob)) bad.push_back(blob);
    }
    result.bad_blobs += bad.size();
    for (const CacheBlobInfo& blob : bad) Heal(blob);
  }
  for (const CacheEntryInfo& info : infos) {
    if (index_.Find(info.key) == nullptr) result.removed.push_back(info.key);
  }
  return result;
}

CacheStatistics FakeKernelCache::Statistics() {
  MutexLock lock(&mu_);
  CacheStatistics statistics = counts_;
  statistics.path = "memory";
  statistics.entries = index_.size();
  statistics.blob_bytes = index_.blob_bytes();
  statistics.disk_bytes = index_.blob_bytes();
  statistics.limit_bytes = limit_bytes_;
  statistics.pinned = index_.pinned();
  return statistics;
}

void FakeKernelCache::CorruptBlob(const CacheKey& key, Level level) {
  MutexLock lock(&mu_);
  for (const CacheBlobInfo& blob : records_.at(key).blobs) {
    if (blob.level == level) blobs_.at(blob.digest).at(0) ^= 1;
  }
}

void FakeKernelCache::FailPuts(absl::Status status) {
  MutexLock lock(&mu_);
  put_failure_ = std::move(status);
}

}  // namespace trun
