// A process that writes the cache is killed with SIGKILL at random times: no finished entry may be lost, none
// wrong.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/unique_fd.h"
#include "common/subprocess/subprocess.h"
#include "server/cache/rocksdb/rocksdb_cache_under_test.h"

namespace trun {
namespace {

constexpr char kFolderVariable[] = "TRUN_KILL_LOOP_FOLDER";
constexpr char kFirstVariable[] = "TRUN_KILL_LOOP_FIRST";
constexpr uint64_t kNumbersPerProcess = 100000;

// What a number's entry is: every third one shares its blobs with others.
CacheEntry EntryOf(uint64_t number) { return TestEntry(number % 3 == 0 ? number % 30 : number, 2000); }

// The child: puts entries, and says on its standard output which are finished ("+N") and which it is about to
// remove
// ("-N"). Runs until it is killed; alone it is skipped.
TEST(CacheKillLoop, WriterProcess) {
  const char* const folder = getenv(kFolderVariable);
  if (folder == nullptr) GTEST_SKIP() << "runs as a child of FinishedEntriesSurvive";
  RocksDbKernelCacheOptions options;
  options.path = folder;
  options.limit_bytes = uint64_t{1} << 30;
  auto cache = RocksDbKernelCache::Open(options);
  if (!cache.ok()) _exit(3);
  uint64_t first = 0;
  if (!absl::SimpleAtoi(getenv(kFirstVariable), &first)) _exit(4);
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 3; ++t) {
    writers.emplace_back([&, t] {
      for (uint64_t number = first + t; number < first + kNumbersPerProcess; number += 3) {
        const auto say = [&](char what, uint64_t which) {
          const std::string line = absl::StrCat(std::string(1, what), which, "\n");
          if (write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(5);
        };
        if (!(*cache)->Put(TestKey(number), EntryOf(number), absl::InfiniteDuration()).ok()) _exit(6);
        say('+', number);
        if (number % 7 == t && number >= first + 9) {
          say('-', number - 9);
          if (!(*cache)->Remove(TestKey(number - 9), true).ok()) _exit(7);
        }
        if (!(*cache)->Get(TestKey(number), {Level::kPtx}).ok()) _exit(8);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

TEST(CacheKillLoop, FinishedEntriesSurvive) {
  int kills = 30;
  if (const char* const wanted = getenv("TRUN_KILL_LOOPS")) {
    ASSERT_TRUE(absl::SimpleAtoi(wanted, &kills));
  }
  TemporaryFolder folder;
  const std::string path = folder.path() + "/kernels";
  const std::string said = folder.path() + "/said";
  std::mt19937 random(20261124);
  for (int kill = 0; kill < kills; ++kill) {
    const UniqueFd out(open(said.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
    SubprocessOptions options;
    options.argv = {"/proc/self/exe", "--gtest_filter=CacheKillLoop.WriterProcess", "--gtest_brief=1"};
    char self[4096] = {};
    ASSERT_GT(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
    options.argv[0] = self;
    options.env = {{kFolderVariable, path}, {kFirstVariable, absl::StrCat(kill * kNumbersPerProcess)}};
    options.stdout_fd = out.get();
    auto child = Subprocess::Start(options);
    ASSERT_TRUE(child.ok()) << child.status();
    // One in four dies while it starts, the others a random time after they have begun to write.
    if (kill % 4 != 0) {
      const auto before = std::filesystem::file_size(said);
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (std::filesystem::file_size(said) == before && std::chrono::steady_clock::now() < give_up) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
    ASSERT_TRUE((*child)->Signal(SIGKILL).ok());
    const auto ended = (*child)->Wait(absl::Seconds(20));
    ASSERT_TRUE(ended.ok() && ended->signaled && ended->code == SIGKILL) << "the writer ended by itself";

    if (kill % 5 != 4 && kill != kills - 1) continue;  // the next writer reads what is there as well
    std::map<uint64_t, bool> expected;                 // number → whether it was to be removed
    std::ifstream lines(said);
    for (std::string line; std::getline(lines, line);) {
      uint64_t number = 0;
      if (line.size() < 2 || !absl::SimpleAtoi(line.substr(1), &number)) continue;
      if (line[0] == '+') expected.emplace(number, false);
      if (line[0] == '-') expected[number] = true;
    }
    RocksDbKernelCacheOptions cache_options;
    cache_options.path = path;
    cache_options.limit_bytes = uint64_t{1} << 30;
    auto cache = RocksDbKernelCache::Open(cache_options);
    ASSERT_TRUE(cache.ok()) << cache.status();
    EXPECT_EQ((*cache)->Statistics().healed, 0u);
    for (const auto& [number, is_removed] : expected) {
      const auto entry = (*cache)->Read(TestKey(number));
      if (!entry.ok()) {
        ASSERT_TRUE(is_removed) << "entry " << number << " is lost: " << entry.status();
      } else {
        ASSERT_EQ(entry->artifacts, EntryOf(number).artifacts);
      }
    }
    const auto verified = (*cache)->Verify();
    ASSERT_TRUE(verified.ok());
    EXPECT_EQ(verified->bad_blobs, 0u);
    if (kill == kills - 1) {
      RecordProperty("finished_entries", static_cast<int>(expected.size()));
      EXPECT_GT(expected.size(), static_cast<size_t>(kills));
    }
  }
}

}  // namespace
}  // namespace trun
