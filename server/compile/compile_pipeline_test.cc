#include "server/compile/compile_pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <stdexcept>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/ir/pass_record_level.h"
#include "server/cache/fake_kernel_cache.h"
#include "server/cache/tiered_kernel_cache.h"
#include "server/toolchain/fake_toolchain.h"

namespace trun {
namespace {

constexpr Level kPtx = Level::kPtx;

// Holds those who pass it until it is opened, and tells when the first has come.
class Gate {
 public:
  void Pass() {
    MutexLock lock(&mu_);
    has_come_ = true;
    changed_.SignalAll();
    while (!is_open_) changed_.Wait(&mu_);
  }
  void AwaitFirst() {
    MutexLock lock(&mu_);
    while (!has_come_) changed_.Wait(&mu_);
  }
  void Open() {
    MutexLock lock(&mu_);
    is_open_ = true;
    changed_.SignalAll();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool has_come_ ABSL_GUARDED_BY(mu_) = false;
  bool is_open_ ABSL_GUARDED_BY(mu_) = false;
};

class CompilePipelineTest : public testing::Test {
 protected:
  CompileRequest Request(const std::string& comment, const std::string& lowered = "a") {
    CompileRequest request;
    request.level = Level::kTtir;
    request.ir = FakeToolchain::FakeTtir(comment, lowered);
    request.file_name = "k.ttir";
    request.target = Target{"cuda", 80, 32};
    request.last_level = kPtx;
    request.tenant = "uid:1";
    return request;
  }
  absl::StatusOr<CompileOutcome> Compile(const CompileRequest& request) {
    return pipeline_.Compile(request, nullptr);
  }
  Reason ReasonOf(const CompileRequest& request) { return GetReason(Compile(request).status()); }
  void RemoveAllEntries() {
    std::vector<CacheKey> all;
    const auto note = [&](const CacheEntryInfo& info) {
      all.push_back(info.key);
      return true;
    };
    ASSERT_TRUE(cache_.List(note).ok());
    for (const CacheKey& key : all) ASSERT_TRUE(cache_.Remove(key, true).ok());
  }

  std::shared_ptr<FakeToolchain> newest_ = std::make_shared<FakeToolchain>("3.9.0");
  std::shared_ptr<FakeToolchain> older_ = std::make_shared<FakeToolchain>("3.4.0");
  FakeToolchainRegistry registry_{{newest_, older_}};
  absl::Time now_ = absl::Now();
  FakeKernelCache store_{[this] { return now_; }};
  TieredKernelCache cache_{&store_, uint64_t{16} << 20};
  CompilePipeline pipeline_{&cache_, &registry_, Clock::Real()};
};

TEST_F(CompilePipelineTest, AnEmptyFileIsInvalid) {
  CompileRequest request = Request("x");
  request.ir.clear();
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
}

TEST_F(CompilePipelineTest, AFileOverTheLimitIsRefusedAndTheLimitIsNamed) {
  CompileRequest request = Request("x");
  request.ir.resize((size_t{64} << 20) + 1, ' ');
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(status)["limit"], "67108864");
}

TEST_F(CompilePipelineTest, ThereIsNoWayBackOrFromAnUnknownLevel) {
  CompileRequest request = Request("x");
  request.last_level = Level::kUnspecified;
  EXPECT_EQ(ReasonOf(request), Reason::kUnsupportedLevel);
  request.level = Level::kPython;
  request.last_level = kPtx;
  EXPECT_EQ(ReasonOf(request), Reason::kUnsupportedLevel);
  request.level = Level::kPtx;
  request.last_level = Level::kTtir;
  EXPECT_EQ(ReasonOf(request), Reason::kUnsupportedLevel);
}

TEST_F(CompilePipelineTest, AnUnknownToolchainIsNotFound) {
  CompileRequest request = Request("x");
  request.toolchain = "3.7.0";
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(status), Reason::kToolchainNotFound);
  newest_->SetUsable(FailedPrecondition(Reason::kToolchainBroken, "python is gone"));
  older_->SetUsable(FailedPrecondition(Reason::kToolchainBroken, "python is gone"));
  request.toolchain.clear();
  EXPECT_EQ(ReasonOf(request), Reason::kToolchainNotFound);
  request.toolchain = "3.9.0";
  EXPECT_EQ(ReasonOf(request), Reason::kToolchainBroken);
}

TEST_F(CompilePipelineTest, AnOptionThatIsNoJsonOrTooDeepIsRefused) {
  CompileRequest request = Request("x");
  for (const std::string& bad :
       {std::string("eight"), std::string(), std::string(100000, '['), std::string("1 2")}) {
    request.options = {{"num_warps", bad}};
    const absl::Status status = Compile(request).status();
    EXPECT_EQ(GetReason(status), Reason::kArgument);
    EXPECT_EQ(GetDetails(status)["option"], "num_warps");
  }
}

TEST_F(CompilePipelineTest, RandomBytesAsAnyLevelAreAnError) {
  std::mt19937 random(5);
  for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx}) {
    CompileRequest request = Request("x");
    request.level = level;
    request.ir.clear();
    for (int i = 0; i < 5000; ++i) request.ir.push_back(static_cast<char>(random()));
    EXPECT_EQ(Compile(request).status().code(), absl::StatusCode::kInvalidArgument) << LevelName(level);
  }
}

