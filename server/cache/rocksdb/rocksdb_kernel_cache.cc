#include "server/cache/rocksdb/rocksdb_kernel_cache.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/cache/rocksdb/cache_database.h"

namespace trun {
namespace {

constexpr uint64_t kLeastLimit = uint64_t{1} << 20;
constexpr absl::Duration kUseResolution = absl::Minutes(1);
constexpr uint64_t kRecordOverhead = 512;  // about what an entry costs beside its blobs

absl::Status NoEntry(const CacheKey& key) {
  return NotFound(Reason::kHandle, absl::StrCat("the cache has no entry ", key.ToHex()));
}

// Last use in microseconds, hits (both little-endian), pinned.
std::string EncodeUse(const CacheEntryInfo& info) {
  std::string out(17, '\0');
  const int64_t micros = absl::ToUnixMicros(info.last_used);
  std::memcpy(&out[0], &micros, 8);
  std::memcpy(&out[8], &info.hits, 8);
  out[16] = info.pinned ? 1 : 0;
  return out;
}

void DecodeUse(absl::string_view data, CacheEntryInfo* info) {
  if (data.size() != 17) return;
  int64_t micros = 0;
  std::memcpy(&micros, data.data(), 8);
  std::memcpy(&info->hits, data.data() + 8, 8);
  info->last_used = absl::FromUnixMicros(micros);
  info->pinned = data[16] != 0;
}

// A blob or record that cannot be used; a failing disk is one too: the compile that follows repairs what it
// can.
bool IsDamage(const absl::Status& status) { return !status.ok(); }

}  // namespace

absl::StatusOr<std::unique_ptr<RocksDbKernelCache>> RocksDbKernelCache::Open(
    const RocksDbKernelCacheOptions& options) {
  if (options.path.empty()) return InvalidArgument(Reason::kArgument, "the cache needs a folder");
  if (options.limit_bytes < kLeastLimit) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("the cache's limit of ", options.limit_bytes,
                                        " bytes is less than the least one, ", kLeastLimit));
  }
  TRUN_ASSIGN_OR_RETURN(auto database, CacheDatabase::Open(options.path, options.limit_bytes));
  std::unique_ptr<RocksDbKernelCache> cache(new RocksDbKernelCache(options, std::move(database)));
  TRUN_RETURN_IF_ERROR(cache->Load());
  RocksDbKernelCache* const raw = cache.get();
  cache->sweeper_ = std::thread([raw] { raw->Sweep(); });
  return cache;
}

RocksDbKernelCache::RocksDbKernelCache(const RocksDbKernelCacheOptions& options,
                                       std::unique_ptr<CacheDatabase> database)
    : options_(options), database_(std::move(database)) {}

RocksDbKernelCache::~RocksDbKernelCache() {
  {
    MutexLock lock(&mu_);
    closing_ = true;
    wake_.SignalAll();
  }
  if (sweeper_.joinable()) sweeper_.join();
  std::vector<CacheEntryInfo> infos;
  {
    MutexLock lock(&mu_);
    infos = index_.Describe();
  }
  CacheBatch batch;
  std::vector<std::string> uses(infos.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    uses[i] = EncodeUse(infos[i]);
    batch.Put(CacheFamily::kUses, infos[i].key.bytes(), uses[i]);
  }
  // Only dates and counts: without them the entries are still right.
  database_->Write(batch, /*sync=*/true).IgnoreError();
}

absl::Status RocksDbKernelCache::Load() {
  std::map<std::string, std::string> uses;
  TRUN_RETURN_IF_ERROR(
      database_->Scan(CacheFamily::kUses, [&](absl::string_view key, absl::string_view value) {
        uses.emplace(std::string(key), std::string(value));
        return true;
      }));
  CacheBatch batch;
  EntryIndex loaded;
  uint64_t damaged = 0;
  const absl::Status scanned =
      database_->Scan(CacheFamily::kEntries, [&](absl::string_view raw_key, absl::string_view value) {
        const absl::StatusOr<CacheKey> key = CacheKey::FromBytes(raw_key);
        const absl::StatusOr<EntryRecord> record = DecodeEntryRecord(value);
        if (!key.ok() || !record.ok()) {
          ++damaged;
          batch.Delete(CacheFamily::kEntries, raw_key);
          batch.Delete(CacheFamily::kUses, raw_key);
          return true;
        }
        IndexedEntry entry;
        entry.info = DescribeEntry(*key, *record);
        entry.expires = record->expires;
        const auto use = uses.find(std::string(raw_key));
        if (use != uses.end()) DecodeUse(use->second, &entry.info);
        entry.uses_stored = entry.info.last_used;
        loaded.Insert(std::move(entry));
        return true;
      });
  // A block of records that cannot be read loses those that stand in it and after it; they are misses from
  // now on. So are those of a database that had to be repaired.
  if (!scanned.ok() || database_->was_repaired()) ++damaged;
  if (damaged > 0) {
    TRUN_RETURN_IF_ERROR(database_->Scan(CacheFamily::kBlobs, [&](absl::string_view key, absl::string_view) {
      const absl::StatusOr<Digest> digest = Digest::FromBytes(key);
      if (!digest.ok() || !loaded.HasBlob(*digest)) batch.Delete(CacheFamily::kBlobs, key);
      return true;
    }));
    TRUN_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true));
  }
  MutexLock lock(&mu_);
  index_ = std::move(loaded);
  counts_.healed += damaged;
  unswept_bytes_ = options_.limit_bytes;  // the limit may be a new one
  return absl::OkStatus();
}

