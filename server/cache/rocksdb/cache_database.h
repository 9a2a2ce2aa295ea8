// RocksDB as the cache uses it: three families of records, atomic batches, a folder that shrinks.
// The only file (with its .cc) that includes rocksdb/; maps its statuses to ours.
#ifndef TRUN_SERVER_CACHE_ROCKSDB_CACHE_DATABASE_H_
#define TRUN_SERVER_CACHE_ROCKSDB_CACHE_DATABASE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// What a key is made of, and what its value holds: docs/formats/cache.md.
enum class CacheFamily { kEntries, kBlobs, kUses };

// Changes that happen together or not at all. Thread-compatible.
class CacheBatch {
 public:
  CacheBatch();
  ~CacheBatch();
  CacheBatch(const CacheBatch&) = delete;
  CacheBatch& operator=(const CacheBatch&) = delete;

  void Put(CacheFamily family, absl::string_view key, absl::string_view value);
  void Delete(CacheFamily family, absl::string_view key);

 private:
  friend class CacheDatabase;
  struct Change {
    bool is_put = false;
    CacheFamily family = CacheFamily::kEntries;
    std::string key;
    absl::string_view value;  // of Put: the caller's bytes
  };
  std::vector<Change> changes_;
};

// Thread-safe. One process at a time has a folder open.
class CacheDatabase {
 public:
  // Makes the folder (0700) where there is none. `limit_bytes` sizes RocksDB's own buffers.
  // FAILED_PRECONDITION: kCacheLocked (details: path, pid where known) when another daemon has it open;
  // kCorrupt when another version of trund wrote it. A database that RocksDB finds damaged is repaired; what
  // cannot be repaired is removed and begun anew (`was_repaired` says so). PERMISSION_DENIED,
  // RESOURCE_EXHAUSTED, UNAVAILABLE kUnavailable.
  static absl::StatusOr<std::unique_ptr<CacheDatabase>> Open(const std::string& path, uint64_t limit_bytes);
  CacheDatabase(const CacheDatabase&) = delete;
  CacheDatabase& operator=(const CacheDatabase&) = delete;
  // Closes clean: what was written without `sync` is on disk afterwards.
  ~CacheDatabase();

  // NOT_FOUND; DATA_LOSS kCorrupt when the stored block is damaged; UNAVAILABLE for a failing disk.
  absl::StatusOr<std::string> Read(CacheFamily family, absl::string_view key);

  // All of the batch or nothing. With `sync` it is on disk when this returns.
  // REQUIRES: the bytes given to the batch are still alive.
  absl::Status Write(const CacheBatch& batch, bool sync);
  // All that was written before is on disk when this returns: what a dying process cannot lose, a machine
  // that loses its power no longer can either.
  absl::Status Sync();

  // Calls `visit(key, value)` for each record in key order, until it returns false.
  absl::Status Scan(CacheFamily family,
                    const std::function<bool(absl::string_view key, absl::string_view value)>& visit);

  // Writes all to tables and drops what was deleted, so that the folder shrinks.
  absl::Status Compact();

  // Bytes that the files of the folder take on disk.
  uint64_t FolderBytes() const;

  // For tests: claims another format.
  absl::Status WriteFormat(absl::string_view format);

  bool was_repaired() const { return was_repaired_; }
  const std::string& path() const { return path_; }

 private:
  struct Handles;
  CacheDatabase(std::string path, std::unique_ptr<Handles> handles, bool was_repaired);
  absl::Status CheckFormat();

  const std::string path_;
  const bool was_repaired_;
  const std::unique_ptr<Handles> handles_;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_ROCKSDB_CACHE_DATABASE_H_
