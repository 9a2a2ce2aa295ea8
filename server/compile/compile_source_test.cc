// Compiles that begin at Python or Gluon source.
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "server/cache/fake_kernel_cache.h"
#include "server/compile/compile_pipeline.h"
#include "server/toolchain/fake_toolchain.h"

namespace trun {
namespace {

class CompileSourceTest : public testing::Test {
 protected:
  CompileSourceTest() { toolchain_->SetFrontend(frontend_); }

  CompileRequest Request(const std::string& word, Level level = Level::kPython) {
    CompileRequest request;
    request.level = level;
    request.ir = FakeSourceFrontend::Bundle(word);
    request.target = Target{"cuda", 80, 32};
    request.last_level = Level::kPtx;
    return request;
  }
  absl::StatusOr<CompileOutcome> Compile(const CompileRequest& request) {
    return pipeline_.Compile(request, nullptr);
  }

  std::shared_ptr<FakeSourceFrontend> frontend_ = std::make_shared<FakeSourceFrontend>();
  std::shared_ptr<FakeToolchain> toolchain_ = std::make_shared<FakeToolchain>("3.9.0");
  std::shared_ptr<FakeToolchain> older_ = std::make_shared<FakeToolchain>("3.4.0");
  FakeToolchainRegistry registry_{{toolchain_, older_}};
  FakeKernelCache cache_;
  CompilePipeline pipeline_{&cache_, &registry_, Clock::Real()};
};

TEST_F(CompileSourceTest, WhatIsWrongWithSourceIsToldOnceAndRemembered) {
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Compile(Request("wrong")).status();
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << status;
    EXPECT_EQ(GetDetails(status)["line"], "7");
    EXPECT_EQ(GetDetails(status)["file"], "/home/user/kernel.py");
  }
  EXPECT_EQ(frontend_->lowered(), 1) << "no other toolchain is asked, and not again";
  EXPECT_EQ(older_->compiles(), 0);
}

TEST_F(CompileSourceTest, WhatIsNotPermittedIsNotRemembered) {
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Compile(Request("refused")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_EQ(GetReason(status), Reason::kNotPermitted);
  }
  EXPECT_EQ(frontend_->lowered(), 2);
}

TEST_F(CompileSourceTest, AToolchainWithoutAFrontEndSaysSo) {
  CompileRequest request = Request("lowered=a;");
  request.toolchain = "3.4.0";
  const absl::Status status = Compile(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedLevel);
}

TEST_F(CompileSourceTest, GluonHasNoTtir) {
  CompileRequest request = Request("lowered=a;", Level::kGluon);
  request.last_level = Level::kTtir;
  EXPECT_EQ(GetReason(Compile(request).status()), Reason::kUnsupportedLevel);
}

TEST_F(CompileSourceTest, SourceIsLoweredOnceAndItsKernelHasNamesAndTypes) {
  const auto first = Compile(Request("lowered=a;"));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->cached);
  ASSERT_EQ(first->build->artifacts.size(), 5u);
  EXPECT_EQ(first->build->artifacts[0].level, Level::kPython);
  EXPECT_EQ(first->build->artifacts[1].level, Level::kTtir);
  ASSERT_EQ(first->build->kernel.signature.arguments.size(), 2u);
  EXPECT_EQ(first->build->kernel.signature.arguments[0].type, ScalarType::kF32);
  const auto again = Compile(Request("lowered=a;"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->cached);
  EXPECT_EQ(again->build->kernel.signature, first->build->kernel.signature);
  EXPECT_EQ(frontend_->lowered(), 1);
}

TEST_F(CompileSourceTest, SourcesThatBecomeOneTtirShareWhatFollows) {
  ASSERT_TRUE(Compile(Request("lowered=a; one")).ok());
  const auto other = Compile(Request("lowered=a; two"));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(frontend_->lowered(), 2);
  EXPECT_EQ(toolchain_->stages(Level::kTtgir), 1);
}

TEST_F(CompileSourceTest, GluonGoesOnFromItsTtgir) {
  const auto outcome = Compile(Request("lowered=b;", Level::kGluon));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(toolchain_->stages(Level::kTtgir), 0);
  EXPECT_EQ(toolchain_->stages(Level::kLlir), 1);
  EXPECT_EQ(outcome->build->artifacts[1].level, Level::kTtgir);
}

TEST_F(CompileSourceTest, AnotherFrontEndLowersAgainButItsTtirIsKnown) {
  ASSERT_TRUE(Compile(Request("lowered=a;")).ok());
  frontend_->set_id("the next version of the front end");
  ASSERT_TRUE(Compile(Request("lowered=a;")).ok());
  EXPECT_EQ(frontend_->lowered(), 2);
  EXPECT_EQ(toolchain_->stages(Level::kTtgir), 1);
}

}  // namespace
}  // namespace trun
