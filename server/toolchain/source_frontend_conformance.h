// What every SourceFrontend must do, as a parameterised suite: instantiate it with a factory and sample
// bundles. A sample that is empty skips its case.
#ifndef TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_CONFORMANCE_H_
#define TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "server/toolchain/source_frontend.h"

namespace trun {

struct FrontendSamples {
  std::string name;  // of the instantiation
  std::function<std::shared_ptr<SourceFrontend>()> make;
  Target target{"cuda", 80, 32};
  std::string good;   // REQUIRED: a Python kernel
  std::string gluon;  // a Gluon kernel
  std::string wrong;  // a kernel that does not compile because of line 7 of /home/user/kernel.py
  std::string imports_what_is_missing;         // in line 3 of that file
  std::map<std::string, std::string> refused;  // by what it wants: a file, the network, a process
  std::string endless;
  std::string boundless;  // in memory
  // Kills what lowers a source, in the middle of an endless one. Null: cannot.
  std::function<void()> kill;
};

inline void PrintTo(const FrontendSamples& samples, std::ostream* out) { *out << samples.name; }
inline std::string FrontendName(const ::testing::TestParamInfo<FrontendSamples>& info) {
  return info.param.name;
}

class SourceFrontendConformanceTest : public ::testing::TestWithParam<FrontendSamples> {
 protected:
  void SetUp() override {
    frontend_ = GetParam().make();
    ASSERT_NE(frontend_, nullptr);
  }
  SourceRequest Request(const std::string& bundle, Level level = Level::kPython) {
    SourceRequest request;
    request.level = level;
    request.bundle = bundle;
    request.target = GetParam().target;
    return request;
  }
  absl::Status Lower(const SourceRequest& request) { return frontend_->Lower(request).status(); }
  void ExpectWorks() {
    const auto result = frontend_->Lower(Request(GetParam().good));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->level, Level::kTtir);
    EXPECT_THAT(result->bytes, ::testing::HasSubstr("tt.func public @k("));
    EXPECT_THAT(result->metadata_json, ::testing::HasSubstr("\"triton_version\""));
  }

  std::shared_ptr<SourceFrontend> frontend_;
};

TEST_P(SourceFrontendConformanceTest, WhatIsNoBundleIsInvalidIr) {
  for (const std::string bundle : {"", "{", "[]", "{}", "\x01\x02", "{\"format\":99}"}) {
    const absl::Status status = Lower(Request(bundle));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
  }
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, AKernelThatDoesNotCompileIsInvalidIrAtItsLine) {
  const absl::Status status = Lower(Request(GetParam().wrong));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(status)["file"], "/home/user/kernel.py");
  EXPECT_EQ(GetDetails(status)["line"], "7") << status;
  EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("/home/user/kernel.py:7:"));
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, AnImportOfWhatIsNotThereIsInvalidIrAtItsLine) {
  const absl::Status status = Lower(Request(GetParam().imports_what_is_missing));
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << status;
  EXPECT_EQ(GetDetails(status)["line"], "3") << status;
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, FilesNetworkAndProcessesAreNotPermitted) {
  for (const auto& [what, bundle] : GetParam().refused) {
    const absl::Status status = Lower(Request(bundle));
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << what << ": " << status;
    EXPECT_EQ(GetReason(status), Reason::kNotPermitted) << what;
    EXPECT_EQ(GetDetails(status)["line"], "3") << what << ": " << status;
  }
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, ASourceThatNeverEndsIsCutAtItsDeadlineAndTheNextOneWorks) {
  if (GetParam().endless.empty()) GTEST_SKIP();
  ExpectWorks();  // what is started for the first request is no part of the deadline's test
  SourceRequest request = Request(GetParam().endless);
  request.deadline = absl::Seconds(1);
  const absl::Status status = Lower(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_EQ(GetReason(status), Reason::kCompileTimeout);
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, ASourceThatNobodyWaitsForIsEndedAndTheNextOneWorks) {
  SourceRequest request = Request(GetParam().endless);
  request.deadline = absl::Seconds(60);
  request.is_abandoned = [] { return true; };
  const absl::Status status = Lower(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(GetReason(status), Reason::kCancelled);
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, ASourceThatTakesMemoryWithoutBoundIsToldSo) {
  const absl::Status status = Lower(Request(GetParam().boundless));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetReason(status), Reason::kCompileOutOfMemory);
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, AnUnknownOptionIsNamed) {
  SourceRequest request = Request(GetParam().good);
  request.options["num_wraps"] = "8";
  const absl::Status status = Lower(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetReason(status), Reason::kUnknownOption);
  EXPECT_EQ(GetDetails(status)["option"], "num_wraps");
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, KilledInTheMiddleAgainAndAgainItSaysSoAndTheNextOneWorks) {
  if (GetParam().kill == nullptr) GTEST_SKIP();
  ExpectWorks();
  std::atomic<bool> ended{false};
  absl::Status status;
  std::thread call([&] {
    SourceRequest request = Request(GetParam().endless);
    request.deadline = absl::Seconds(60);
    status = Lower(request);
    ended = true;
  });
  while (!ended) GetParam().kill();
  call.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(GetReason(status), Reason::kWorkerLost);
  ExpectWorks();
}

TEST_P(SourceFrontendConformanceTest, EqualRequestsGiveEqualBytesFromManyThreads) {
  const auto first = frontend_->Lower(Request(GetParam().good));
  ASSERT_TRUE(first.ok()) << first.status();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto again = frontend_->Lower(Request(GetParam().good));
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_EQ(again->bytes, first->bytes);
      EXPECT_EQ(again->metadata_json, first->metadata_json);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(SourceFrontendConformanceTest, GluonBecomesTtgir) {
  if (GetParam().gluon.empty()) GTEST_SKIP();
  const auto result = frontend_->Lower(Request(GetParam().gluon, Level::kGluon));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->level, Level::kTtgir);
  EXPECT_THAT(result->bytes, ::testing::HasSubstr("ttg.num-warps"));
  const absl::Status status = Lower(Request(GetParam().gluon, Level::kPython));
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << "a Gluon kernel is not Python of Triton: " << status;
}

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_CONFORMANCE_H_