absl::StatusOr<EntryRecord> RocksDbKernelCache::ReadRecord(const CacheKey& key) {
  TRUN_ASSIGN_OR_RETURN(const std::string data, database_->Read(CacheFamily::kEntries, key.bytes()));
  return DecodeEntryRecord(data);
}

absl::StatusOr<std::string> RocksDbKernelCache::ReadBlob(const CacheBlobInfo& blob) {
  TRUN_ASSIGN_OR_RETURN(std::string bytes, database_->Read(CacheFamily::kBlobs, blob.digest.bytes()));
  if (bytes.size() != blob.bytes || Digest::Of(bytes) != blob.digest) {
    return DataLoss(Reason::kCorrupt,
                    absl::StrCat("the stored ", LevelName(blob.level), " does not match its digest"));
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<const CacheEntry>> RocksDbKernelCache::Get(const CacheKey& key,
                                                                          const std::vector<Level>& levels) {
  uint64_t generation = 0;
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr || indexed->expires <= options_.wall_clock()) {
      ++counts_.misses;
      return NoEntry(key);
    }
    generation = indexed->generation;
  }
  std::vector<CacheBlobInfo> damaged;
  absl::StatusOr<EntryRecord> record = ReadRecord(key);
  bool is_whole = record.ok();
  if (is_whole) {
    for (const CacheBlobInfo& blob : record->blobs) {
      if (std::find(levels.begin(), levels.end(), blob.level) == levels.end()) continue;
      absl::StatusOr<std::string> bytes = ReadBlob(blob);
      if (IsDamage(bytes.status())) {
        damaged.push_back(blob);
        is_whole = false;
        break;
      }
      record->entry.artifacts.emplace(blob.level, *std::move(bytes));
    }
  }
  if (!is_whole) {
    Heal(key, generation, damaged);
    MutexLock lock(&mu_);
    ++counts_.misses;
    return NoEntry(key);
  }
  if (record->entry.error.has_value()) {
    MutexLock lock(&mu_);
    ++counts_.negative_hits;
  }
  RecordUse(key);
  return std::make_shared<const CacheEntry>(std::move(record->entry));
}

bool RocksDbKernelCache::RecordUse(const CacheKey& key) {
  const absl::Time now = options_.wall_clock();
  {
    MutexLock lock(&mu_);
    IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr) return false;
    ++counts_.hits;
    ++indexed->info.hits;
    indexed->info.last_used = now;
    if (now - indexed->uses_stored < kUseResolution) return true;
    indexed->uses_stored = now;
  }
  StoreUse(key, /*sync=*/false);
  return true;
}

void RocksDbKernelCache::StoreUse(const CacheKey& key, bool sync) {
  CacheBatch batch;
  std::string use;
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr) return;
    use = EncodeUse(indexed->info);
  }
  batch.Put(CacheFamily::kUses, key.bytes(), use);
  // A date that is not written makes the order of eviction a little worse, no more.
  database_->Write(batch, sync).IgnoreError();
}

