#include "server/cache/rocksdb/rocksdb_kernel_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/cache/rocksdb/rocksdb_cache_under_test.h"
#include "server/cache/tiered_kernel_cache.h"

namespace trun {
namespace {

const std::vector<Level> kPtx = {Level::kPtx};
constexpr absl::Duration kForever = absl::InfiniteDuration();

// Through the tier as well: it is how trund stacks them.
class TieredRocksDbUnderTest final : public KernelCacheUnderTest {
 public:
  KernelCache& cache() override { return tiered_; }
  void CorruptBlob(const CacheKey& key, Level level) override { base_.CorruptBlob(key, level); }
  void AdvanceClock(absl::Duration by) override { base_.AdvanceClock(by); }
  void Evict() override { base_.Evict(); }

 private:
  RocksDbUnderTest base_;
  TieredKernelCache tiered_{&base_.cache(), uint64_t{1} << 20};
};

INSTANTIATE_KERNEL_CACHE_CONFORMANCE(RocksDbKernelCache, [] { return std::make_unique<RocksDbUnderTest>(); });
INSTANTIATE_KERNEL_CACHE_CONFORMANCE(TieredRocksDbKernelCache,
                                     [] { return std::make_unique<TieredRocksDbUnderTest>(); });

void ReplaceRecord(RocksDbUnderTest& subject, const CacheKey& key, const std::string& bytes) {
  CacheBatch batch;
  batch.Put(CacheFamily::kEntries, key.bytes(), bytes);
  ASSERT_TRUE(subject.database().Write(batch, false).ok());
}

TEST(RocksDbKernelCache, TooSmallALimitIsRefused) {
  RocksDbKernelCacheOptions options;
  options.path = testing::TempDir() + "/never_made";
  options.limit_bytes = 1000;
  EXPECT_EQ(GetReason(RocksDbKernelCache::Open(options).status()), Reason::kArgument);
}

TEST(RocksDbKernelCache, AFolderThatCannotBeMadeIsAClearError) {
  TemporaryFolder folder;
  std::ofstream(folder.path() + "/file") << "not a folder";
  RocksDbKernelCacheOptions options;
  options.path = folder.path() + "/file/cache";
  const absl::Status status = RocksDbKernelCache::Open(options).status();
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), options.path)) << status;
}

TEST(RocksDbKernelCache, WhatWasPutReachesTheDiskByItself) {
  RocksDbUnderTest subject;
  RocksDbKernelCache& cache = subject.rocksdb_cache();
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(cache.Put(TestKey(i), TestEntry(i, 1000)).ok());
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!RocksDbKernelCachePeer::IsOnDisk(cache) && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    ASSERT_TRUE(RocksDbKernelCachePeer::IsOnDisk(cache)) << "after put " << i;
  }
}

TEST(RocksDbKernelCache, ASecondOneOnTheSameFolderSaysWhoHasIt) {
  RocksDbUnderTest subject;
  const absl::Status status = RocksDbKernelCache::Open(subject.options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kCacheLocked);
  EXPECT_EQ(GetDetails(status)["path"], subject.options().path);
  EXPECT_EQ(GetDetails(status)["pid"], absl::StrCat(getpid()));
  EXPECT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
}

TEST(RocksDbKernelCache, AFolderOfAnotherFormatIsLeftAlone) {
  RocksDbUnderTest subject;
  subject.Close();
  {
    auto database = CacheDatabase::Open(subject.options().path, uint64_t{4} << 20);
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE((*database)->WriteFormat("trun-kernel-cache 99").ok());
  }
  const absl::Status status = RocksDbKernelCache::Open(subject.options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "trun-kernel-cache 99")) << status;
}

