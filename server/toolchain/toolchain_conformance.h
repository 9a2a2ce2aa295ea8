// What every Toolchain must do, as a parameterised suite: instantiate it with a factory and sample files.
//
//   INSTANTIATE_TEST_SUITE_P(Fake, ToolchainConformanceTest, ::testing::Values(ToolchainSamples{...}),
//   SampleName);
//
// A sample that is empty skips its case (a fake that parses nothing has no bad IR).
#ifndef TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_CONFORMANCE_H_
#define TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "server/toolchain/toolchain.h"

namespace trun {

struct ToolchainSamples {
  std::string name;  // of the instantiation
  std::function<std::shared_ptr<Toolchain>()> make;
  Target target{"cuda", 80, 32};
  std::string good_ttir;             // REQUIRED
  std::map<Level, std::string> bad;  // does not parse; its first error is in line bad_line[level]
  std::map<Level, int> bad_line;
  std::string crashing_llir;  // the compiler dies on it
  // Makes a worker that is in the middle of a compile die, as kill -9 would. Null: cannot.
  std::function<void(Toolchain*)> kill_worker;
  bool bounded = false;  // deadlines and memory limits hold
};

inline void PrintTo(const ToolchainSamples& samples, std::ostream* out) { *out << samples.name; }
inline std::string SampleName(const ::testing::TestParamInfo<ToolchainSamples>& info) {
  return info.param.name;
}

class ToolchainConformanceTest : public ::testing::TestWithParam<ToolchainSamples> {
 protected:
  void SetUp() override {
    toolchain_ = GetParam().make();
    ASSERT_NE(toolchain_, nullptr);
  }

  StageRequest Request(Level from, std::string ir, Level to) {
    StageRequest request;
    request.from = from;
    request.ir = std::move(ir);
    request.to = to;
    request.target = GetParam().target;
    request.file_name = "sample.txt";
    return request;
  }
  StageRequest Good() { return Request(Level::kTtir, GetParam().good_ttir, Level::kCubin); }

  // Runs to the end; results in order.
  absl::Status Run(const StageRequest& request, std::vector<StageResult>* stages = nullptr) {
    return toolchain_->Compile(request, [&](StageResult stage) {
      if (stages != nullptr) stages->push_back(std::move(stage));
      return StageDecision::kContinue;
    });
  }
  void ExpectWorks() {
    std::vector<StageResult> stages;
    const absl::Status status = Run(Good(), &stages);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(stages.size(), 4u);
  }

  std::shared_ptr<Toolchain> toolchain_;
};

TEST_P(ToolchainConformanceTest, FilesThatDoNotParseAreInvalidIrWithTheirLine) {
  for (const auto& [level, text] : GetParam().bad) {
    const absl::Status status = Run(Request(level, text, Level::kCubin));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << LevelName(level);
    EXPECT_EQ(GetDetails(status)["line"], std::to_string(GetParam().bad_line.at(level))) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("sample.txt:")) << LevelName(level);
    if (level != Level::kPtx) {
      EXPECT_EQ(GetDetails(status).count("column"), 1u) << status;
    }
  }
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, ACompilerThatCrashesIsCompileFailedWithItsLogAndTheNextCallWorks) {
  if (GetParam().crashing_llir.empty()) GTEST_SKIP();
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Run(Request(Level::kLlir, GetParam().crashing_llir, Level::kPtx));
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_EQ(GetReason(status), Reason::kCompileFailed);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("LLVM ERROR"));
  }
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, AnUnknownOptionIsNamedAndTheKnownOnesAreListed) {
  StageRequest request = Good();
  request.options["num_wraps"] = "8";
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetReason(status), Reason::kUnknownOption);
  EXPECT_EQ(GetDetails(status)["option"], "num_wraps");
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("num_warps"));
}

TEST_P(ToolchainConformanceTest, OptionsThatAreNotJsonAreRefused) {
  StageRequest request = Good();
  request.options["num_warps"] = "{";
  EXPECT_EQ(GetReason(Run(request)), Reason::kUnknownOption);
}

TEST_P(ToolchainConformanceTest, ThereIsNoWayBackAndNoneFromPython) {
  for (const auto& [from, to] : std::vector<std::pair<Level, Level>>{{Level::kPtx, Level::kTtir},
                                                                     {Level::kPtx, Level::kPtx},
                                                                     {Level::kUnspecified, Level::kPtx},
                                                                     {Level::kPython, Level::kTtir}}) {
    const absl::Status status = Run(Request(from, "x", to));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kUnsupportedLevel) << status;
  }
}

TEST_P(ToolchainConformanceTest, MetadataThatIsNoJsonObjectIsRefused) {
  StageRequest request = Good();
  request.metadata_json = "[1, 2";
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kMetadata);
}

TEST_P(ToolchainConformanceTest, ATargetOfNoBackendIsUnsupported) {
  StageRequest request = Good();
  request.target = {"abacus", 1, 32};
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
}

