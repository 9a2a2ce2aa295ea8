// The pool and TritonToolchain over workers that misbehave (fake_worker.py).
#include "server/toolchain/triton/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "server/toolchain/triton/triton_toolchain.h"

namespace trun {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class WorkerPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/trun-pool-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    scratch_ = folder;
  }
  void TearDown() override {
    toolchain_.reset();
    EXPECT_TRUE(fs::is_empty(scratch_)) << "a worker left its folder behind";
    fs::remove_all(scratch_);
  }

  WorkerPoolOptions PoolOptions(const std::string& greeting = "") {
    WorkerPoolOptions options;
    options.command.argv = {"/usr/bin/python3", "-s", "-B", fs::absolute("fake_worker.py").string()};
    if (!greeting.empty()) options.command.argv.push_back(greeting);
    options.command.scratch_directory = scratch_;
    options.max_workers = 2;
    return options;
  }
  void Make(WorkerPoolOptions pool) {
    TritonToolchainOptions options;
    options.info.name = "fake";
    options.info.version = "9.9.9";
    options.pool = std::move(pool);
    options.memory_limit_bytes = uint64_t{256} << 20;
    toolchain_ = std::make_unique<TritonToolchain>(std::move(options));
  }
  static StageRequest Request(const std::string& behaviour, absl::Duration deadline) {
    StageRequest request;
    request.from = Level::kTtir;
    request.to = Level::kTtgir;
    request.target = {"cuda", 80, 32};
    request.ir = behaviour;
    request.deadline = deadline;
    return request;
  }
  absl::Status Run(const std::string& behaviour, absl::Duration deadline = absl::Seconds(60),
                   std::string* body = nullptr, std::string* metadata = nullptr) {
    if (toolchain_ == nullptr) Make(PoolOptions());
    return toolchain_->Compile(Request(behaviour, deadline), [&](StageResult stage) {
      if (body != nullptr) *body = stage.bytes;
      if (metadata != nullptr) *metadata = stage.metadata_json;
      return StageDecision::kContinue;
    });
  }

  std::string scratch_;
  std::unique_ptr<TritonToolchain> toolchain_;
};

TEST_F(WorkerPoolTest, APythonThatIsMissingIsABrokenToolchain) {
  WorkerPoolOptions options = PoolOptions();
  options.command.argv[0] = "/nonexistent/python";
  Make(options);
  const absl::Status status = Run("ok");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(GetReason(status), Reason::kToolchainBroken);
}

TEST_F(WorkerPoolTest, AWorkerThatDoesNotGreetIsABrokenToolchain) {
  for (const char* greeting : {"die", "broken", "old"}) {
    Make(PoolOptions(greeting));
    const absl::Status status = Run("ok");
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << greeting << status;
    EXPECT_EQ(GetReason(status), Reason::kToolchainBroken) << greeting;
  }
  Make(PoolOptions("die"));
  EXPECT_THAT(std::string(Run("ok").message()), HasSubstr("no libtriton"));
}

TEST_F(WorkerPoolTest, AWorkerThatNeverGreetsIsATimeout) {
  WorkerPoolOptions options = PoolOptions("silent");
  options.command.start_timeout = absl::Milliseconds(50);
  Make(options);
  EXPECT_EQ(GetReason(Run("ok")), Reason::kCompileTimeout);
}

TEST_F(WorkerPoolTest, ACrashIsCompileFailedWithTheTellingLineFirst) {
  const absl::Status status = Run("crash");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kCompileFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("signal 6"));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("LLVM ERROR: Cannot select: the dark side\nLLVM ERROR"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("0. ??"));  // not UTF-8, not printable
  EXPECT_EQ(GetReason(Run("crash-late")), Reason::kCompileFailed);
  EXPECT_THAT(std::string(Run("exit").message()), HasSubstr("exit code 7"));
  EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, AWorkerThatEndsInTheMiddleOfARequestIsHeardOut) {
  ASSERT_TRUE(Run("last-words").ok());
  // More than the socket holds: the worker is gone before all of it is sent.
  const absl::Status status = Run(std::string(size_t{8} << 20, ' '));
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("these are its last words"));
}

TEST_F(WorkerPoolTest, DyingOfMemoryIsOutOfMemory) {
  EXPECT_EQ(GetReason(Run("bad-alloc")), Reason::kCompileOutOfMemory);
  const absl::Status status = Run("balloon");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetReason(status), Reason::kCompileOutOfMemory);
  EXPECT_EQ(GetDetails(status)["limit"], absl::StrCat(uint64_t{256} << 20));
  EXPECT_EQ(GetReason(Run("flood")), Reason::kCompileOutOfMemory);
  EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, AWorkerThatNeverFallsSilentIsNotGivenMoreMemory) {
  Make(PoolOptions());
  StageRequest request = Request("talkative-balloon", absl::Seconds(60));
  uint32_t passes = 0;
  request.on_pass = [&](PassResult) { ++passes; };
  const absl::Status status =
      toolchain_->Compile(request, [](StageResult) { return StageDecision::kContinue; });
  EXPECT_EQ(GetReason(status), Reason::kCompileOutOfMemory) << status;
  EXPECT_GT(passes, 100u);
}