absl::Status RocksDbKernelCache::PutAll(const std::vector<CachePut>& puts) {
  struct Prepared {
    IndexedEntry indexed;
    std::string record;
    std::string use;
  };
  const absl::Time now = options_.wall_clock();
  std::vector<Prepared> prepared(puts.size());
  std::vector<CacheKey> keys;
  std::vector<CacheBlobInfo> blobs;
  uint64_t bytes = 0;
  absl::flat_hash_set<Digest> counted;
  for (size_t i = 0; i < puts.size(); ++i) {
    const EntryRecord record = MakeEntryRecord(*puts[i].entry, now, now + puts[i].ttl);
    prepared[i].record = EncodeEntryRecord(record);
    prepared[i].indexed.info = DescribeEntry(puts[i].key, record);
    prepared[i].indexed.expires = record.expires;
    prepared[i].indexed.uses_stored = now;
    keys.push_back(puts[i].key);
    bytes += prepared[i].record.size();
    for (const CacheBlobInfo& blob : record.blobs) {
      if (counted.insert(blob.digest).second) bytes += blob.bytes;
      blobs.push_back(blob);
    }
  }
  if (bytes > options_.limit_bytes) {
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat(bytes, " bytes are larger than the whole cache, which is limited to ",
                     options_.limit_bytes),
        {{"limit", absl::StrCat(options_.limit_bytes)}});
  }

  bool is_sweeper_behind = false;
  {
    MutexLock write_lock(&write_mu_);
    CacheBatch batch;
    {
      MutexLock lock(&mu_);
      absl::flat_hash_set<Digest> written;
      for (size_t i = 0; i < puts.size(); ++i) {
        CacheEntryInfo& info = prepared[i].indexed.info;
        if (const IndexedEntry* const old = index_.Find(info.key)) info.pinned = old->info.pinned;
        for (const CacheBlobInfo& blob : info.blobs) {
          if (index_.HasBlob(blob.digest) || !written.insert(blob.digest).second) continue;
          batch.Put(CacheFamily::kBlobs, blob.digest.bytes(), puts[i].entry->artifacts.at(blob.level));
        }
      }
      for (const Digest& freed : index_.Freed(keys, blobs)) batch.Delete(CacheFamily::kBlobs, freed.bytes());
    }
    for (Prepared& each : prepared) {
      each.use = EncodeUse(each.indexed.info);
      batch.Put(CacheFamily::kEntries, each.indexed.info.key.bytes(), each.record);
      batch.Put(CacheFamily::kUses, each.indexed.info.key.bytes(), each.use);
    }
    TRUN_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/false));
    MutexLock lock(&mu_);
    for (Prepared& each : prepared) index_.Insert(std::move(each.indexed));
    unswept_bytes_ += bytes;
    ++batches_;
    wake_.SignalAll();
    is_sweeper_behind = unswept_bytes_ > options_.limit_bytes / 4;
  }
  // Writers that are faster than the sweeper do its work, or wait for it; what is pinned is not theirs to
  // answer for.
  if (is_sweeper_behind) EnforceLimit().IgnoreError();
  return absl::OkStatus();
}

absl::StatusOr<CacheEntry> RocksDbKernelCache::Read(const CacheKey& key) {
  uint64_t generation = 0;
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr || indexed->expires <= options_.wall_clock()) return NoEntry(key);
    generation = indexed->generation;
  }
  absl::StatusOr<EntryRecord> record = ReadRecord(key);
  if (IsDamage(record.status())) {
    Heal(key, generation, {});
    return DataLoss(Reason::kCorrupt, absl::StrCat("the entry ", key.ToHex(), " was damaged and is removed"));
  }
  for (const CacheBlobInfo& blob : record->blobs) {
    absl::StatusOr<std::string> bytes = ReadBlob(blob);
    if (IsDamage(bytes.status())) {
      Heal(key, generation, {blob});
      return DataLoss(Reason::kCorrupt, absl::StrCat("the ", LevelName(blob.level), " of the entry ",
                                                     key.ToHex(), " was damaged; the entry is removed"));
    }
    record->entry.artifacts.emplace(blob.level, *std::move(bytes));
  }
  return std::move(record->entry);
}

absl::StatusOr<std::string> RocksDbKernelCache::GetBlob(const CacheKey& key, Level level) {
  CacheBlobInfo wanted;
  uint64_t generation = 0;
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr || indexed->expires <= options_.wall_clock()) return NoEntry(key);
    generation = indexed->generation;
    for (const CacheBlobInfo& blob : indexed->info.blobs) {
      if (blob.level == level) wanted = blob;
    }
  }
  if (wanted.level == Level::kUnspecified) {
    return NotFound(Reason::kHandle, absl::StrCat("the entry ", key.ToHex(), " has no ", LevelName(level)));
  }
  absl::StatusOr<std::string> bytes = ReadBlob(wanted);
  if (!IsDamage(bytes.status())) return bytes;
  Heal(key, generation, {wanted});
  return DataLoss(Reason::kCorrupt, absl::StrCat("the ", LevelName(level), " of the entry ", key.ToHex(),
                                                 " was damaged; the entry is removed"));
}

