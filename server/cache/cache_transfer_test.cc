#include "server/cache/cache_transfer.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "server/cache/fake_kernel_cache.h"
#include "server/cache/kernel_cache_conformance.h"

namespace trun {
namespace {

std::string Export(KernelCache& cache, const std::vector<CacheKey>& keys = {}) {
  std::string out;
  const absl::Status status = ExportCache(cache, keys, [&](absl::string_view chunk) {
    EXPECT_LE(chunk.size(), size_t{1} << 20);
    out.append(chunk.data(), chunk.size());
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

absl::StatusOr<CacheImport> Import(absl::string_view data, KernelCache& cache) {
  TRUN_ASSIGN_OR_RETURN(auto importer, CacheImporter::Create(testing::TempDir(), uint64_t{1} << 30));
  for (; !data.empty(); data.remove_prefix(std::min<size_t>(777, data.size()))) {
    TRUN_RETURN_IF_ERROR(importer->Append(data.substr(0, 777)));
  }
  return importer->Finish(cache);
}

class CacheTransferTest : public testing::Test {
 protected:
  void SetUp() override {
    for (uint64_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(from_.Put(TestKey(i), TestEntry(i, 500), absl::InfiniteDuration()).ok());
    }
    CacheEntry failed;
    failed.error = CachedError{3, "INVALID_IR", "no", {}};
    ASSERT_TRUE(from_.Put(TestKey(9), failed, absl::Minutes(5)).ok());
  }
  FakeKernelCache from_;
  FakeKernelCache to_;
};

TEST_F(CacheTransferTest, NothingOfAStreamWithAnyFlippedByteIsTaken) {
  const std::string good = Export(from_);
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bad = good;
    bad[i] ^= 0x10;
    const absl::Status status = Import(bad, to_).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "byte " << i << ": " << status;
    ASSERT_EQ(GetReason(status), Reason::kCorrupt);
    ASSERT_EQ(to_.Statistics().entries, 0u);
  }
}

TEST_F(CacheTransferTest, NothingOfAStreamThatIsCutOrGoesOnIsTaken) {
  const std::string good = Export(from_);
  for (size_t bytes = 0; bytes < good.size(); bytes += 11) {
    ASSERT_EQ(GetReason(Import(good.substr(0, bytes), to_).status()), Reason::kCorrupt);
  }
  EXPECT_EQ(GetReason(Import(good + good, to_).status()), Reason::kCorrupt);
  EXPECT_EQ(to_.Statistics().entries, 0u);
}

TEST_F(CacheTransferTest, AStreamOverTheLimitIsRefused) {
  auto importer = CacheImporter::Create(testing::TempDir(), 10);
  ASSERT_TRUE(importer.ok());
  ASSERT_TRUE((*importer)->Append("12345678").ok());
  const absl::Status status = (*importer)->Append("901");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
}

TEST_F(CacheTransferTest, ANamedEntryThatIsNotThereIsAnError) {
  const absl::Status status =
      ExportCache(from_, {TestKey(77)}, [](absl::string_view) { return absl::OkStatus(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(CacheTransferTest, ASinkThatFailsEndsTheExport) {
  const absl::Status status =
      ExportCache(from_, {}, [](absl::string_view) { return absl::CancelledError("client is gone"); });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST_F(CacheTransferTest, CarriesEveryKernelAndNoErrors) {
  ASSERT_TRUE(to_.Put(TestKey(1), TestEntry(1, 500), absl::InfiniteDuration()).ok());
  const absl::StatusOr<CacheImport> result = Import(Export(from_), to_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->imported, 2u);
  EXPECT_EQ(result->already_there, 1u);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(to_.Read(TestKey(i))->artifacts, TestEntry(i, 500).artifacts);
  EXPECT_FALSE(to_.Info(TestKey(9)).ok());
}

TEST_F(CacheTransferTest, CarriesOneNamedEntry) {
  const absl::StatusOr<CacheImport> result = Import(Export(from_, {TestKey(2)}), to_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(to_.Statistics().entries, 1u);
  EXPECT_TRUE(to_.Info(TestKey(2)).ok());
}

}  // namespace
}  // namespace trun