TEST_F(CompilePipelineTest, ADeterministicErrorIsRememberedForAWhile) {
  newest_->BeforeStage(Level::kTtgir, [](const StageRequest&) {
    return FailedPrecondition(Reason::kCompileFailed, "a pass failed", {{"line", "3"}});
  });
  CompileRequest named = Request("x");
  named.toolchain = "3.9.0";
  const absl::Status first = Compile(named).status();
  const absl::Status second = Compile(named).status();
  EXPECT_EQ(first, second);
  EXPECT_EQ(GetReason(second), Reason::kCompileFailed);
  EXPECT_EQ(GetDetails(second)["line"], "3");
  EXPECT_EQ(newest_->compiles(), 1);
  EXPECT_EQ(cache_.Statistics().negative_hits, 1u);
}

TEST_F(CompilePipelineTest, TimeoutsAndLostWorkersAreNotRemembered) {
  for (const absl::Status& error :
       {DeadlineExceeded(Reason::kCompileTimeout, "slow"), Unavailable(Reason::kWorkerLost, "killed"),
        ResourceExhausted(Reason::kCompileOutOfMemory, "big")}) {
    newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) { return error; });
    EXPECT_EQ(ReasonOf(Request("x")), GetReason(error));
    newest_->BeforeStage(Level::kLlir, nullptr);
    EXPECT_TRUE(Compile(Request("x")).ok());
    RemoveAllEntries();
  }
}

TEST_F(CompilePipelineTest, AnErrorOfALateStageLeavesTheEarlierOnesUsable) {
  newest_->BeforeStage(
      Level::kPtx, [](const StageRequest&) { return FailedPrecondition(Reason::kCompileFailed, "no PTX"); });
  CompileRequest request = Request("x");
  request.toolchain = "3.9.0";
  EXPECT_EQ(ReasonOf(request), Reason::kCompileFailed);
  request.last_level = Level::kLlir;
  const auto outcome = Compile(request);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->cached);
  EXPECT_EQ(newest_->compiles(), 1);
  request.last_level = kPtx;
  EXPECT_EQ(ReasonOf(request), Reason::kCompileFailed);
  EXPECT_EQ(newest_->compiles(), 1);
}