TEST(RocksDbKernelCache, TheFolderIsForItsOwnerOnly) {
  RocksDbUnderTest subject;
  struct stat facts = {};
  ASSERT_EQ(stat(subject.options().path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700u);
}

TEST(RocksDbKernelCache, ADamagedRecordIsAMissThatHeals) {
  RocksDbUnderTest subject;
  ASSERT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
  ReplaceRecord(subject, TestKey(1), "this is no record");
  EXPECT_EQ(subject.cache().Get(TestKey(1), kPtx).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(subject.cache().Statistics().healed, 1u);
  EXPECT_EQ(subject.cache().Statistics().blob_bytes, 0u);
  ASSERT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
  EXPECT_TRUE(subject.cache().Get(TestKey(1), kPtx).ok());
}

TEST(RocksDbKernelCache, ADamagedRecordIsDroppedAtTheNextStart) {
  RocksDbUnderTest subject;
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(subject.cache().Put(TestKey(i), TestEntry(i), kForever).ok());
  }
  ReplaceRecord(subject, TestKey(1), std::string(100, 'x'));
  subject.Close();
  subject.Open();
  EXPECT_EQ(subject.cache().Statistics().entries, 2u);
  EXPECT_EQ(subject.cache().Statistics().healed, 1u);
  EXPECT_TRUE(subject.cache().Get(TestKey(0), kPtx).ok());
  subject.Close();
  subject.Open();
  EXPECT_EQ(subject.cache().Statistics().healed, 0u);
}

TEST(RocksDbKernelCache, AMissingBlobIsAMissThatHeals) {
  RocksDbUnderTest subject;
  ASSERT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
  CacheBatch batch;
  batch.Delete(CacheFamily::kBlobs, Digest::Of(TestEntry(1).artifacts.at(Level::kPtx)).bytes());
  ASSERT_TRUE(subject.database().Write(batch, false).ok());
  EXPECT_EQ(subject.cache().Get(TestKey(1), kPtx).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(subject.cache().Statistics().healed, 1u);
}

TEST(RocksDbKernelCache, BlobsSwappedWithEachOtherAreNeverReturned) {
  RocksDbUnderTest subject;
  ASSERT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
  ASSERT_TRUE(subject.cache().Put(TestKey(2), TestEntry(2), kForever).ok());
  const std::string one = TestEntry(1).artifacts.at(Level::kPtx);
  const std::string two = TestEntry(2).artifacts.at(Level::kPtx);
  CacheBatch batch;
  batch.Put(CacheFamily::kBlobs, Digest::Of(one).bytes(), two);
  batch.Put(CacheFamily::kBlobs, Digest::Of(two).bytes(), one);
  ASSERT_TRUE(subject.database().Write(batch, false).ok());
  EXPECT_FALSE(subject.cache().Get(TestKey(1), kPtx).ok());
  EXPECT_FALSE(subject.cache().Get(TestKey(2), kPtx).ok());
  EXPECT_EQ(subject.cache().Statistics().healed, 2u);
}

// The database's own files are damaged, not only a value: whatever is answered is right, and the cache goes
// on.
TEST(RocksDbKernelCache, FlippedBytesInItsFilesNeverGiveAWrongKernel) {
  constexpr uint64_t kEntries = 40;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    RocksDbUnderTest subject(uint64_t{64} << 20);
    for (uint64_t i = 0; i < kEntries; ++i) {
      ASSERT_TRUE(subject.cache().Put(TestKey(i), TestEntry(i), kForever).ok());
    }
    ASSERT_TRUE(subject.database().Compact().ok());
    subject.Close();
    std::mt19937 random(seed);
    int flipped = 0;
    for (const auto& file : std::filesystem::directory_iterator(subject.options().path)) {
      if (file.path().extension() != ".sst" && file.path().extension() != ".log") continue;
      const uint64_t size = file.file_size();
      if (size == 0) continue;
      std::fstream bytes(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      for (int i = 0; i < 3; ++i) {
        const uint64_t at = random() % size;
        bytes.seekg(at);
        const char old = static_cast<char>(bytes.get());
        bytes.seekp(at);
        bytes.put(static_cast<char>(old ^ 0x40));
        ++flipped;
      }
    }
    ASSERT_GT(flipped, 0);
    subject.Open();
    for (int round = 0; round < 2; ++round) {
      uint64_t right = 0;
      for (uint64_t i = 0; i < kEntries; ++i) {
        const auto read = subject.cache().Get(TestKey(i), kPtx);
        if (read.ok()) {
          ++right;
          ASSERT_EQ((*read)->artifacts.at(Level::kPtx), TestEntry(i).artifacts.at(Level::kPtx));
        } else {
          ASSERT_EQ(read.status().code(), absl::StatusCode::kNotFound);
          ASSERT_TRUE(subject.cache().Put(TestKey(i), TestEntry(i), kForever).ok());
        }
      }
      if (round == 1) {
        EXPECT_EQ(right, kEntries) << "seed " << seed << " did not heal";
      }
    }
    subject.Close();
    subject.Open();
    for (uint64_t i = 0; i < kEntries; ++i) EXPECT_TRUE(subject.cache().Get(TestKey(i), kPtx).ok()) << seed;
  }
}

TEST(RocksDbKernelCache, ARestartKeepsEntriesUsesAndPins) {
  RocksDbUnderTest subject;
  ASSERT_TRUE(subject.cache().Put(TestKey(1), TestEntry(1), kForever).ok());
  ASSERT_TRUE(subject.cache().Put(TestKey(2), TestEntry(2), kForever).ok());
  ASSERT_TRUE(subject.cache().SetPinned(TestKey(1), true).ok());
  subject.AdvanceClock(absl::Minutes(10));
  ASSERT_TRUE(subject.cache().Get(TestKey(1), kPtx).ok());
  const CacheEntryInfo before = *subject.cache().Info(TestKey(1));
  subject.Close();
  subject.Open();
  const CacheEntryInfo after = *subject.cache().Info(TestKey(1));
  EXPECT_TRUE(after.pinned);
  EXPECT_EQ(after.hits, 1u);
  EXPECT_EQ(after.last_used, before.last_used);
  EXPECT_EQ(after.created, before.created);
  EXPECT_EQ(subject.cache().Read(TestKey(2))->artifacts, TestEntry(2).artifacts);
}

TEST(RocksDbKernelCache, ARememberedErrorSurvivesARestartButNotItsTime) {
  RocksDbUnderTest subject;
  CacheEntry entry;
  entry.error = CachedError{3, "INVALID_IR", "no", {}};
  ASSERT_TRUE(subject.cache().Put(TestKey(1), entry, absl::Minutes(5)).ok());
  subject.Close();
  subject.Open();
  EXPECT_TRUE(subject.cache().Get(TestKey(1), kPtx).ok());
  subject.AdvanceClock(absl::Minutes(6));
  EXPECT_FALSE(subject.cache().Get(TestKey(1), kPtx).ok());
  subject.Evict();
  EXPECT_EQ(subject.cache().Statistics().entries, 0u);
}

TEST(RocksDbKernelCache, PinnedEntriesAloneOverTheLimitAreAnErrorAndStay) {
  RocksDbUnderTest subject(uint64_t{64} << 20);
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(subject.cache().Put(TestKey(i), TestEntry(i, size_t{1} << 20), kForever).ok());
    ASSERT_TRUE(subject.cache().SetPinned(TestKey(i), true).ok());
  }
  subject.Close();
  subject.options().limit_bytes = uint64_t{4} << 20;
  subject.Open();
  EXPECT_EQ(GetReason(subject.rocksdb_cache().EnforceLimit()), Reason::kQuota);
  EXPECT_EQ(subject.cache().Statistics().entries, 8u);
}

TEST(RocksDbKernelCache, TheSweeperKeepsTheFolderBoundedByItself) {
  RocksDbUnderTest subject(uint64_t{8} << 20);
  for (uint64_t i = 0; i < 128; ++i) {
    ASSERT_TRUE(subject.cache().Put(TestKey(i), TestEntry(i, size_t{256} << 10), kForever).ok());
    EXPECT_LE(subject.cache().Statistics().disk_bytes, uint64_t{24} << 20);
  }
  ASSERT_TRUE(subject.rocksdb_cache().EnforceLimit().ok());
  EXPECT_LE(subject.cache().Statistics().disk_bytes, uint64_t{8} << 20);
  EXPECT_GT(subject.cache().Statistics().evicted, 0u);
  EXPECT_TRUE(subject.cache().Get(TestKey(127), kPtx).ok());
}

TEST(RocksDbKernelCache, ManyThreadsNeverSeeAWrongOrHalfEntry) {
  RocksDbUnderTest subject(uint64_t{8} << 20);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 150; ++i) {
        const uint64_t number = random() % 24;
        switch (random() % 5) {
          case 0:
            if (!subject.cache().Put(TestKey(number), TestEntry(number % 12, 20000), kForever).ok()) ++wrong;
            break;
          case 1:
            if (random() % 4 == 0 && !subject.cache().Remove(TestKey(number), true).ok()) ++wrong;
            break;
          case 2:
            if (!subject.rocksdb_cache().EnforceLimit().ok()) ++wrong;
            break;
          default: {
            const auto read = subject.cache().Get(TestKey(number), kPtx);
            if (read.ok() && (*read)->artifacts.at(Level::kPtx) !=
                                 TestEntry(number % 12, 20000).artifacts.at(Level::kPtx)) {
              ++wrong;
            }
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(subject.cache().Statistics().healed, 0u);
  EXPECT_EQ(subject.cache().Verify()->bad_blobs, 0u);
}

}  // namespace
}  // namespace trun
