#include "server/cache/entry_codec.h"

#include <gtest/gtest.h>

#include <random>

#include "common/base/status.h"
#include "server/cache/kernel_cache_conformance.h"

namespace trun {
namespace {

EntryRecord Sample() {
  CacheEntry entry = TestEntry(3);
  entry.error = CachedError{9, "COMPILE_FAILED", "ptxas said no", {{"line", "4"}, {"tail", "..."}}};
  return MakeEntryRecord(entry, absl::FromUnixMicros(1234567), absl::InfiniteFuture());
}

TEST(EntryCodec, AnyFlippedBitIsNoticed) {
  const std::string good = EncodeEntryRecord(Sample());
  for (size_t bit = 0; bit < 8 * good.size(); bit += 3) {
    std::string bad = good;
    bad[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    const absl::Status status = DecodeEntryRecord(bad).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    ASSERT_EQ(GetReason(status), Reason::kCorrupt);
  }
}

TEST(EntryCodec, AnyShorterOrLongerRecordIsNoticed) {
  const std::string good = EncodeEntryRecord(Sample());
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    ASSERT_FALSE(DecodeEntryRecord(good.substr(0, bytes)).ok());
  }
  EXPECT_FALSE(DecodeEntryRecord(good + "x").ok());
}

// A checksum says nothing about who computed it: an import may bring fields that lie.
TEST(EntryCodec, FieldsThatLieUnderARightChecksumAreNoticed) {
  const std::string good = EncodeEntryRecord(Sample());
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string fields = good.substr(Digest::kBytes);
    fields[random() % fields.size()] = static_cast<char>(random());
    if (i % 3 == 0) fields.resize(random() % fields.size());
    const absl::StatusOr<EntryRecord> record =
        DecodeEntryRecord(std::string(Digest::Of(fields).bytes()) + fields);
    if (record.ok()) {
      EXPECT_EQ(EncodeEntryRecord(*record).size(), Digest::kBytes + fields.size());
    }
  }
}

TEST(EntryCodec, RoundTripsEveryField) {
  const EntryRecord sample = Sample();
  const absl::StatusOr<EntryRecord> read = DecodeEntryRecord(EncodeEntryRecord(sample));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(EncodeEntryRecord(*read), EncodeEntryRecord(sample));
  EXPECT_EQ(read->entry.kernel_name, "kernel_3");
  EXPECT_EQ(read->entry.error->details.at("line"), "4");
  EXPECT_EQ(read->created, absl::FromUnixMicros(1234567));
  EXPECT_EQ(read->expires, absl::InfiniteFuture());
  ASSERT_EQ(read->blobs.size(), 3u);
  EXPECT_EQ(read->blobs[2].digest, Digest::Of(TestEntry(3).artifacts.at(Level::kPtx)));
}

}  // namespace
}  // namespace trun