TEST_F(CompilePipelineTest, AResultThatCannotBeStoredIsStillReturnedWhole) {
  store_.FailPuts(ResourceExhausted(Reason::kUnavailable, "disk full"));
  const auto outcome = Compile(Request("x"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(pipeline_.ReadArtifact(*outcome->build, Level::kTtgir).ok());
  EXPECT_EQ(pipeline_.Statistics().store_failures, 1u);
}

TEST_F(CompilePipelineTest, ALeaderThatDiesOfAnExceptionHoldsNobodyUp) {
  newest_->BeforeStage(Level::kLlir,
                       [](const StageRequest&) -> absl::Status { throw std::runtime_error("died"); });
  EXPECT_THROW(Compile(Request("x")).status().IgnoreError(), std::runtime_error);
  newest_->BeforeStage(Level::kLlir, nullptr);
  EXPECT_TRUE(Compile(Request("x")).ok());
}

TEST_F(CompilePipelineTest, ADamagedEntryIsCompiledAgain) {
  const auto first = Compile(Request("x"));
  ASSERT_TRUE(first.ok());
  store_.CorruptBlob(first->build->key, kPtx);
  const auto second = Compile(Request("x"));
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(second->cached);
  EXPECT_EQ(second->build->kernel.artifacts.at(kPtx).bytes, first->build->kernel.artifacts.at(kPtx).bytes);
  EXPECT_EQ(store_.Statistics().healed, 1u);
}

TEST_F(CompilePipelineTest, AnEvictedEntryIsNotAnsweredFromMemory) {
  ASSERT_TRUE(Compile(Request("x")).ok());
  ASSERT_TRUE(Compile(Request("x"))->cached);
  RemoveAllEntries();
  const auto again = Compile(Request("x"));
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->cached);
  EXPECT_EQ(newest_->compiles(), 2);
}

TEST_F(CompilePipelineTest, ARepeatIsAHitAndTheSameObject) {
  const auto miss = Compile(Request("x"));
  ASSERT_TRUE(miss.ok()) << miss.status();
  EXPECT_FALSE(miss->cached);
  EXPECT_EQ(miss->build->toolchain, "3.9.0");
  EXPECT_EQ(miss->build->artifacts.size(), 4u);
  EXPECT_EQ(miss->build->kernel.signature.name, "k");
  ASSERT_EQ(miss->build->kernel.signature.arguments.size(), 2u);
  EXPECT_EQ(miss->build->kernel.signature.arguments[0].type, ScalarType::kF32);
  EXPECT_EQ(miss->build->kernel.signature.arguments[0].divisibility, 16);
  EXPECT_EQ(miss->build->kernel.metadata.num_warps, 4);
  std::vector<StageEvent> events;
  const auto hit = pipeline_.Compile(Request("x"), [&](const StageEvent& event) { events.push_back(event); });
  ASSERT_TRUE(hit.ok() && hit->cached);
  EXPECT_EQ(hit->build->key, miss->build->key);
  EXPECT_EQ(hit->build->kernel.signature, miss->build->kernel.signature);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_TRUE(events[2].cached && events[2].level == kPtx);
  const auto repeat = Compile(Request("x"));
  EXPECT_EQ(repeat->build.get(), hit->build.get());
  EXPECT_EQ(newest_->compiles(), 1);
}

TEST_F(CompilePipelineTest, EverythingThatDecidesTheOutputIsInTheKey) {
  const CompileRequest base = Request("x");
  std::vector<CompileRequest> others(6, base);
  others[0].options = {{"num_warps", "8"}};
  others[1].target.arch = 90;
  others[2].toolchain = "3.4.0";
  others[3].metadata_json = R"({"num_warps":4})";
  others[4].instrumentation = "dump site 1";
  others[5].ir += "\n";
  std::vector<CacheKey> keys = {Compile(base)->build->key};
  for (const CompileRequest& other : others) {
    const auto outcome = Compile(other);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    for (const CacheKey& key : keys) EXPECT_NE(outcome->build->key, key);
    keys.push_back(outcome->build->key);
  }
  CompileRequest same = others[0];
  same.options = {{"num_warps", "  8 "}};
  same.file_name = "other name";
  EXPECT_EQ(Compile(same)->build->key, keys[1]);
}

TEST_F(CompilePipelineTest, ALaterLevelContinuesWhereTheStoredOneEnds) {
  CompileRequest request = Request("x");
  request.last_level = Level::kTtgir;
  ASSERT_TRUE(Compile(request).ok());
  const auto outcome = Compile(Request("x"));
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(newest_->stages(Level::kTtgir), 1);
  EXPECT_EQ(newest_->stages(Level::kPtx), 1);
  EXPECT_FALSE(outcome->cached);
  EXPECT_TRUE(pipeline_.ReadArtifact(*outcome->build, Level::kTtgir).ok());
  EXPECT_TRUE(pipeline_.ReadArtifact(*outcome->build, Level::kTtir).ok());
  EXPECT_EQ(GetReason(pipeline_.ReadArtifact(*outcome->build, Level::kCubin).status()), Reason::kHandle);
}

TEST_F(CompilePipelineTest, ATtgirThatTwoTtirsShareIsLoweredOnce) {
  ASSERT_TRUE(Compile(Request("one", "same")).ok());
  const auto second = Compile(Request("two", "same"));
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(newest_->stages(Level::kTtgir), 2);
  EXPECT_EQ(newest_->stages(Level::kLlir), 1);
  EXPECT_EQ(newest_->stages(Level::kPtx), 1);
  EXPECT_EQ(pipeline_.Statistics().stages_shared, 2u);
  EXPECT_TRUE(Compile(Request("two", "same"))->cached);
}

TEST_F(CompilePipelineTest, RecompileLooksNowhereAndReplaces) {
  ASSERT_TRUE(Compile(Request("x")).ok());
  CompileRequest request = Request("x");
  request.recompile = true;
  const auto outcome = Compile(request);
  ASSERT_TRUE(outcome.ok());
  EXPECT_FALSE(outcome->cached);
  EXPECT_EQ(newest_->compiles(), 2);
  EXPECT_TRUE(Compile(Request("x"))->cached);
}

TEST_F(CompilePipelineTest, AFileOfTheAskedLevelNeedsNoToolchain) {
  const auto ptx = Compile(Request("x"));
  FakeToolchainRegistry empty({});
  CompilePipeline pipeline(&cache_, &empty, Clock::Real());
  CompileRequest request = Request("x");
  request.level = kPtx;
  request.ir = ptx->build->kernel.artifacts.at(kPtx).bytes;
  const auto outcome = pipeline.Compile(request, nullptr);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->cached);
  EXPECT_TRUE(outcome->build->toolchain.empty());
  EXPECT_EQ(outcome->build->kernel.signature.arguments.size(), 2u);
  EXPECT_EQ(pipeline.Compile(request, nullptr)->build.get(), outcome->build.get());
}