uint64_t RocksDbKernelCache::Heal(const CacheKey& key, uint64_t generation,
                                  const std::vector<CacheBlobInfo>& blobs) {
  MutexLock write_lock(&write_mu_);
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    // Replaced or removed between the look into the index and the read: nothing is wrong.
    if (indexed == nullptr || indexed->generation != generation) return 0;
  }
  uint64_t damaged = 0;
  absl::flat_hash_set<CacheKey> keys = {key};
  for (const CacheBlobInfo& blob : blobs) {
    if (!IsDamage(ReadBlob(blob).status())) continue;
    ++damaged;
    MutexLock lock(&mu_);
    for (const CacheKey& referring : index_.Referring(blob.digest)) keys.insert(referring);
  }
  if (blobs.empty() && IsDamage(ReadRecord(key).status())) damaged = 1;
  if (damaged == 0) return 0;
  const std::vector<CacheKey> removed(keys.begin(), keys.end());
  // When even the removal cannot be written, the index forgets the entries all the same: they stay misses.
  RemoveEntries(removed).IgnoreError();
  MutexLock lock(&mu_);
  for (const CacheKey& gone : removed) index_.Erase(gone);
  counts_.healed += damaged;
  return damaged;
}

absl::Status RocksDbKernelCache::RemoveEntries(const std::vector<CacheKey>& keys) {
  CacheBatch batch;
  {
    MutexLock lock(&mu_);
    for (const Digest& freed : index_.Freed(keys, {})) batch.Delete(CacheFamily::kBlobs, freed.bytes());
  }
  for (const CacheKey& key : keys) {
    batch.Delete(CacheFamily::kEntries, key.bytes());
    batch.Delete(CacheFamily::kUses, key.bytes());
  }
  TRUN_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true));
  MutexLock lock(&mu_);
  for (const CacheKey& key : keys) index_.Erase(key);
  return absl::OkStatus();
}

absl::StatusOr<CacheEntryInfo> RocksDbKernelCache::Info(const CacheKey& key) {
  MutexLock lock(&mu_);
  const IndexedEntry* const indexed = index_.Find(key);
  if (indexed == nullptr || indexed->expires <= options_.wall_clock()) return NoEntry(key);
  return indexed->info;
}

absl::Status RocksDbKernelCache::List(const std::function<bool(const CacheEntryInfo&)>& visit) {
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

absl::Status RocksDbKernelCache::SetPinned(const CacheKey& key, bool pinned) {
  MutexLock write_lock(&write_mu_);
  std::string use;
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr) return NoEntry(key);
    CacheEntryInfo info = indexed->info;
    info.pinned = pinned;
    use = EncodeUse(info);
  }
  CacheBatch batch;
  batch.Put(CacheFamily::kUses, key.bytes(), use);
  TRUN_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true));
  MutexLock lock(&mu_);
  if (IndexedEntry* const indexed = index_.Find(key)) indexed->info.pinned = pinned;
  return absl::OkStatus();
}

absl::StatusOr<bool> RocksDbKernelCache::Remove(const CacheKey& key, bool force) {
  MutexLock write_lock(&write_mu_);
  {
    MutexLock lock(&mu_);
    const IndexedEntry* const indexed = index_.Find(key);
    if (indexed == nullptr) return false;
    if (indexed->info.pinned && !force) {
      return FailedPrecondition(
          Reason::kNotPermitted,
          absl::StrCat("the entry ", key.ToHex(), " is pinned: unpin it, or force its removal"));
    }
  }
  TRUN_RETURN_IF_ERROR(RemoveEntries({key}));
  return true;
}

absl::StatusOr<CacheVerification> RocksDbKernelCache::Verify() {
  std::vector<CacheEntryInfo> infos;
  {
    MutexLock lock(&mu_);
    infos = index_.Describe();
  }
  CacheVerification result;
  for (const CacheEntryInfo& info : infos) {
    uint64_t generation = 0;
    {
      MutexLock lock(&mu_);
      const IndexedEntry* const indexed = index_.Find(info.key);
      if (indexed == nullptr) {
        // Healed together with an entry that shares its blob, or removed meanwhile.
        continue;
      }
      generation = indexed->generation;
    }
    ++result.entries;
    result.blobs += info.blobs.size();
    // All are read before the first is healed: healing one removes the entry with all its blobs.
    const bool is_record_damaged = IsDamage(ReadRecord(info.key).status());
    std::vector<CacheBlobInfo> bad;
    for (const CacheBlobInfo& blob : info.blobs) {
      if (IsDamage(ReadBlob(blob).status())) bad.push_back(blob);
    }
    if (!bad.empty()) result.bad_blobs += Heal(info.key, generation, bad);
    if (is_record_damaged) Heal(info.key, generation, {});
  }
  MutexLock lock(&mu_);
  for (const CacheEntryInfo& info : infos) {
    if (index_.Find(info.key) == nullptr) result.removed.push_back(info.key);
  }
  return result;
}

