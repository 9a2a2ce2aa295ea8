#include "server/cache/kernel_cache_conformance.h"

#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

// Ends the case with what did not hold.
#define REQUIRE(condition)                                                                  \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      return testing::AssertionFailure() << __FILE__ << ":" << __LINE__ << ": " #condition; \
    }                                                                                       \
  } while (false)

namespace trun {
namespace {

using testing::AssertionResult;
using testing::AssertionSuccess;

const std::vector<Level> kPtxOnly = {Level::kPtx};
const std::vector<Level> kAll = {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin};

bool SaysNotFound(const absl::Status& status) { return status.code() == absl::StatusCode::kNotFound; }
bool SaysDamaged(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDataLoss && GetReason(status) == Reason::kCorrupt;
}

AssertionResult UnknownKeysAreNotFound(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  const CacheKey key = TestKey(1);
  REQUIRE(SaysNotFound(cache.Get(key, kPtxOnly).status()));
  REQUIRE(SaysNotFound(cache.Read(key).status()));
  REQUIRE(SaysNotFound(cache.GetBlob(key, Level::kPtx).status()));
  REQUIRE(SaysNotFound(cache.Info(key).status()));
  REQUIRE(SaysNotFound(cache.SetPinned(key, true)));
  REQUIRE(!cache.RecordUse(key));
  const absl::StatusOr<bool> removed = cache.Remove(key, false);
  REQUIRE(removed.ok() && !*removed);
  REQUIRE(cache.Statistics().misses == 1);
  REQUIRE(cache.Statistics().entries == 0);
  return AssertionSuccess();
}

AssertionResult GetReturnsWhatPutStored(KernelCacheUnderTest& subject) {
  const CacheEntry stored = TestEntry(1);
  REQUIRE(subject.cache().Put(TestKey(1), stored).ok());
  const auto read = subject.cache().Get(TestKey(1), kAll);
  REQUIRE(read.ok());
  REQUIRE((*read)->artifacts == stored.artifacts);
  REQUIRE((*read)->kernel_name == stored.kernel_name);
  REQUIRE((*read)->toolchain == stored.toolchain);
  REQUIRE((*read)->target == stored.target);
  REQUIRE((*read)->source_level == stored.source_level);
  REQUIRE((*read)->tenant == stored.tenant);
  REQUIRE((*read)->metadata_json == stored.metadata_json);
  REQUIRE((*read)->log == stored.log);
  REQUIRE(!(*read)->error.has_value());
  return AssertionSuccess();
}

AssertionResult GetReturnsOnlyTheLevelsAskedFor(KernelCacheUnderTest& subject) {
  REQUIRE(subject.cache().Put(TestKey(1), TestEntry(1)).ok());
  const auto one = subject.cache().Get(TestKey(1), {Level::kPtx, Level::kCubin});
  REQUIRE(one.ok() && (*one)->artifacts.size() == 1 && (*one)->artifacts.count(Level::kPtx) == 1);
  const auto none = subject.cache().Get(TestKey(1), {});
  REQUIRE(none.ok() && (*none)->artifacts.empty());
  const auto other = subject.cache().Get(TestKey(1), {Level::kTtgir});
  REQUIRE(other.ok() && (*other)->artifacts.count(Level::kTtgir) == 1);
  return AssertionSuccess();
}

AssertionResult SeveralAreStoredTogetherOrNotAtAll(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  const CacheEntry one = TestEntry(1), two = TestEntry(2), shared = TestEntry(1);
  REQUIRE(
      cache.PutAll({CachePut{TestKey(1), &one}, CachePut{TestKey(2), &two}, CachePut{TestKey(3), &shared}})
          .ok());
  for (const uint64_t number : {1, 2}) {
    const auto read = cache.Read(TestKey(number));
    REQUIRE(read.ok() && read->artifacts == TestEntry(number).artifacts);
  }
  REQUIRE(cache.Read(TestKey(3)).ok());
  const CacheEntry large = TestEntry(5, KernelCacheUnderTest::kLimitBytes + 1);
  const absl::Status refused = cache.PutAll({CachePut{TestKey(4), &two}, CachePut{TestKey(5), &large}});
  REQUIRE(refused.code() == absl::StatusCode::kResourceExhausted);
  REQUIRE(SaysNotFound(cache.Info(TestKey(4)).status()) && SaysNotFound(cache.Info(TestKey(5)).status()));
  return AssertionSuccess();
}

AssertionResult PutReplacesAndKeepsThePin(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  REQUIRE(cache.Get(TestKey(1), kAll).ok());
  REQUIRE(cache.SetPinned(TestKey(1), true).ok());
  REQUIRE(cache.Put(TestKey(1), TestEntry(2)).ok());
  const auto read = cache.Get(TestKey(1), kAll);
  REQUIRE(read.ok() && (*read)->artifacts == TestEntry(2).artifacts);
  REQUIRE(cache.Statistics().entries == 1);
  REQUIRE(cache.Info(TestKey(1))->pinned);
  return AssertionSuccess();
}

AssertionResult AnEntryLargerThanTheCacheIsRefused(KernelCacheUnderTest& subject) {
  const absl::Status status =
      subject.cache().Put(TestKey(1), TestEntry(1, KernelCacheUnderTest::kLimitBytes + 1));
  REQUIRE(status.code() == absl::StatusCode::kResourceExhausted);
  REQUIRE(GetReason(status) == Reason::kQuota);
  REQUIRE(GetDetails(status).count("limit") == 1);
  REQUIRE(SaysNotFound(subject.cache().Info(TestKey(1)).status()));
  return AssertionSuccess();
}

AssertionResult ReadReturnsAllAndCountsNoUse(KernelCacheUnderTest& subject) {
  REQUIRE(subject.cache().Put(TestKey(1), TestEntry(1)).ok());
  const auto entry = subject.cache().Read(TestKey(1));
  REQUIRE(entry.ok() && entry->artifacts == TestEntry(1).artifacts);
  REQUIRE(entry->metadata_json == TestEntry(1).metadata_json);
  const auto blob = subject.cache().GetBlob(TestKey(1), Level::kPtx);
  REQUIRE(blob.ok() && *blob == TestEntry(1).artifacts.at(Level::kPtx));
  REQUIRE(SaysNotFound(subject.cache().GetBlob(TestKey(1), Level::kCubin).status()));
  REQUIRE(subject.cache().Info(TestKey(1))->hits == 0);
  REQUIRE(subject.cache().Statistics().hits == 0);
  return AssertionSuccess();
}

AssertionResult InfoDescribesTheEntryAndItsUses(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  const CacheEntry stored = TestEntry(1);
  REQUIRE(cache.Put(TestKey(1), stored).ok());
  const auto before = cache.Info(TestKey(1));
  REQUIRE(before.ok() && before->hits == 0 && !before->pinned && before->error.empty());
  REQUIRE(before->key == TestKey(1) && before->kernel_name == stored.kernel_name);
  REQUIRE(before->tenant == stored.tenant && before->toolchain == stored.toolchain);
  REQUIRE(before->blobs.size() == stored.artifacts.size());
  for (const CacheBlobInfo& blob : before->blobs) {
    REQUIRE(blob.bytes == stored.artifacts.at(blob.level).size());
    REQUIRE(blob.digest == Digest::Of(stored.artifacts.at(blob.level)));
  }
  subject.AdvanceClock(absl::Hours(1));
  REQUIRE(cache.Get(TestKey(1), kPtxOnly).ok());
  REQUIRE(cache.RecordUse(TestKey(1)));
  const auto after = cache.Info(TestKey(1));
  REQUIRE(after.ok() && after->hits == 2);
  REQUIRE(after->created == before->created);
  REQUIRE(after->last_used - before->last_used >= absl::Minutes(58));
  REQUIRE(cache.Statistics().hits == 2);
  return AssertionSuccess();
}

AssertionResult ListVisitsInKeyOrderUntilToldToStop(KernelCacheUnderTest& subject) {
  for (uint64_t i = 0; i < 8; ++i) REQUIRE(subject.cache().Put(TestKey(i), TestEntry(i)).ok());
  std::vector<CacheKey> keys;
  REQUIRE(subject.cache()
              .List([&](const CacheEntryInfo& info) {
                keys.push_back(info.key);
                return true;
              })
              .ok());
  REQUIRE(keys.size() == 8);
  for (size_t i = 1; i < keys.size(); ++i) REQUIRE(keys[i - 1] < keys[i]);
  int visits = 0;
  REQUIRE(subject.cache().List([&](const CacheEntryInfo&) { return ++visits < 3; }).ok());
  REQUIRE(visits == 3);
  return AssertionSuccess();
}

AssertionResult APinnedEntryIsRemovedByForceOnly(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  REQUIRE(cache.SetPinned(TestKey(1), true).ok());
  REQUIRE(cache.Info(TestKey(1))->pinned && cache.Statistics().pinned == 1);
  const absl::StatusOr<bool> refused = cache.Remove(TestKey(1), false);
  REQUIRE(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(GetReason(refused.status()) == Reason::kNotPermitted);
  REQUIRE(cache.Info(TestKey(1)).ok());
  const absl::StatusOr<bool> forced = cache.Remove(TestKey(1), true);
  REQUIRE(forced.ok() && *forced);
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), kPtxOnly).status()));
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  REQUIRE(!cache.Info(TestKey(1))->pinned);
  REQUIRE(cache.SetPinned(TestKey(1), true).ok() && cache.SetPinned(TestKey(1), false).ok());
  const absl::StatusOr<bool> unpinned = cache.Remove(TestKey(1), false);
  REQUIRE(unpinned.ok() && *unpinned);
  return AssertionSuccess();
}