TEST_F(CompilePipelineTest, TheToolchainIsThatOfTheMetadataElseTheNewestThatTakesTheFile) {
  CompileRequest request = Request("x");
  EXPECT_EQ(Compile(request)->build->toolchain, "3.9.0");
  request.metadata_json = R"({"triton_version":"3.4.0"})";
  const auto named = Compile(request);
  EXPECT_EQ(named->build->toolchain, "3.4.0");
  EXPECT_TRUE(absl::StrContains(named->toolchain_reason, "3.4.0")) << named->toolchain_reason;
  newest_->BeforeStage(Level::kTtgir, [](const StageRequest&) {
    return InvalidArgument(Reason::kInvalidIr, "block pointers are gone", {{"line", "2"}});
  });
  const auto taken = Compile(Request("y", "b"));
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->build->toolchain, "3.4.0");
  EXPECT_TRUE(absl::StrContains(taken->toolchain_reason, "block pointers are gone"))
      << taken->toolchain_reason;
  EXPECT_TRUE(Compile(Request("y", "b"))->cached);
  // When nobody takes it, the newest one's words are the answer.
  CompileRequest bad = Request("refuse");
  EXPECT_EQ(GetDetails(Compile(bad).status())["line"], "1");
}

TEST_F(CompilePipelineTest, WhatNoInstalledVersionCanDoNamesTheOneToInstall) {
  CompileRequest request = Request("x");
  request.level = Level::kTtgir;
  request.ir =
      "#blocked = #triton_gpu.blocked<{}>\nmodule attributes {\"triton_gpu.num-warps\" = 4 : i32} {}\n";
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(GetReason(status), Reason::kToolchainNotFound) << status;
  EXPECT_EQ(GetDetails(status)["toolchain"], "3.2.0");
  EXPECT_TRUE(absl::StrContains(status.message(), "toolchains install 3.2.0")) << status;
  EXPECT_EQ(newest_->compiles() + older_->compiles(), 0);
}