CacheStatistics RocksDbKernelCache::Statistics() {
  const uint64_t disk_bytes = database_->FolderBytes();
  MutexLock lock(&mu_);
  CacheStatistics statistics = counts_;
  statistics.path = options_.path;
  statistics.entries = index_.size();
  statistics.blob_bytes = index_.blob_bytes();
  statistics.disk_bytes = disk_bytes;
  statistics.limit_bytes = options_.limit_bytes;
  statistics.pinned = index_.pinned();
  return statistics;
}

void RocksDbKernelCache::DropExpired() {
  MutexLock write_lock(&write_mu_);
  std::vector<CacheKey> keys;
  {
    MutexLock lock(&mu_);
    keys = index_.Expired(options_.wall_clock());
  }
  // Written again at the next sweep when this fails; until then they are misses.
  if (!keys.empty()) RemoveEntries(keys).IgnoreError();
}

absl::Status RocksDbKernelCache::EnforceLimit() {
  MutexLock sweep_lock(&sweep_mu_);
  {
    MutexLock lock(&mu_);
    unswept_bytes_ = 0;
  }
  DropExpired();
  const uint64_t limit = options_.limit_bytes;
  uint64_t disk = database_->FolderBytes();
  if (disk <= limit) return absl::OkStatus();
  // What was deleted already, and the log, may be all that is too much. Ending at 80 % keeps evictions rare.
  TRUN_RETURN_IF_ERROR(database_->Compact());
  for (disk = database_->FolderBytes(); disk > limit - limit / 10; disk = database_->FolderBytes()) {
    std::vector<CacheKey> victims;
    {
      MutexLock write_lock(&write_mu_);
      uint64_t live = 0;
      {
        MutexLock lock(&mu_);
        live = index_.blob_bytes() + index_.size() * kRecordOverhead;
        // Stored bytes are compressed: free the share of the live bytes that the folder is over its aim.
        const double share = 1.0 - 0.8 * static_cast<double>(limit) / static_cast<double>(disk);
        const uint64_t wanted = static_cast<uint64_t>(static_cast<double>(live) * share) + 1;
        uint64_t freed = 0;
        for (const CacheKey& key : index_.LeastRecentlyUsed()) {
          if (freed >= wanted) break;
          freed += kRecordOverhead;
          for (const CacheBlobInfo& blob : index_.Find(key)->info.blobs) freed += blob.bytes;
          victims.push_back(key);
        }
      }
      if (victims.empty()) {
        return ResourceExhausted(Reason::kQuota,
                                 absl::StrCat("the pinned entries of the cache take ", disk, " of ", limit,
                                              " bytes: unpin some, or raise the limit"),
                                 {{"limit", absl::StrCat(limit)}});
      }
      TRUN_RETURN_IF_ERROR(RemoveEntries(victims));
    }
    {
      MutexLock lock(&mu_);
      counts_.evicted += victims.size();
    }
    TRUN_RETURN_IF_ERROR(database_->Compact());
  }
  return absl::OkStatus();
}

void RocksDbKernelCache::Sweep() {
  const auto period = absl::ToChronoMilliseconds(options_.sweep_period);
  auto until = std::chrono::steady_clock::now() + period;
  while (true) {
    bool is_over = false;
    uint64_t batches = 0;
    bool is_unsynced = false;
    {
      MutexLock lock(&mu_);
      while (!closing_ && batches_on_disk_ == batches_ && unswept_bytes_ <= options_.limit_bytes / 32) {
        if (!wake_.WaitUntil(&mu_, until)) break;
      }
      if (closing_) return;
      is_over = unswept_bytes_ > options_.limit_bytes / 32 || std::chrono::steady_clock::now() >= until;
      batches = batches_;
      is_unsynced = batches_on_disk_ != batches;
    }
    // Should it fail, RocksDB refuses the next write, which is counted where it is tried.
    if (is_unsynced) {
      database_->Sync().IgnoreError();
      MutexLock lock(&mu_);
      batches_on_disk_ = batches;
    }
    if (!is_over) continue;
    // Nobody waits for the answer: Statistics() shows a folder that stays over its limit.
    EnforceLimit().IgnoreError();
    until = std::chrono::steady_clock::now() + period;
  }
}

}  // namespace trun
