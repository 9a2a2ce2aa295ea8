// Finished builds in memory, so that a repeated request parses nothing.
#ifndef TRUN_SERVER_COMPILE_BUILD_TABLE_H_
#define TRUN_SERVER_COMPILE_BUILD_TABLE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "common/base/mutex.h"
#include "common/ir/level.h"
#include "server/cache/kernel_cache.h"
#include "server/compile/compile_pipeline.h"

namespace trun {

// Thread-safe. Bounded by bytes, the longest unused goes first. A build stands here beside the cache entry
// that it was read from, and is answered only to somebody who has just got the same object from the cache: so
// an entry that was removed, replaced or damaged is never answered from here.
class BuildTable {
 public:
  explicit BuildTable(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  using Name = std::tuple<CacheKey, Level, std::string>;  // key, last level, kernel name

  // Null unless there is one that was read from `entry` (null: from no entry).
  std::shared_ptr<const KernelBuild> Find(const Name& name, const std::shared_ptr<const CacheEntry>& entry);
  void Insert(const Name& name, const std::shared_ptr<const CacheEntry>& entry,
              std::shared_ptr<const KernelBuild> build);

 private:
  struct Row {
    Name name;
    std::weak_ptr<const CacheEntry> entry;  // an address alone may be used again
    bool has_entry = false;
    std::shared_ptr<const KernelBuild> build;
    uint64_t bytes = 0;
  };
  void Drop(std::list<Row>::iterator row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const uint64_t limit_bytes_;
  Mutex mu_;
  std::list<Row> order_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Name, std::list<Row>::iterator> rows_ ABSL_GUARDED_BY(mu_);
  uint64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_BUILD_TABLE_H_
