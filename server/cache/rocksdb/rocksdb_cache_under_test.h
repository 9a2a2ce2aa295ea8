// A RocksDbKernelCache in a folder of its own, for tests.
#ifndef TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_CACHE_UNDER_TEST_H_
#define TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_CACHE_UNDER_TEST_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "common/base/fake_clock.h"
#include "server/cache/kernel_cache_conformance.h"
#include "server/cache/rocksdb/cache_database.h"
#include "server/cache/rocksdb/rocksdb_kernel_cache.h"

namespace trun {

class RocksDbKernelCachePeer {
 public:
  static CacheDatabase& database(RocksDbKernelCache& cache) { return *cache.database_; }
  static bool IsOnDisk(RocksDbKernelCache& cache) {
    MutexLock lock(&cache.mu_);
    return cache.batches_on_disk_ == cache.batches_;
  }
};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = testing::TempDir() + "/trun_cache.XXXXXX";
    path_ = mkdtemp(name.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class RocksDbUnderTest final : public KernelCacheUnderTest {
 public:
  explicit RocksDbUnderTest(uint64_t limit_bytes = kLimitBytes) {
    options_.path = folder_.path() + "/kernels";
    options_.limit_bytes = limit_bytes;
    options_.wall_clock = [this] { return clock_.Now(); };
    options_.sweep_period = absl::Hours(1);
    Open();
  }

  KernelCache& cache() override { return *cache_; }
  void CorruptBlob(const CacheKey& key, Level level) override {
    CacheDatabase& database = RocksDbKernelCachePeer::database(*cache_);
    const CacheEntryInfo info = *cache_->Info(key);
    for (const CacheBlobInfo& blob : info.blobs) {
      if (blob.level != level) continue;
      std::string bytes = *database.Read(CacheFamily::kBlobs, blob.digest.bytes());
      bytes.at(bytes.size() / 2) ^= 1;
      CacheBatch batch;
      batch.Put(CacheFamily::kBlobs, blob.digest.bytes(), bytes);
      ASSERT_TRUE(database.Write(batch, false).ok());
    }
  }
  void AdvanceClock(absl::Duration by) override { clock_.Advance(by); }
  void Evict() override { ASSERT_TRUE(cache_->EnforceLimit().ok()); }

  void Close() { cache_.reset(); }
  void Open() {
    auto opened = RocksDbKernelCache::Open(options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    cache_ = *std::move(opened);
  }
  CacheDatabase& database() { return RocksDbKernelCachePeer::database(*cache_); }
  RocksDbKernelCache& rocksdb_cache() { return *cache_; }
  RocksDbKernelCacheOptions& options() { return options_; }

 private:
  TemporaryFolder folder_;
  FakeClock clock_;
  RocksDbKernelCacheOptions options_;
  std::unique_ptr<RocksDbKernelCache> cache_;
};

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_ROCKSDB_ROCKSDB_CACHE_UNDER_TEST_H_