AssertionResult ARemovedEntryIsAMiss(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  REQUIRE(cache.Get(TestKey(1), kPtxOnly).ok());
  REQUIRE(*cache.Remove(TestKey(1), false));
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), kPtxOnly).status()));
  REQUIRE(SaysNotFound(cache.Read(TestKey(1)).status()));
  REQUIRE(SaysNotFound(cache.Info(TestKey(1)).status()));
  REQUIRE(cache.Statistics().entries == 0 && cache.Statistics().blob_bytes == 0);
  return AssertionSuccess();
}

AssertionResult ADamagedBlobIsAMissThatHeals(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  REQUIRE(cache.Put(TestKey(2), TestEntry(2)).ok());
  subject.CorruptBlob(TestKey(1), Level::kPtx);
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), kPtxOnly).status()));
  REQUIRE(SaysNotFound(cache.Info(TestKey(1)).status()));
  REQUIRE(cache.Statistics().healed == 1);
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  const auto again = cache.Get(TestKey(1), kPtxOnly);
  REQUIRE(again.ok() && (*again)->artifacts.at(Level::kPtx) == TestEntry(1).artifacts.at(Level::kPtx));
  REQUIRE(cache.Get(TestKey(2), kAll).ok());
  return AssertionSuccess();
}

AssertionResult ADamagedCubinIsAMissThatHeals(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  CacheEntry entry = TestEntry(1);
  entry.artifacts[Level::kCubin] = std::string(5000, 'c');
  REQUIRE(cache.Put(TestKey(1), entry, absl::InfiniteDuration()).ok());
  subject.CorruptBlob(TestKey(1), Level::kCubin);
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), {Level::kCubin}).status()));
  REQUIRE(cache.Statistics().healed == 1);
  REQUIRE(cache.Put(TestKey(1), entry, absl::InfiniteDuration()).ok());
  const auto again = cache.Get(TestKey(1), {Level::kCubin});
  REQUIRE(again.ok() && (*again)->artifacts.at(Level::kCubin) == entry.artifacts.at(Level::kCubin));
  return AssertionSuccess();
}