TEST_F(WorkerPoolTest, AStageThatTakesTimeIsSaidToHaveBegunAndOnceToBeUnderWay) {
  Make(PoolOptions());
  std::vector<std::string> told;
  StageRequest request = Request("hang", absl::Seconds(60));
  request.on_started = [&] { told.emplace_back("started"); };
  request.on_quiet = [&] { told.emplace_back("quiet"); };
  int asked = 0;
  request.is_abandoned = [&] { return ++asked > 5; };
  const absl::Status status =
      toolchain_->Compile(request, [](StageResult) { return StageDecision::kContinue; });
  EXPECT_EQ(GetReason(status), Reason::kCancelled) << status;
  EXPECT_THAT(told, ::testing::ElementsAre("started", "quiet"));
}

TEST_F(WorkerPoolTest, AHangIsATimeoutEvenInTheMiddleOfAFrame) {
  for (const char* behaviour : {"hang", "drip"}) {
    const absl::Status status = Run(behaviour, absl::Milliseconds(100));
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << behaviour << status;
    EXPECT_EQ(GetReason(status), Reason::kCompileTimeout);
  }
  EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, AWorkerWhoseAnswerNobodyWaitsForIsEndedInTheMiddle) {
  Make(PoolOptions());
  int asked = 0;
  StageRequest request = Request("hang", absl::Seconds(60));
  request.is_abandoned = [&] { return ++asked > 3; };
  const absl::Status status =
      toolchain_->Compile(request, [](StageResult) { return StageDecision::kContinue; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(GetReason(status), Reason::kCancelled);
  EXPECT_EQ(toolchain_->info().busy_workers, 0);
  EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, WarningsComeWithTheirStageAndNotWithTheNextCompile) {
  Make(PoolOptions());
  std::vector<StageResult> stages;
  for (const char* behaviour : {"warn", "ok", "warn"}) {
    const absl::Status status =
        toolchain_->Compile(Request(behaviour, absl::Seconds(60)), [&](StageResult stage) {
          stages.push_back(std::move(stage));
          return StageDecision::kContinue;
        });
    ASSERT_TRUE(status.ok()) << status;
  }
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0].log, "warning: this loop is odd");
  EXPECT_EQ(stages[1].log, "");
  EXPECT_EQ(stages[2].log, "warning: this loop is odd");
  EXPECT_EQ(stages[0].bytes, stages[2].bytes);  // one worker, whose log holds all three
}

TEST_F(WorkerPoolTest, AnAnswerThatIsNotOfTheProtocolEndsTheWorker) {
  for (const char* behaviour : {"garbage", "oversized", "not-json", "deep-json", "array", "unknown-op",
                                "done-at-once", "wrong-level", "same-level-again", "no-such-level",
                                "empty-body", "negative-time", "bad-metadata", "metadata-of-wrong-type"}) {
    const absl::Status status = Run(behaviour);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << behaviour << status;
    EXPECT_EQ(GetReason(status), Reason::kCompileFailed) << behaviour;
    EXPECT_EQ(toolchain_->info().busy_workers, 0);
  }
  EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, ErrorsOfTheWorkerKeepReasonAndDetailsButNothingUnprintable) {
  absl::Status status = Run("error");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(status)["line"], "3");
  EXPECT_EQ(GetDetails(status).count("x"), 0u);
  status = Run("unknown-error");
  EXPECT_EQ(GetReason(status), Reason::kCompileFailed);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\x1b")));
}

TEST_F(WorkerPoolTest, AWorkerIsUsedAgainAndMetadataIsCanonical) {
  std::string first, second, metadata;
  ASSERT_TRUE(Run("ok", absl::Seconds(60), &first, &metadata).ok());
  ASSERT_TRUE(Run("ok", absl::Seconds(60), &second).ok());
  EXPECT_EQ(first, second);  // its process id
  EXPECT_EQ(metadata, R"({"a":2,"b":1})");
}

TEST_F(WorkerPoolTest, AWorkerThatKeepsTooMuchMemoryIsNotUsedAgain) {
  WorkerPoolOptions options = PoolOptions();
  options.retire_above_bytes = uint64_t{64} << 20;
  Make(options);
  std::string first, second;
  ASSERT_TRUE(Run("leak", absl::Seconds(60), &first).ok());
  ASSERT_TRUE(Run("ok", absl::Seconds(60), &second).ok());
  EXPECT_NE(first, second);
}