TEST_F(CompilePipelineTest, BlockPointersGoToTheNewestThatKnowsThem) {
  CompileRequest request = Request("tt.make_tensor_ptr");
  const auto made = Compile(request);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->build->toolchain, "3.4.0");
  EXPECT_TRUE(absl::StrContains(made->toolchain_reason, "block pointers")) << made->toolchain_reason;
  EXPECT_EQ(newest_->compiles(), 0);
  // Asked for by name, it is tried all the same.
  request.toolchain = "3.9.0";
  EXPECT_EQ(Compile(request)->build->toolchain, "3.9.0");
}

TEST_F(CompilePipelineTest, ATargetThatAVersionCannotDoIsRefusedBeforehand) {
  CompileRequest request = Request("x");
  request.target = *Target::Parse("gfx942");
  request.last_level = Level::kLlir;
  request.toolchain = "3.4.0";
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget) << status;
  EXPECT_EQ(older_->compiles(), 0);
}

TEST_F(CompilePipelineTest, AFailureOfTheNewestIsTriedOnOthersAndRefusalsAreRememberedForLong) {
  newest_->BeforeStage(Level::kTtgir, [](const StageRequest&) {
    return FailedPrecondition(Reason::kCompileFailed, "a pass failed");
  });
  EXPECT_EQ(Compile(Request("x"))->build->toolchain, "3.4.0");
  EXPECT_EQ(newest_->compiles(), 1);
  newest_->BeforeStage(Level::kTtgir, [](const StageRequest&) {
    return InvalidArgument(Reason::kInvalidIr, "no such operation");
  });
  EXPECT_EQ(Compile(Request("y", "b"))->build->toolchain, "3.4.0");
  EXPECT_EQ(newest_->compiles(), 2);
  now_ += absl::Hours(24);
  EXPECT_EQ(Compile(Request("y", "b"))->build->toolchain, "3.4.0");
  EXPECT_EQ(newest_->compiles(), 2) << "that it refuses this file was forgotten";
}

TEST_F(CompilePipelineTest, WhatEndedAWorkerIsNotTriedOnAnother) {
  newest_->BeforeStage(Level::kTtgir, [](const StageRequest&) {
    return FailedPrecondition(Reason::kCompileFailed, "the compiler crashed", {{"crashed", "1"}});
  });
  EXPECT_EQ(ReasonOf(Request("x")), Reason::kCompileFailed);
  EXPECT_EQ(older_->compiles(), 0);
}

