#include "server/cache/fake_kernel_cache.h"

#include <gtest/gtest.h>

#include "common/base/fake_clock.h"
#include "common/base/status.h"
#include "server/cache/kernel_cache_conformance.h"
#include "server/cache/tiered_kernel_cache.h"

namespace trun {
namespace {

class FakeUnderTest : public KernelCacheUnderTest {
 public:
  KernelCache& cache() override { return cache_; }
  void CorruptBlob(const CacheKey& key, Level level) override { cache_.CorruptBlob(key, level); }
  void AdvanceClock(absl::Duration by) override { clock_.Advance(by); }

 protected:
  FakeClock clock_;
  FakeKernelCache cache_{[this] { return clock_.Now(); }, kLimitBytes};
};

class TieredUnderTest final : public FakeUnderTest {
 public:
  KernelCache& cache() override { return tiered_; }

 private:
  TieredKernelCache tiered_{&cache_, uint64_t{1} << 20};
};

INSTANTIATE_KERNEL_CACHE_CONFORMANCE(FakeKernelCache, [] { return std::make_unique<FakeUnderTest>(); });
INSTANTIATE_KERNEL_CACHE_CONFORMANCE(TieredKernelCache, [] { return std::make_unique<TieredUnderTest>(); });

// Answers OK to everything and does nothing.
class YesKernelCache final : public KernelCache {
 public:
  absl::StatusOr<std::shared_ptr<const CacheEntry>> Get(const CacheKey&, const std::vector<Level>&) override {
    return std::make_shared<const CacheEntry>();
  }
  bool RecordUse(const CacheKey&) override { return true; }
  absl::Status PutAll(const std::vector<CachePut>&) override { return absl::OkStatus(); }
  absl::StatusOr<CacheEntry> Read(const CacheKey&) override { return CacheEntry(); }
  absl::StatusOr<std::string> GetBlob(const CacheKey&, Level) override { return std::string(); }
  absl::StatusOr<CacheEntryInfo> Info(const CacheKey&) override { return CacheEntryInfo(); }
  absl::Status List(const std::function<bool(const CacheEntryInfo&)>&) override { return absl::OkStatus(); }
  absl::Status SetPinned(const CacheKey&, bool) override { return absl::OkStatus(); }
  absl::StatusOr<bool> Remove(const CacheKey&, bool) override { return true; }
  absl::StatusOr<CacheVerification> Verify() override { return CacheVerification(); }
  CacheStatistics Statistics() override { return CacheStatistics(); }
};

class YesUnderTest final : public KernelCacheUnderTest {
 public:
  KernelCache& cache() override { return cache_; }
  void CorruptBlob(const CacheKey&, Level) override {}
  void AdvanceClock(absl::Duration) override {}

 private:
  YesKernelCache cache_;
};

TEST(KernelCacheConformance, EveryCaseFailsACacheThatAlwaysAnswersOk) {
  for (const KernelCacheCase& test : KernelCacheCases()) {
    YesUnderTest subject;
    EXPECT_FALSE(test.run(subject)) << test.name << " does not notice";
  }
}

TEST(FakeKernelCache, PutsFailWhileTold) {
  FakeKernelCache cache;
  cache.FailPuts(Unavailable(Reason::kUnavailable, "disk full"));
  EXPECT_EQ(cache.Put(TestKey(1), TestEntry(1), absl::InfiniteDuration()).code(),
            absl::StatusCode::kUnavailable);
  cache.FailPuts(absl::OkStatus());
  EXPECT_TRUE(cache.Put(TestKey(1), TestEntry(1), absl::InfiniteDuration()).ok());
}

}  // namespace
}  // namespace trun
