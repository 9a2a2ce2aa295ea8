#include "server/cache/tiered_kernel_cache.h"

namespace trun {
namespace {

uint32_t LevelMask(const std::vector<Level>& levels) {
  uint32_t mask = 0;
  for (const Level level : levels) mask |= uint32_t{1} << static_cast<int>(level);
  return mask;
}

uint64_t MemoryOf(const CacheEntry& entry) {
  uint64_t bytes = sizeof(CacheEntry) + entry.metadata_json.size() + entry.log.size() + 512;
  for (const auto& [level, artifact] : entry.artifacts) bytes += artifact.size();
  return bytes;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const CacheEntry>> TieredKernelCache::Get(const CacheKey& key,
                                                                         const std::vector<Level>& levels) {
  const Slot slot(key, LevelMask(levels));
  std::shared_ptr<const CacheEntry> held;
  uint64_t epoch = 0;
  {
    MutexLock lock(&mu_);
    epoch = epoch_;
    const auto found = table_.find(slot);
    if (found != table_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      held = found->second->entry;
    }
  }
  if (held != nullptr) {
    if (base_->RecordUse(key)) {
      MutexLock lock(&mu_);
      ++memory_hits_;
      return held;
    }
    Forget(key);
    epoch = UINT64_MAX;  // do not keep what is read now: the next look decides
  }
  absl::StatusOr<std::shared_ptr<const CacheEntry>> read = base_->Get(key, levels);
  if (!read.ok() || (*read)->error.has_value()) return read;
  const uint64_t bytes = MemoryOf(**read);
  MutexLock lock(&mu_);
  if (epoch != epoch_ || bytes > memory_bytes_) return read;
  const auto found = table_.find(slot);
  // Somebody else read the same meanwhile: all get one object.
  if (found != table_.end()) return found->second->entry;
  order_.push_front(Held{slot, *read, bytes});
  table_.emplace(slot, order_.begin());
  bytes_ += bytes;
  while (bytes_ > memory_bytes_) Drop(std::prev(order_.end()));
  return read;
}

absl::Status TieredKernelCache::PutAll(const std::vector<CachePut>& puts) {
  const absl::Status status = base_->PutAll(puts);
  for (const CachePut& put : puts) Forget(put.key);
  return status;
}

absl::StatusOr<bool> TieredKernelCache::Remove(const CacheKey& key, bool force) {
  absl::StatusOr<bool> removed = base_->Remove(key, force);
  Forget(key);
  return removed;
}

void TieredKernelCache::Forget(const CacheKey& key) {
  MutexLock lock(&mu_);
  ++epoch_;
  for (auto held = order_.begin(); held != order_.end();) {
    const auto next = std::next(held);
    if (held->slot.first == key) Drop(held);
    held = next;
  }
}

void TieredKernelCache::Drop(std::list<Held>::iterator held) {
  bytes_ -= held->bytes;
  table_.erase(held->slot);
  order_.erase(held);
}

CacheStatistics TieredKernelCache::Statistics() {
  CacheStatistics statistics = base_->Statistics();
  MutexLock lock(&mu_);
  statistics.memory_hits = memory_hits_;
  return statistics;
}

uint64_t TieredKernelCache::bytes_in_memory() {
  MutexLock lock(&mu_);
  return bytes_;
}

}  // namespace trun
