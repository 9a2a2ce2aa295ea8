#include "server/session/launch_shape.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace trun {
namespace {

class LaunchShapeTest : public ::testing::Test {
 protected:
  LaunchShapeTest() {
    metadata_.num_warps = 4;
    metadata_.triton_version = "3.9.0";
    device_.max_shared_bytes = 1000;
    device_.max_grid = {100, 50, 20};
  }
  Reason Why(std::vector<uint32_t> grid) { return GetReason(Make(grid).status()); }
  absl::StatusOr<LaunchShape> Make(std::vector<uint32_t> grid = {1}) {
    return MakeLaunchShape(metadata_, attributes_, device_, grid);
  }

  KernelMetadata metadata_;
  device::KernelAttributes attributes_;
  device::DeviceInfo device_;
};

TEST_F(LaunchShapeTest, AGridThatIsEmptyZeroOrTooLargeIsRefused) {
  EXPECT_EQ(Why({}), Reason::kLaunchShape);
  EXPECT_EQ(Why({1, 1, 1, 1}), Reason::kLaunchShape);
  EXPECT_EQ(Why({0}), Reason::kLaunchShape);
  EXPECT_EQ(Why({1, 0}), Reason::kLaunchShape);
  EXPECT_EQ(Why({101}), Reason::kLaunchShape);
  EXPECT_EQ(Why({1, 1, 21}), Reason::kLaunchShape);
  EXPECT_TRUE(Make({100, 50, 20}).ok());
}

TEST_F(LaunchShapeTest, ABlockThatTheKernelWasNotBuiltForIsRefused) {
  attributes_.required_block = {256, 1, 1};
  EXPECT_EQ(Why({1}), Reason::kLaunchShape);
  attributes_.required_block = {128, 1, 1};
  EXPECT_TRUE(Make().ok());
  attributes_.required_block = {0, 0, 0};
  attributes_.max_block = {64, 1, 1};
  EXPECT_EQ(Why({1}), Reason::kLaunchShape);
  metadata_.num_warps = 33;
  attributes_.max_block = {0, 0, 0};
  EXPECT_EQ(Why({1}), Reason::kLaunchShape);
}

TEST_F(LaunchShapeTest, AnUnknownNumberOfWarpsIsReadFromTheKernelOrAnError) {
  metadata_.num_warps = 0;
  EXPECT_EQ(Why({1}), Reason::kMetadata);
  attributes_.required_block = {64, 1, 1};
  EXPECT_EQ(Make()->dimensions.block[0], 64u);
}

TEST_F(LaunchShapeTest, TooMuchSharedMemoryIsRefused) {
  metadata_.shared_bytes = 900;
  EXPECT_EQ(Make()->dimensions.dynamic_shared_bytes, 900u);
  attributes_.static_shared_bytes = 101;
  metadata_.name = "k";
  device_.name = "a small one";
  const absl::Status status = Make().status();
  EXPECT_EQ(GetReason(status), Reason::kLaunchShape);
  EXPECT_EQ(
      status.message(),
      "kernel 'k' needs 1001 bytes of shared memory for one block; a small one has at most 1000: compile it "
      "with smaller blocks or fewer stages (num_stages)");
  EXPECT_EQ(GetDetails(status)["limit"], "1000");
}

TEST_F(LaunchShapeTest, ClustersMultiplyTheGridAsEachVersionDoes) {
  metadata_.num_ctas = 2;
  EXPECT_EQ(Make({3, 4})->dimensions.grid, (std::array<uint32_t, 3>{6, 4, 1}));
  EXPECT_EQ(Make({3, 4})->dimensions.cluster, (std::array<uint32_t, 3>{2, 1, 1}));
  metadata_.triton_version = "3.4.0";
  metadata_.cluster[0] = 1;
  metadata_.cluster[1] = 2;
  EXPECT_EQ(Make({3, 4})->dimensions.grid, (std::array<uint32_t, 3>{3, 8, 1}));
  EXPECT_EQ(Why({3, 26}), Reason::kLaunchShape);
  metadata_.num_ctas = 1;
  EXPECT_EQ(Make({3, 4})->dimensions.grid, (std::array<uint32_t, 3>{3, 4, 1}));
}

TEST_F(LaunchShapeTest, AGridIsCooperativeAndDependentAsTheMetadataSays) {
  for (const bool says : {false, true}) {
    metadata_.cooperative_grid = says;
    metadata_.programmatic_dependent_launch = !says;
    EXPECT_EQ(Make({3})->dimensions.cooperative, says);
    EXPECT_EQ(Make({3})->dimensions.programmatic_dependent_launch, !says);
  }
}

TEST_F(LaunchShapeTest, ScratchIsOfTheWholeGridTimesTheClusterExceptIn33) {
  metadata_.num_ctas = 2;
  metadata_.global_scratch_bytes = 128;
  metadata_.profile_scratch_bytes = 1;
  EXPECT_EQ(Make({3, 4})->global_scratch_bytes, 128u * 3 * 4 * 2);
  EXPECT_EQ(Make({3, 4})->profile_scratch_bytes, 24u);
  metadata_.triton_version = "3.3.1";
  metadata_.cluster[0] = 2;
  EXPECT_EQ(Make({3, 4})->global_scratch_bytes, 128u * 3 * 4);
  metadata_.global_scratch_bytes = ~uint64_t{0} / 2;
  EXPECT_EQ(Why({3, 4}), Reason::kLaunchShape);
}

}  // namespace
}  // namespace trun