TEST_F(WorkerPoolTest, ABrokenToolchainStartsNothing) {
  TritonToolchainOptions options;
  options.info.usable = FailedPrecondition(Reason::kToolchainBroken, "no ptxas");
  TritonToolchain toolchain(std::move(options));
  toolchain.Prewarm(1);
  EXPECT_EQ(GetReason(toolchain.Options("cuda").status()), Reason::kToolchainBroken);
  EXPECT_EQ(GetReason(toolchain.Compile({}, nullptr)), Reason::kToolchainBroken);
  EXPECT_EQ(GetReason(toolchain.Check()), Reason::kToolchainBroken);
}

TEST_F(WorkerPoolTest, AnotherVersionThanTheManifestSaysIsBroken) {
  TritonToolchainOptions options;
  options.info.version = "1.2.3";
  options.pool = PoolOptions();
  EXPECT_EQ(GetReason(TritonToolchain(std::move(options)).Check()), Reason::kToolchainBroken);
}

TEST_F(WorkerPoolTest, OptionsAreCanonicalJson) {
  Make(PoolOptions());
  auto options = toolchain_->Options("cuda");
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->size(), 1u);
  EXPECT_EQ((*options)[0].default_json, "4");
}

TEST_F(WorkerPoolTest, NothingStartsBeforeItIsAskedFor) {
  WorkerPool pool(PoolOptions());
  EXPECT_EQ(pool.load().warm, 0);
  EXPECT_TRUE(fs::is_empty(scratch_));
}

TEST_F(WorkerPoolTest, WhenAllAreBusyTheNextWaitsForOneThatIsGivenBack) {
  WorkerPool pool(PoolOptions());
  auto a = pool.Acquire(absl::Seconds(30));
  auto b = pool.Acquire(absl::Seconds(30));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(pool.load().busy, 2);
  auto refused = pool.Acquire(absl::Milliseconds(10));
  EXPECT_EQ(GetReason(refused.status()), Reason::kCompileTimeout) << refused.status();
  const pid_t pid = (*a)->pid();
  std::thread waiter([&] {
    auto c = pool.Acquire(absl::Seconds(30));
    ASSERT_TRUE(c.ok());
    EXPECT_EQ((*c)->pid(), pid);
  });
  {
    WorkerPool::Lease given_back = *std::move(a);
  }
  waiter.join();
}

// True within ten seconds.
bool Soon(const std::function<bool()>& holds) {
  for (int i = 0; i < 2000; ++i) {
    if (holds()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

TEST_F(WorkerPoolTest, PrewarmStartsWorkersInTheBackgroundAndNoMoreThanAllowed) {
  WorkerPool pool(PoolOptions());
  pool.Prewarm(5);
  EXPECT_TRUE(Soon([&] { return pool.load().warm == 2; }));
}

TEST_F(WorkerPoolTest, ARequestTakesTheWorkerThatIsOnItsWayAndStartsNoSecond) {
  Make(PoolOptions());
  toolchain_->Prewarm(1);
  EXPECT_TRUE(Run("ok").ok());
  EXPECT_EQ(toolchain_->info().warm_workers + toolchain_->info().busy_workers, 1);
}

TEST_F(WorkerPoolTest, ARequestIsToldWhyWhereTheWorkerOnItsWayNeverArrives) {
  for (const char* greeting : {"die", "broken"}) {
    Make(PoolOptions(greeting));
    toolchain_->Prewarm(2);
    EXPECT_EQ(GetReason(Run("ok")), Reason::kToolchainBroken) << greeting;
  }
}

TEST_F(WorkerPoolTest, AWorkerThatEndsWhileItIsWarmedUpIsNotHandedOut) {
  Make(PoolOptions("ends-warm"));
  toolchain_->Prewarm(1);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Run("ok").ok());
}

TEST_F(WorkerPoolTest, ABrokenWorkerIsReplaced) {
  WorkerPool pool(PoolOptions());
  {
    auto lease = pool.Acquire(absl::Seconds(30));
    ASSERT_TRUE(lease.ok());
    EXPECT_FALSE((*lease)->Distrust("the test says so").ok());
  }
  EXPECT_TRUE(Soon([&] { return pool.load().warm == 1; }));
}

TEST_F(WorkerPoolTest, AnIdleWorkerThatWasKilledIsNotHandedOut) {
  WorkerPool pool(PoolOptions());
  pid_t pid = 0;
  {
    auto lease = pool.Acquire(absl::Seconds(30));
    ASSERT_TRUE(lease.ok());
    pid = (*lease)->pid();
  }
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  auto lease = pool.Acquire(absl::Seconds(30));
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_NE((*lease)->pid(), pid);
}

TEST_F(WorkerPoolTest, AnIdleWorkerIsRetired) {
  WorkerPoolOptions options = PoolOptions();
  options.idle_retirement = absl::Milliseconds(1);
  WorkerPool pool(options);
  {
    ASSERT_TRUE(pool.Acquire(absl::Seconds(30)).ok());
  }
  EXPECT_TRUE(Soon([&] { return pool.load().warm == 0 && fs::is_empty(scratch_); }));
}

}  // namespace
}  // namespace trun
