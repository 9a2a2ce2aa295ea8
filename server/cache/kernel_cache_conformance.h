// What every KernelCache must do: one case for each method and documented status.
//
// An implementation's test runs all cases (see fake_kernel_cache_test.cc):
//   INSTANTIATE_KERNEL_CACHE_CONFORMANCE(Fake, [] { return std::make_unique<FakeCacheUnderTest>(); });
#ifndef TRUN_SERVER_CACHE_KERNEL_CACHE_CONFORMANCE_H_
#define TRUN_SERVER_CACHE_KERNEL_CACHE_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/cache/kernel_cache.h"

namespace trun {

// A fresh, empty cache with what the cases need of it.
class KernelCacheUnderTest {
 public:
  // The limit of the cache that Start gives; cases write more than that to see it evict.
  static constexpr uint64_t kLimitBytes = uint64_t{4} << 20;

  virtual ~KernelCacheUnderTest() = default;
  virtual KernelCache& cache() = 0;
  // Flips a byte of the stored blob, behind the cache's back.
  virtual void CorruptBlob(const CacheKey& key, Level level) = 0;
  // Moves the clock that entries are dated by.
  virtual void AdvanceClock(absl::Duration by) = 0;
  // Makes a cache that evicts later do so now.
  virtual void Evict() {}
};

using KernelCacheFactory = std::function<std::unique_ptr<KernelCacheUnderTest>()>;

struct KernelCacheCase {
  std::string name;  // a sentence
  std::function<testing::AssertionResult(KernelCacheUnderTest&)> run;
};

const std::vector<KernelCacheCase>& KernelCacheCases();

// The name of case `index`, for gtest.
std::string KernelCacheCaseName(const testing::TestParamInfo<size_t>& info);

#define INSTANTIATE_KERNEL_CACHE_CONFORMANCE(prefix, ...)                                \
  class prefix##ConformanceTest : public testing::TestWithParam<size_t> {};              \
  TEST_P(prefix##ConformanceTest, Holds) {                                               \
    const ::trun::KernelCacheFactory factory = __VA_ARGS__;                              \
    const std::unique_ptr<::trun::KernelCacheUnderTest> subject = factory();             \
    EXPECT_TRUE(::trun::KernelCacheCases()[GetParam()].run(*subject));                   \
  }                                                                                      \
  INSTANTIATE_TEST_SUITE_P(All, prefix##ConformanceTest,                                 \
                           testing::Range(size_t{0}, ::trun::KernelCacheCases().size()), \
                           ::trun::KernelCacheCaseName)

// A key and an entry for tests: different numbers, different bytes.
CacheKey TestKey(uint64_t number);
CacheEntry TestEntry(uint64_t number, size_t ptx_bytes = 3000);

}  // namespace trun

#endif  // TRUN_SERVER_CACHE_KERNEL_CACHE_CONFORMANCE_H_