AssertionResult OnlyWhatIsReturnedIsChecked(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  subject.CorruptBlob(TestKey(1), Level::kTtgir);
  const auto read = cache.Get(TestKey(1), kPtxOnly);
  REQUIRE(read.ok() && (*read)->artifacts.size() == 1);
  REQUIRE(cache.Statistics().healed == 0);
  return AssertionSuccess();
}

AssertionResult ADamagedBlobIsDataLossToReaders(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(1)).ok());
  subject.CorruptBlob(TestKey(1), Level::kPtx);
  REQUIRE(SaysDamaged(cache.GetBlob(TestKey(1), Level::kPtx).status()));
  REQUIRE(SaysNotFound(cache.Info(TestKey(1)).status()));
  REQUIRE(cache.Put(TestKey(2), TestEntry(2)).ok());
  subject.CorruptBlob(TestKey(2), Level::kTtgir);
  REQUIRE(SaysDamaged(cache.Read(TestKey(2)).status()));
  REQUIRE(SaysNotFound(cache.Info(TestKey(2)).status()));
  REQUIRE(cache.Statistics().healed == 2);
  return AssertionSuccess();
}

AssertionResult ASharedDamagedBlobHealsForAll(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(7)).ok());
  REQUIRE(cache.Put(TestKey(2), TestEntry(7)).ok());
  subject.CorruptBlob(TestKey(1), Level::kPtx);
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), kPtxOnly).status()));
  REQUIRE(cache.Put(TestKey(1), TestEntry(7)).ok());
  const auto first = cache.Get(TestKey(1), kPtxOnly);
  REQUIRE(first.ok() && (*first)->artifacts.at(Level::kPtx) == TestEntry(7).artifacts.at(Level::kPtx));
  const auto second = cache.Get(TestKey(2), kPtxOnly);
  REQUIRE(!second.ok() || (*second)->artifacts.at(Level::kPtx) == TestEntry(7).artifacts.at(Level::kPtx));
  return AssertionSuccess();
}

