// What a launch must be told beside arguments, read from artifacts that each Triton from 3.0 to 3.9 wrote
// (testdata/regenerate.py): a wrong reading of any version fails here, without a GPU.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/artifact/metadata.h"
#include "server/artifact/signature.h"
#include "server/artifact/testdata.h"

namespace trun {
namespace {

class LaunchDetails : public testing::TestWithParam<const char*> {
 protected:
  static int minor() { return GetParam()[2] - '0'; }
  // Scratch pointers after the user's arguments.
  static int hidden() { return minor() <= 2 ? 0 : minor() <= 4 ? 1 : 2; }
  static KernelMetadata Read(absl::string_view kernel, Level level) {
    const auto metadata =
        ReadMetadata(GoldenMetadata(GetParam(), kernel), level, GoldenArtifact(GetParam(), kernel, level));
    EXPECT_TRUE(metadata.ok()) << GetParam() << " " << kernel << ": " << metadata.status();
    return metadata.ok() ? *metadata : KernelMetadata();
  }
};
INSTANTIATE_TEST_SUITE_P(Versions, LaunchDetails,
                         testing::Values("3.0.0", "3.1.0", "3.2.0", "3.3.1", "3.4.0", "3.5.1", "3.6.0",
                                         "3.7.1", "3.8.0", "3.9.0"),
                         [](const auto& info) {
                           return absl::StrCat("v", std::string(1, info.param[0]), "_",
                                               std::string(1, info.param[2]));
                         });

TEST_P(LaunchDetails, TheHiddenParametersOfACubinAreThoseOfItsVersion) {
  const std::string cubin = GoldenArtifact(GetParam(), "mixed", Level::kCubin);
  const auto in_cubin = ReadParameters(Level::kCubin, cubin);
  ASSERT_TRUE(in_cubin.ok()) << in_cubin.status();
  EXPECT_EQ(in_cubin->size(), 6u + hidden());
  const auto in_ptx = ReadParameters(Level::kPtx, GoldenArtifact(GetParam(), "mixed", Level::kPtx));
  ASSERT_TRUE(in_ptx.ok()) << in_ptx.status();
  EXPECT_EQ(*in_ptx, *in_cubin);
  EXPECT_EQ(HiddenParameters(Read("mixed", Level::kPtx)), hidden());
  // One more, or one fewer, and a user's argument is missing, or too much.
  const KernelSignature ttir =
      *ReadSignature(Level::kTtir, GoldenArtifact(GetParam(), "mixed", Level::kTtir));
  for (const int wrong : {hidden() + 1, hidden() - 1}) {
    if (wrong < 0) continue;
    const auto lower = ReadSignature(Level::kCubin, cubin, "", wrong);
    EXPECT_FALSE(lower.ok() && MergeSignatures(ttir, *lower).ok()) << wrong;
  }
}

TEST_P(LaunchDetails, AClusterIsClusterDimsUntil35AndNumCtasAfter) {
  for (const Level level : {Level::kTtgir, Level::kPtx}) {
    const KernelMetadata metadata = Read("clustered", level);
    EXPECT_EQ(metadata.num_ctas, 2);
    EXPECT_EQ(metadata.cluster[0], 2);
    EXPECT_EQ(metadata.cluster[1] * metadata.cluster[2], 1);
    EXPECT_EQ(absl::StrContains(GoldenMetadata(GetParam(), "clustered"), "cluster_dims"), minor() <= 5);
  }
  // The kernel's own word against the metadata's.
  nlohmann::json json = nlohmann::json::parse(GoldenMetadata(GetParam(), "clustered"));
  json["num_ctas"] = 4;
  if (json.contains("cluster_dims")) json["cluster_dims"] = {4, 1, 1};
  const auto wrong =
      ReadMetadata(json.dump(), Level::kTtgir, GoldenArtifact(GetParam(), "clustered", Level::kTtgir));
  EXPECT_EQ(GetReason(wrong.status()), Reason::kMetadata);
}

TEST_P(LaunchDetails, CooperativeGridsComeWith33AndDependentLaunchesWith34) {
  const KernelMetadata plain = Read("mixed", Level::kPtx);
  EXPECT_FALSE(plain.cooperative_grid);
  EXPECT_FALSE(plain.programmatic_dependent_launch);
  if (minor() < 3) return;
  for (const Level level : {Level::kTtgir, Level::kPtx}) {
    const KernelMetadata metadata = Read("cooperative", level);
    EXPECT_TRUE(metadata.cooperative_grid);
    EXPECT_EQ(metadata.programmatic_dependent_launch, minor() >= 4);
  }
}

TEST_P(LaunchDetails, ADescriptorMadeOnTheDeviceTakesGlobalScratch) {
  EXPECT_EQ(Read("mixed", Level::kPtx).global_scratch_bytes, 0u);
  if (minor() < 4) return;
  const KernelMetadata metadata = Read("scratched", Level::kPtx);
  EXPECT_EQ(metadata.global_scratch_bytes, 128u);
  EXPECT_EQ(metadata.global_scratch_align, 128u);
  EXPECT_EQ(metadata.profile_scratch_bytes, 0u);
  EXPECT_EQ(HiddenParameters(metadata), hidden());
  // The size stands nowhere in the code: without it nothing may be launched.
  nlohmann::json json = nlohmann::json::parse(GoldenMetadata(GetParam(), "scratched"));
  json.erase("global_scratch_size");
  const auto missing =
      ReadMetadata(json.dump(), Level::kPtx, GoldenArtifact(GetParam(), "scratched", Level::kPtx));
  EXPECT_EQ(GetDetails(missing.status())["key"], "global_scratch_size");
}

TEST_P(LaunchDetails, APipelineMayTakeMoreSharedMemoryThanALaunchGetsUnasked) {
  if (minor() < 4) return;
  const KernelMetadata metadata = Read("staged", Level::kTtgir);
  EXPECT_GT(metadata.shared_bytes, uint32_t{48} << 10);
  EXPECT_EQ(metadata.num_warps, 4);
}

TEST_P(LaunchDetails, ABlockOfAWarpSpecializedKernelHasMoreWarpsThanWereAskedFor) {
  if (minor() < 4) return;
  const std::string ttgir = GoldenArtifact(GetParam(), "specialized", Level::kTtgir);
  const nlohmann::json json = nlohmann::json::parse(GoldenMetadata(GetParam(), "specialized"));
  const KernelMetadata metadata = Read("specialized", Level::kTtgir);
  EXPECT_EQ(metadata.num_warps, json["num_warps"].get<int>());
  EXPECT_GT(metadata.num_warps, 4);
  EXPECT_TRUE(absl::StrContains(ttgir, "\"ttg.num-warps\" = 4"));
  EXPECT_EQ(metadata.tensor_memory_columns, json["tmem_size"].get<uint32_t>());
  EXPECT_GT(metadata.tensor_memory_columns, 0u);
}

TEST_P(LaunchDetails, EveryKeyOfTheMetadataIsKept) {
  for (const char* kernel : {"mixed", "clustered"}) {
    const std::string json = GoldenMetadata(GetParam(), kernel);
    EXPECT_EQ(nlohmann::json::parse(Read(kernel, Level::kPtx).raw_json), nlohmann::json::parse(json));
  }
}

}  // namespace
}  // namespace trun
