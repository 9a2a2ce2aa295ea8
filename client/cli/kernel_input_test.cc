#include "client/cli/kernel_input.h"

#include "client/cli/kernel_arguments.h"
#include "gtest/gtest.h"

namespace trun::cli {
namespace {

TEST(CompileOptionsTest, ValuesBecomeJson) {
  const auto options = ParseCompileOptions(
      {"num_warps=8", "debug=True", "maxnreg=None", "arch=sm_90", "x=a=b", "libs={\"a\": 1}"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->at("num_warps"), "8");
  EXPECT_EQ(options->at("debug"), "true");
  EXPECT_EQ(options->at("maxnreg"), "null");
  EXPECT_EQ(options->at("arch"), "\"sm_90\"");
  EXPECT_EQ(options->at("x"), "\"a=b\"");
  EXPECT_EQ(options->at("libs"), "{\"a\": 1}");
}

TEST(CompileOptionsTest, WordsWithoutNameOrTwiceAreRefused) {
  EXPECT_FALSE(ParseCompileOptions({"num_warps"}).ok());
  EXPECT_FALSE(ParseCompileOptions({"=8"}).ok());
  EXPECT_FALSE(ParseCompileOptions({"num_warps=8", "num_warps=4"}).ok());
}

TEST(DurationTest, ReadsWhatPeopleWrite) {
  EXPECT_EQ(*ParseDuration(""), absl::ZeroDuration());
  EXPECT_EQ(*ParseDuration("30"), absl::Seconds(30));
  EXPECT_EQ(*ParseDuration("0.5"), absl::Milliseconds(500));
  EXPECT_EQ(*ParseDuration("2min"), absl::Minutes(2));
  EXPECT_EQ(*ParseDuration("1m30s"), absl::Seconds(90));
  for (const char* bad : {"0", "-3s", "soon", "10 lightyears", "inf", "1e30"})
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
}

TEST(BytesTest, ReadsWhatPeopleWrite) {
  EXPECT_EQ(*ParseBytes(""), 0u);
  EXPECT_EQ(*ParseBytes("1000"), 1000u);
  EXPECT_EQ(*ParseBytes("4GiB"), uint64_t{4} << 30);
  EXPECT_EQ(*ParseBytes("1.5k"), 1536u);
  for (const char* bad : {"0", "-1", "GiB", "4 apples", "1e", "99999999999TiB"})
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
}

TEST(GridTest, IsOneToThreePositiveNumbers) {
  const Variables variables = {{"M", 100}};
  EXPECT_EQ(ResolveGrid("cdiv(M,64), 3", variables)->x, 2u);
  EXPECT_EQ(ResolveGrid("cdiv(M,64), 3", variables)->y, 3u);
  for (const char* bad : {"", "0", "-1", "1,2,3,4", "N", "M*M*M*M*M", "4,,2"}) {
    EXPECT_EQ(GetReason(ResolveGrid(bad, variables).status()), Reason::kLaunchShape) << bad;
  }
}

}  // namespace
}  // namespace trun::cli
