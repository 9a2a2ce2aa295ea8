#include "server/cache/tiered_kernel_cache.h"

#include <gtest/gtest.h>

#include "server/cache/fake_kernel_cache.h"
#include "server/cache/kernel_cache_conformance.h"

namespace trun {
namespace {

const std::vector<Level> kPtx = {Level::kPtx};
constexpr absl::Duration kForever = absl::InfiniteDuration();

TEST(TieredKernelCache, ForgetsWhatTheCacheBehindNoLongerHas) {
  FakeKernelCache base;
  TieredKernelCache tiered(&base, 1 << 20);
  ASSERT_TRUE(tiered.Put(TestKey(1), TestEntry(1), kForever).ok());
  ASSERT_TRUE(tiered.Get(TestKey(1), kPtx).ok());
  ASSERT_TRUE(*base.Remove(TestKey(1), false));
  EXPECT_EQ(tiered.Get(TestKey(1), kPtx).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(tiered.bytes_in_memory(), 0u);
}

TEST(TieredKernelCache, DoesNotKeepRememberedErrors) {
  FakeKernelCache base;
  TieredKernelCache tiered(&base, 1 << 20);
  CacheEntry entry;
  entry.error = CachedError{3, "INVALID_IR", "no", {}};
  ASSERT_TRUE(tiered.Put(TestKey(1), entry, absl::Minutes(5)).ok());
  ASSERT_TRUE(tiered.Get(TestKey(1), kPtx).ok());
  EXPECT_EQ(tiered.bytes_in_memory(), 0u);
}

TEST(TieredKernelCache, AnswersARepeatWithTheSameObjectAndNoReadOfTheBase) {
  FakeKernelCache base;
  TieredKernelCache tiered(&base, 1 << 20);
  ASSERT_TRUE(tiered.Put(TestKey(1), TestEntry(1), kForever).ok());
  const auto first = tiered.Get(TestKey(1), kPtx);
  base.CorruptBlob(TestKey(1), Level::kPtx);  // a read of the base would notice
  const auto second = tiered.Get(TestKey(1), kPtx);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->get(), second->get());
  EXPECT_EQ(tiered.Statistics().memory_hits, 1u);
  EXPECT_EQ(tiered.Statistics().hits, 2u);
}

TEST(TieredKernelCache, TellsTheNewEntryFromTheReplacedOne) {
  FakeKernelCache base;
  TieredKernelCache tiered(&base, 1 << 20);
  ASSERT_TRUE(tiered.Put(TestKey(1), TestEntry(1), kForever).ok());
  ASSERT_TRUE(tiered.Get(TestKey(1), kPtx).ok());
  ASSERT_TRUE(tiered.Put(TestKey(1), TestEntry(2), kForever).ok());
  EXPECT_EQ((*tiered.Get(TestKey(1), kPtx))->kernel_name, "kernel_2");
}

TEST(TieredKernelCache, StaysWithinItsBytesAndKeepsTheLatestUsed) {
  FakeKernelCache base;
  TieredKernelCache tiered(&base, 40000);
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(tiered.Put(TestKey(i), TestEntry(i, 8000), kForever).ok());
    ASSERT_TRUE(tiered.Get(TestKey(i), kPtx).ok());
    ASSERT_TRUE(tiered.Get(TestKey(0), kPtx).ok());
    EXPECT_LE(tiered.bytes_in_memory(), 40000u);
  }
  const uint64_t before = tiered.Statistics().memory_hits;
  ASSERT_TRUE(tiered.Get(TestKey(0), kPtx).ok());
  EXPECT_EQ(tiered.Statistics().memory_hits, before + 1);
  ASSERT_TRUE(tiered.Get(TestKey(2), kPtx).ok());
  EXPECT_EQ(tiered.Statistics().memory_hits, before + 1);
}

}  // namespace
}  // namespace trun