TEST_F(CompilePipelineTest, ARecordOfPassesIsAnArtifactOfACompileOfItsOwn) {
  ASSERT_TRUE(Compile(Request("x")).ok());
  CompileRequest request = Request("x");
  request.passes.record = true;
  std::vector<std::string> seen;
  const auto made = pipeline_.Compile(request, [&](const StageEvent& event) {
    if (event.kind == StageEvent::Kind::kPass) seen.push_back(event.pass);
  });
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_FALSE(made->cached) << "what was compiled without a look at the passes cannot show them";
  EXPECT_EQ(seen, (std::vector<std::string>{"ttgir/lower", "ttgir/cse", "llir/lower", "llir/cse", "ptx/lower",
                                            "ptx/cse"}));
  const auto record = pipeline_.ReadArtifact(*made->build, kPassRecordLevel);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(absl::StartsWith(*record, "TRUNPASS"));
  EXPECT_TRUE(absl::StrContains(*record, "ir of llir"));
  // Again: from the cache, the record too; and a plain compile shows none.
  const auto again = Compile(request);
  EXPECT_TRUE(again->cached);
  EXPECT_EQ(*pipeline_.ReadArtifact(*again->build, kPassRecordLevel), *record);
  EXPECT_FALSE(pipeline_.ReadArtifact(*Compile(Request("x"))->build, kPassRecordLevel).ok());
}

TEST_F(CompilePipelineTest, WhereACompileResumesIsInItsKeyAndDecidesTheLevel) {
  CompileRequest request = Request("x");
  request.passes.resume_after = "ttgir/coalesce";
  request.level = Level::kTtgir;  // what it looks like
  const auto resumed = Compile(request);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(newest_->last_resume_after(), "ttgir/coalesce");
  EXPECT_EQ(newest_->stages(Level::kTtgir), 1) << "the rest of the stage has to be run";
  EXPECT_TRUE(Compile(request)->cached);
  request.passes.resume_after = "ttgir/cse";
  const auto other = Compile(request);
  EXPECT_NE(other->build->key, resumed->build->key);
  EXPECT_EQ(newest_->last_resume_after(), "ttgir/cse");
  EXPECT_NE(Compile(Request("x"))->build->key, resumed->build->key);
}

TEST_F(CompilePipelineTest, EqualRequestsAtOnceAreOneCompile) {
  Gate gate;
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) {
    gate.Pass();
    return absl::OkStatus();
  });
  std::vector<std::future<absl::StatusOr<CompileOutcome>>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::async(std::launch::async, [this] { return Compile(Request("x")); }));
  }
  gate.AwaitFirst();
  gate.Open();
  for (auto& call : calls) {
    const auto outcome = call.get();
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_TRUE(absl::StrContains(outcome->build->kernel.artifacts.at(kPtx).bytes, "lowered=a"));
  }
  EXPECT_EQ(newest_->compiles(), 1);
}

TEST_F(CompilePipelineTest, AWaiterKeepsItsOwnDeadline) {
  Gate gate;
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) {
    gate.Pass();
    return absl::OkStatus();
  });
  auto leader = std::async(std::launch::async, [this] { return Compile(Request("x")); });
  gate.AwaitFirst();
  CompileRequest hurried = Request("x");
  hurried.deadline = absl::Milliseconds(20);
  const absl::Status status = Compile(hurried).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetReason(status), Reason::kCompileTimeout);
  gate.Open();
  EXPECT_TRUE(leader.get().ok());
}

TEST_F(CompilePipelineTest, WhenTheLeaderIsLostAWaiterTakesOver) {
  Gate gate;
  std::atomic<int> calls{0};
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) -> absl::Status {
    if (calls++ > 0) return absl::OkStatus();
    gate.Pass();
    return Unavailable(Reason::kWorkerLost, "killed");
  });
  auto leader = std::async(std::launch::async, [this] { return Compile(Request("x")); });
  gate.AwaitFirst();
  auto waiter = std::async(std::launch::async, [this] { return Compile(Request("x")); });
  gate.Open();
  EXPECT_EQ(GetReason(leader.get().status()), Reason::kWorkerLost);
  const auto outcome = waiter.get();
  EXPECT_TRUE(outcome.ok()) << outcome.status();
}

