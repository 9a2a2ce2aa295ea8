#include "server/executor/runtime/scratch_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "server/device/fake_device.h"

namespace trun {
namespace {

constexpr uint64_t kAddress = device::kFakeScratch;

class ScratchPoolTest : public ::testing::Test {
 protected:
  static char* At(const ScratchPool::Block& block) { return reinterpret_cast<char*>(block.address); }

  std::unique_ptr<device::Device> device_ = device::CreateFakeDevice();
  ScratchPool pool_{device_.get(), kAddress, 4 << 20};
};

TEST_F(ScratchPoolTest, MoreThanThereIsIsOutOfMemory) {
  EXPECT_EQ(GetReason(pool_.Acquire(5 << 20, 1).status()), Reason::kOutOfMemory);
  EXPECT_EQ(GetReason(pool_.Acquire(~uint64_t{0}, 1).status()), Reason::kOutOfMemory);
}

TEST_F(ScratchPoolTest, AnAlignmentThatIsNoPowerOfTwoIsRefused) {
  EXPECT_EQ(GetReason(pool_.Acquire(64, 384).status()), Reason::kMetadata);
}

TEST_F(ScratchPoolTest, NoBytesNeedNoMemory) {
  const auto block = pool_.Acquire(0, 128);
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(block->address, 0u);
  pool_.Release(*block);
}

TEST_F(ScratchPoolTest, EveryBlockIsZeroAlsoWhenItIsUsedAgain) {
  for (int round = 0; round < 3; ++round) {
    const auto block = pool_.Acquire(1000, 512);
    ASSERT_TRUE(block.ok()) << block.status();
    EXPECT_EQ(block->address % 512, 0u);
    EXPECT_EQ(std::count(At(*block), At(*block) + 1000, '\0'), 1000);
    std::memset(At(*block), 'x', 1000);
    pool_.Release(*block);
  }
}

TEST_F(ScratchPoolTest, ReleasedBlocksMakeRoomAgain) {
  for (int round = 0; round < 100; ++round) {
    const auto block = pool_.Acquire(3 << 20, 256);
    ASSERT_TRUE(block.ok()) << block.status();
    pool_.Release(*block);
  }
}

}  // namespace
}  // namespace trun
