#include "server/cache/rocksdb/cache_database.h"

#include <dirent.h>
#include <fcntl.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace trun {
namespace {

constexpr char kFormatKey[] = "format";
constexpr char kFormat[] = "trun-kernel-cache 1";
constexpr std::array<const char*, 3> kFamilyNames = {"entries", "blobs", "uses"};

rocksdb::Slice ToSlice(absl::string_view text) { return rocksdb::Slice(text.data(), text.size()); }
absl::string_view FromSlice(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat("kernel cache: ", what, ": ", status.ToString());
  switch (status.code()) {
    case rocksdb::Status::kNotFound:
      return NotFound(Reason::kHandle, message);
    case rocksdb::Status::kCorruption:
      return DataLoss(Reason::kCorrupt, message);
    case rocksdb::Status::kIOError:
      if (status.subcode() == rocksdb::Status::kNoSpace) {
        return ResourceExhausted(Reason::kUnavailable, absl::StrCat(message, "; free space on its disk"));
      }
      return Unavailable(Reason::kUnavailable, message);
    default:
      return Unavailable(Reason::kUnavailable, message);
  }
}

// The process that holds RocksDB's lock on the folder, as the kernel tells it; 0 where it does not.
pid_t LockHolder(const std::string& path) {
  const UniqueFd fd(open((path + "/LOCK").c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return 0;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return 0;
  return lock.l_pid > 0 ? lock.l_pid : 0;
}

absl::Status LockedError(const std::string& path, const rocksdb::Status& status) {
  // A process that opens and closes the file would lose its own lock on it: ask only when another one holds
  // it.
  const bool is_ours = absl::StrContains(status.ToString(), "current process");
  const pid_t pid = is_ours ? getpid() : LockHolder(path);
  ErrorDetails details = {{"path", path}};
  if (pid > 0) details["pid"] = absl::StrCat(pid);
  return FailedPrecondition(
      Reason::kCacheLocked,
      absl::StrCat("the cache folder ", path, " is open in another daemon",
                   pid > 0 ? absl::StrCat(" (pid ", pid, ")") : std::string(),
                   ": use that one, stop it, or give this daemon a cache folder of its own"),
      details);
}

enum class Recovery { kNone, kRepair, kBeginAnew };

bool IsLocked(const rocksdb::Status& status) {
  return status.IsIOError() && absl::StrContains(status.ToString(), "lock");
}

rocksdb::Options MakeOptions(uint64_t limit_bytes) {
  const uint64_t buffer = std::clamp<uint64_t>(limit_bytes / 32, uint64_t{256} << 10, uint64_t{16} << 20);
  rocksdb::Options options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // The folder is bounded as a whole, so nothing may be reserved ahead and logs must stay small.
  options.allow_fallocate = false;
  options.max_total_wal_size = 2 * buffer;
  options.db_write_buffer_size = 2 * buffer;
  options.write_buffer_size = buffer;
  options.max_log_file_size = 256 << 10;
  options.keep_log_file_num = 2;
  options.max_manifest_file_size = 1 << 20;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.target_file_size_base = std::max<uint64_t>(buffer, 1 << 20);
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  // A damaged table must not stop writes for good: what it held is found damaged when it is read, and healed
  // then.
  options.paranoid_checks = false;
  const std::vector<rocksdb::CompressionType> known = rocksdb::GetSupportedCompressions();
  const bool has_lz4 = std::find(known.begin(), known.end(), rocksdb::kLZ4Compression) != known.end();
  options.compression = has_lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_cache =
      rocksdb::NewLRUCache(std::clamp<uint64_t>(limit_bytes / 64, 1 << 20, uint64_t{32} << 20));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

struct CacheDatabase::Handles {
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> families;  // the default one, then in the order of CacheFamily

  ~Handles() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* family : families) db->DestroyColumnFamilyHandle(family);
    db->Close();
  }
  rocksdb::ColumnFamilyHandle* family(CacheFamily which) const {
    return families[static_cast<size_t>(which) + 1];
  }

  rocksdb::Status Open(const std::string& path, uint64_t limit_bytes) {
    const rocksdb::Options options = MakeOptions(limit_bytes);
    std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
    descriptors.emplace_back(rocksdb::kDefaultColumnFamilyName, rocksdb::ColumnFamilyOptions(options));
    for (const char* name : kFamilyNames)
      descriptors.emplace_back(name, rocksdb::ColumnFamilyOptions(options));
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status =
        rocksdb::DB::Open(rocksdb::DBOptions(options), path, descriptors, &families, &opened);
    db.reset(opened);
    return status;
  }
};

CacheBatch::CacheBatch() = default;
CacheBatch::~CacheBatch() = default;

void CacheBatch::Put(CacheFamily family, absl::string_view key, absl::string_view value) {
  changes_.push_back(Change{true, family, std::string(key), value});
}

void CacheBatch::Delete(CacheFamily family, absl::string_view key) {
  changes_.push_back(Change{false, family, std::string(key), {}});
}

CacheDatabase::CacheDatabase(std::string path, std::unique_ptr<Handles> handles, bool was_repaired)
    : path_(std::move(path)), was_repaired_(was_repaired), handles_(std::move(handles)) {}

CacheDatabase::~CacheDatabase() = default;

absl::StatusOr<std::unique_ptr<CacheDatabase>> CacheDatabase::Open(const std::string& path,
                                                                   uint64_t limit_bytes) {
  std::error_code error;
  const bool is_new = std::filesystem::create_directories(path, error);
  if (error)
    return FromErrno(error.value(), absl::StrCat("cannot make the cache folder ", path),
                     Reason::kUnavailable);
  if (is_new) chmod(path.c_str(), 0700);
  if (access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return FromErrno(errno, absl::StrCat("cannot use the cache folder ", path), Reason::kUnavailable);
  }
  // As it is; then repaired; then, since a cache that cannot be read is an empty cache, begun anew.
  const rocksdb::Options options = MakeOptions(limit_bytes);
  absl::Status result;
  for (const Recovery recovery : {Recovery::kNone, Recovery::kRepair, Recovery::kBeginAnew}) {
    rocksdb::Status status;
    if (recovery == Recovery::kRepair) status = rocksdb::RepairDB(path, options);
    if (recovery == Recovery::kBeginAnew) status = rocksdb::DestroyDB(path, options);
    auto handles = std::make_unique<Handles>();
    if (status.ok()) status = handles->Open(path, limit_bytes);
    if (IsLocked(status)) return LockedError(path, status);
    result = FromRocksDb(status, absl::StrCat("cannot open ", path));
    if (result.ok()) {
      std::unique_ptr<CacheDatabase> database(
          new CacheDatabase(path, std::move(handles), recovery != Recovery::kNone));
      result = database->CheckFormat();
      if (result.ok()) return database;
    }
    if (result.code() != absl::StatusCode::kDataLoss) return result;
  }
  return result;
}

absl::Status CacheDatabase::WriteFormat(absl::string_view format) {
  rocksdb::WriteOptions options;
  options.sync = true;
  return FromRocksDb(handles_->db->Put(options, kFormatKey, ToSlice(format)), "cannot write its format");
}

absl::Status CacheDatabase::CheckFormat() {
  std::string format;
  const rocksdb::Status status = handles_->db->Get(rocksdb::ReadOptions(), kFormatKey, &format);
  if (status.IsNotFound()) return WriteFormat(kFormat);
  TRUN_RETURN_IF_ERROR(FromRocksDb(status, "cannot read its format"));
  if (format == kFormat) return absl::OkStatus();
  return FailedPrecondition(
      Reason::kCorrupt,
      absl::StrCat("the cache folder ", path_, " has the format '", format, "', this trund writes '", kFormat,
                   "': remove the folder or give this daemon another one"),
      {{"path", path_}});
}

absl::StatusOr<std::string> CacheDatabase::Read(CacheFamily family, absl::string_view key) {
  std::string value;
  TRUN_RETURN_IF_ERROR(FromRocksDb(
      handles_->db->Get(rocksdb::ReadOptions(), handles_->family(family), ToSlice(key), &value), "read"));
  return value;
}

absl::Status CacheDatabase::Write(const CacheBatch& batch, bool sync) {
  rocksdb::WriteBatch out;
  for (const CacheBatch::Change& change : batch.changes_) {
    rocksdb::ColumnFamilyHandle* family = handles_->family(change.family);
    const rocksdb::Status status = change.is_put ? out.Put(family, ToSlice(change.key), ToSlice(change.value))
                                                 : out.Delete(family, ToSlice(change.key));
    TRUN_RETURN_IF_ERROR(FromRocksDb(status, "batch"));
  }
  rocksdb::WriteOptions options;
  options.sync = sync;
  return FromRocksDb(handles_->db->Write(options, &out), "write");
}

absl::Status CacheDatabase::Sync() { return FromRocksDb(handles_->db->SyncWAL(), "sync"); }

absl::Status CacheDatabase::Scan(
    CacheFamily family, const std::function<bool(absl::string_view key, absl::string_view value)>& visit) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(handles_->db->NewIterator(options, handles_->family(family)));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (!visit(FromSlice(it->key()), FromSlice(it->value()))) break;
  }
  return FromRocksDb(it->status(), "scan");
}

absl::Status CacheDatabase::Compact() {
  rocksdb::FlushOptions flush;
  flush.wait = true;
  // All families at once: a log file goes only when no family needs it any more.
  TRUN_RETURN_IF_ERROR(FromRocksDb(handles_->db->Flush(flush, handles_->families), "flush"));
  for (rocksdb::ColumnFamilyHandle* family : handles_->families) {
    TRUN_RETURN_IF_ERROR(FromRocksDb(
        handles_->db->CompactRange(rocksdb::CompactRangeOptions(), family, nullptr, nullptr), "compact"));
  }
  return absl::OkStatus();
}

uint64_t CacheDatabase::FolderBytes() const {
  DIR* folder = opendir(path_.c_str());
  if (folder == nullptr) return 0;
  uint64_t total = 0;
  while (const dirent* file = readdir(folder)) {
    struct stat facts = {};
    if (fstatat(dirfd(folder), file->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(facts.st_mode))
      continue;
    total += std::max<uint64_t>(facts.st_size, uint64_t{512} * facts.st_blocks);
  }
  closedir(folder);
  return total;
}

}  // namespace trun