AssertionResult SharedBlobsOutliveOneOfTheirEntries(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  REQUIRE(cache.Put(TestKey(1), TestEntry(7)).ok());
  const uint64_t once = cache.Statistics().blob_bytes;
  REQUIRE(cache.Put(TestKey(2), TestEntry(7)).ok());
  REQUIRE(cache.Statistics().blob_bytes == once);
  REQUIRE(*cache.Remove(TestKey(1), false));
  const auto read = cache.Get(TestKey(2), kAll);
  REQUIRE(read.ok() && (*read)->artifacts == TestEntry(7).artifacts);
  REQUIRE(*cache.Remove(TestKey(2), false));
  REQUIRE(cache.Statistics().blob_bytes == 0);
  return AssertionSuccess();
}

AssertionResult VerifyRemovesWhatIsBad(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(cache.Put(TestKey(i), TestEntry(i)).ok());
  const auto clean = cache.Verify();
  REQUIRE(clean.ok() && clean->entries == 4 && clean->blobs == 12 && clean->bad_blobs == 0);
  REQUIRE(clean->removed.empty());
  subject.CorruptBlob(TestKey(2), Level::kLlir);
  const auto found = cache.Verify();
  REQUIRE(found.ok() && found->bad_blobs == 1);
  REQUIRE(found->removed == std::vector<CacheKey>{TestKey(2)});
  REQUIRE(SaysNotFound(cache.Info(TestKey(2)).status()));
  REQUIRE(cache.Statistics().healed == 1 && cache.Statistics().entries == 3);
  return AssertionSuccess();
}

AssertionResult ARememberedErrorEnds(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  CacheEntry entry;
  entry.error = CachedError{3, "INVALID_IR", "line 7 is wrong", {{"line", "7"}}};
  REQUIRE(cache.Put(TestKey(1), entry, absl::Minutes(5)).ok());
  const auto read = cache.Get(TestKey(1), kPtxOnly);
  REQUIRE(read.ok() && (*read)->error.has_value());
  REQUIRE((*read)->error->code == 3 && (*read)->error->reason == "INVALID_IR");
  REQUIRE((*read)->error->message == "line 7 is wrong" && (*read)->error->details.at("line") == "7");
  REQUIRE(cache.Info(TestKey(1))->error == "line 7 is wrong");
  REQUIRE(cache.Statistics().negative_hits == 1);
  subject.AdvanceClock(absl::Minutes(5) + absl::Seconds(1));
  REQUIRE(SaysNotFound(cache.Get(TestKey(1), kPtxOnly).status()));
  REQUIRE(SaysNotFound(cache.Info(TestKey(1)).status()));
  return AssertionSuccess();
}