TEST_P(ToolchainConformanceTest, ACompilePastItsDeadlineIsATimeoutAndTheNextCallWorks) {
  if (!GetParam().bounded) GTEST_SKIP();
  StageRequest request = Good();
  request.deadline = absl::Milliseconds(1);
  ExpectWorks();  // a worker is there: what follows is the compile's own deadline
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_EQ(GetReason(status), Reason::kCompileTimeout);
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, ACompilePastItsMemoryIsOutOfMemoryAndTheNextCallWorks) {
  if (!GetParam().bounded) GTEST_SKIP();
  StageRequest request = Good();
  request.memory_limit_bytes = 1 << 20;
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetReason(status), Reason::kCompileOutOfMemory);
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, ACompileThatNobodyWaitsForEndsAndTheNextCallWorks) {
  StageRequest request = Good();
  request.is_abandoned = [] { return true; };
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(GetReason(status), Reason::kCancelled);
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, AWorkerKilledInTheMiddleIsWorkerLostAndTheNextCallWorks) {
  if (!GetParam().kill_worker) GTEST_SKIP();
  const absl::Status status = toolchain_->Compile(Good(), [&](StageResult stage) {
    if (stage.level == Level::kTtgir) GetParam().kill_worker(toolchain_.get());
    return StageDecision::kContinue;
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(GetReason(status), Reason::kWorkerLost);
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, RandomBytesAreAnErrorAtEveryLevel) {
  std::string noise;
  uint32_t state = 12345;
  for (int i = 0; i < 4096; ++i)
    noise.push_back(static_cast<char>((state = state * 1664525 + 1013904223) >> 24));
  for (Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx}) {
    if (GetParam().bad.count(level) == 0 && level != Level::kLlir) continue;
    const absl::Status status = Run(Request(level, noise, Level::kCubin));
    EXPECT_TRUE(GetReason(status) == Reason::kInvalidIr || GetReason(status) == Reason::kCompileFailed)
        << status;
  }
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, EveryStageComesOnceInOrderWithBytesAndMetadata) {
  std::vector<StageResult> stages;
  const absl::Status status = Run(Good(), &stages);
  ASSERT_TRUE(status.ok()) << status;
  std::vector<Level> levels;
  for (const StageResult& stage : stages) {
    levels.push_back(stage.level);
    EXPECT_FALSE(stage.bytes.empty());
    EXPECT_EQ(stage.metadata_json.front(), '{');
    EXPECT_GE(stage.time, absl::ZeroDuration());
  }
  EXPECT_THAT(levels, ::testing::ElementsAre(Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin));
}

TEST_P(ToolchainConformanceTest, ACompileStopsWhereItsCallerSays) {
  std::vector<Level> levels;
  const absl::Status status = toolchain_->Compile(Good(), [&](StageResult stage) {
    levels.push_back(stage.level);
    return stage.level == Level::kLlir ? StageDecision::kStop : StageDecision::kContinue;
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(levels, ::testing::ElementsAre(Level::kTtgir, Level::kLlir));
  ExpectWorks();
}

TEST_P(ToolchainConformanceTest, ItSaysWheneverTheCompilerIsSetToWork) {
  StageRequest request = Good();
  std::vector<std::string> order;
  request.on_started = [&] { order.emplace_back("started"); };
  const absl::Status status = toolchain_->Compile(request, [&](const StageResult& stage) {
    order.emplace_back(LevelName(stage.level));
    return stage.level == Level::kLlir ? StageDecision::kStop : StageDecision::kContinue;
  });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(order, (std::vector<std::string>{"started", "ttgir", "started", "llir"}));
}

TEST_P(ToolchainConformanceTest, TheSameRequestGivesTheSameBytes) {
  std::vector<StageResult> first, second;
  ASSERT_TRUE(Run(Good(), &first).ok());
  ASSERT_TRUE(Run(Good(), &second).ok());
  ASSERT_EQ(first.size(), second.size());
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].bytes, second[i].bytes) << LevelName(first[i].level);
    EXPECT_EQ(first[i].metadata_json, second[i].metadata_json);
  }
}

TEST_P(ToolchainConformanceTest, OptionsHaveNamesTypesAndDefaults) {
  auto options = toolchain_->Options("cuda");
  ASSERT_TRUE(options.ok()) << options.status();
  bool found = false;
  for (const ToolchainOption& option : *options) {
    EXPECT_FALSE(option.name.empty());
    EXPECT_FALSE(option.default_json.empty());
    if (option.name == "num_warps") {
      found = true;
      EXPECT_EQ(option.type, "int");
      EXPECT_EQ(option.default_json, "4");
    }
  }
  EXPECT_TRUE(found);
}

TEST_P(ToolchainConformanceTest, ItSaysWhatItIs) {
  const ToolchainInfo info = toolchain_->info();
  EXPECT_FALSE(info.name.empty());
  EXPECT_FALSE(info.version.empty());
  EXPECT_FALSE(info.id.empty());
  EXPECT_TRUE(info.usable.ok()) << info.usable;
}

TEST_P(ToolchainConformanceTest, SeveralCompilesRunAtOnce) {
  toolchain_->Prewarm(2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const absl::Status status =
          toolchain_->Compile(Good(), [](StageResult) { return StageDecision::kContinue; });
      EXPECT_TRUE(status.ok()) << status;
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_CONFORMANCE_H_