TEST_F(CompilePipelineTest, WarningsStayWithTheKernelAndWithTheStagesThatSaidThem) {
  const std::string lowered = "warning: llir is dubious\nwarning: ptx is dubious";
  const auto first = Compile(Request("dubious"));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->build->log, absl::StrCat("warning: ttgir is dubious\n", lowered));
  const auto again = Compile(Request("dubious"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->cached);
  EXPECT_EQ(again->build->log, first->build->log);
  const auto other = Compile(Request("sound"));  // meets the first one at its TTGIR
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(newest_->stages(Level::kPtx), 1);
  EXPECT_EQ(other->build->log, lowered);
}

TEST_F(CompilePipelineTest, ACompileThatNobodyWaitsForEndsAndKeepsWhatItHasMade) {
  std::atomic<bool> is_cancelled{false};
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) {
    is_cancelled = true;
    return absl::OkStatus();
  });
  CompileRequest request = Request("x");
  request.is_cancelled = [&] { return is_cancelled.load(); };
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(GetReason(status), Reason::kCancelled);
  EXPECT_EQ(newest_->stages(kPtx), 0);
  const auto outcome = Compile(Request("x"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(newest_->stages(Level::kTtgir), 1);
}

TEST_F(CompilePipelineTest, ACancelledCompileGoesOnForAnotherWhoWaits) {
  Gate gate;
  Gate waits;
  waits.Open();
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) {
    gate.Pass();
    return absl::OkStatus();
  });
  std::atomic<bool> is_cancelled{false};
  CompileRequest leading = Request("x");
  leading.is_cancelled = [&] { return is_cancelled.load(); };
  auto leader = std::async(std::launch::async, [&] { return Compile(leading); });
  gate.AwaitFirst();
  CompileRequest waiting = Request("x");
  waiting.is_cancelled = [&] {
    waits.Pass();  // asked while it waits
    return false;
  };
  auto waiter = std::async(std::launch::async, [&] { return Compile(waiting); });
  waits.AwaitFirst();
  is_cancelled = true;
  gate.Open();
  const auto outcome = waiter.get();
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(leader.get().ok());
  EXPECT_EQ(newest_->compiles(), 1);
}

TEST_F(CompilePipelineTest, AWaiterThatIsCancelledWaitsNoLonger) {
  Gate gate;
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) {
    gate.Pass();
    return absl::OkStatus();
  });
  auto leader = std::async(std::launch::async, [this] { return Compile(Request("x")); });
  gate.AwaitFirst();
  CompileRequest request = Request("x");
  request.is_cancelled = [] { return true; };
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(GetReason(status), Reason::kCancelled);
  gate.Open();
  EXPECT_TRUE(leader.get().ok());
}

TEST_F(CompilePipelineTest, ThreadsAndKeysWithFaultsGiveOnlyRightKernels) {
  std::atomic<uint32_t> turn{0};
  newest_->BeforeStage(Level::kLlir, [&](const StageRequest&) -> absl::Status {
    return turn++ % 5 == 0 ? Unavailable(Reason::kWorkerLost, "killed") : absl::OkStatus();
  });
  std::atomic<int> wrong{0};
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 200; ++i) {
        const std::string lowered = absl::StrCat("v", random() % 5);
        CompileRequest request = Request(absl::StrCat("c", random() % 15, " ", lowered), lowered);
        request.last_level = random() % 2 == 0 ? kPtx : Level::kLlir;
        request.recompile = random() % 20 == 0;
        const auto outcome = Compile(request);
        if (outcome.ok()) {
          const std::string& bytes = outcome->build->kernel.artifacts.at(request.last_level).bytes;
          absl::StrContains(bytes, absl::StrCat("lowered=", lowered, "\n")) ? ++good : ++wrong;
          if (random() % 8 == 0) cache_.Remove(outcome->build->key, true).status().IgnoreError();
        } else if (GetReason(outcome.status()) != Reason::kWorkerLost) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(good, 900);
}

}  // namespace
}  // namespace trun