AssertionResult TheLeastRecentlyUsedGoFirstAndPinnedOnesStay(KernelCacheUnderTest& subject) {
  KernelCache& cache = subject.cache();
  constexpr size_t kBytes = size_t{256} << 10;
  constexpr uint64_t kEntries = 2 * KernelCacheUnderTest::kLimitBytes / kBytes;
  REQUIRE(cache.Put(TestKey(0), TestEntry(0, kBytes)).ok());
  REQUIRE(cache.SetPinned(TestKey(0), true).ok());
  for (uint64_t i = 1; i < kEntries; ++i) {
    subject.AdvanceClock(absl::Seconds(1));
    REQUIRE(cache.Put(TestKey(i), TestEntry(i, kBytes)).ok());
    subject.AdvanceClock(absl::Seconds(1));
    REQUIRE(cache.Get(TestKey(1), kPtxOnly).ok());  // always in use
    if (i % 8 == 7) subject.Evict();
  }
  subject.Evict();
  const CacheStatistics statistics = cache.Statistics();
  REQUIRE(statistics.evicted > 0);
  REQUIRE(statistics.limit_bytes == KernelCacheUnderTest::kLimitBytes);
  REQUIRE(statistics.disk_bytes <= statistics.limit_bytes);
  REQUIRE(cache.Info(TestKey(0)).ok());
  REQUIRE(cache.Info(TestKey(1)).ok());
  REQUIRE(cache.Info(TestKey(kEntries - 1)).ok());
  REQUIRE(SaysNotFound(cache.Info(TestKey(2)).status()));
  return AssertionSuccess();
}

}  // namespace

const std::vector<KernelCacheCase>& KernelCacheCases() {
#define CASE(name) \
  KernelCacheCase { #name, name }
  static const auto* const cases = new std::vector<KernelCacheCase>{
      CASE(UnknownKeysAreNotFound),
      CASE(GetReturnsWhatPutStored),
      CASE(GetReturnsOnlyTheLevelsAskedFor),
      CASE(SeveralAreStoredTogetherOrNotAtAll),
      CASE(PutReplacesAndKeepsThePin),
      CASE(AnEntryLargerThanTheCacheIsRefused),
      CASE(ReadReturnsAllAndCountsNoUse),
      CASE(InfoDescribesTheEntryAndItsUses),
      CASE(ListVisitsInKeyOrderUntilToldToStop),
      CASE(APinnedEntryIsRemovedByForceOnly),
      CASE(ARemovedEntryIsAMiss),
      CASE(ADamagedBlobIsAMissThatHeals),
      CASE(ADamagedCubinIsAMissThatHeals),
      CASE(OnlyWhatIsReturnedIsChecked),
      CASE(ADamagedBlobIsDataLossToReaders),
      CASE(ASharedDamagedBlobHealsForAll),
      CASE(SharedBlobsOutliveOneOfTheirEntries),
      CASE(VerifyRemovesWhatIsBad),
      CASE(ARememberedErrorEnds),
      CASE(TheLeastRecentlyUsedGoFirstAndPinnedOnesStay),
  };
#undef CASE
  return *cases;
}

std::string KernelCacheCaseName(const testing::TestParamInfo<size_t>& info) {
  return KernelCacheCases()[info.param].name;
}

CacheKey TestKey(uint64_t number) { return Digest::Of(absl::StrCat("key ", number)); }

CacheEntry TestEntry(uint64_t number, size_t ptx_bytes) {
  CacheEntry entry;
  entry.kernel_name = absl::StrCat("kernel_", number);
  entry.toolchain = "3.9.0";
  entry.target = "cuda:80:32";
  entry.source_level = Level::kTtir;
  entry.tenant = "uid:1000";
  entry.metadata_json = absl::StrCat(R"({"name":"kernel_)", number, R"(","num_warps":4})");
  entry.log = "a warning";
  entry.artifacts[Level::kTtgir] = absl::StrCat("ttgir of ", number);
  entry.artifacts[Level::kLlir] = absl::StrCat("llir of ", number, std::string(1000, 'l'));
  // Random bytes: a cache that compresses must not be able to cheat a case about limits.
  std::mt19937_64 random(number);
  std::string ptx(ptx_bytes, '\0');
  for (char& byte : ptx) byte = static_cast<char>(random());
  entry.artifacts[Level::kPtx] = std::move(ptx);
  return entry;
}

}  // namespace trun
