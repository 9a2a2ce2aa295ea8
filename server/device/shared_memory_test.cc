#include "server/device/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "server/device/range_allocator.h"

namespace trun::device {
namespace {

TEST(SharedMemoryTest, NobodyCanShrinkGrowOrUnseal) {
  absl::StatusOr<UniqueFd> fd = CreateSealedMemory(2 << 20);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_NE(ftruncate(fd->get(), 4096), 0);
  EXPECT_NE(ftruncate(fd->get(), 4 << 20), 0);
  EXPECT_NE(fcntl(fd->get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST(SharedMemoryTest, AZeroedRangeIsZeroAndItsNeighboursAreNot) {
  absl::StatusOr<UniqueFd> fd = CreateSealedMemory(2 << 20);
  absl::StatusOr<MappedMemory> mapping = MappedMemory::Map(*fd, 2 << 20);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  for (const auto& [offset, bytes] :
       {std::pair<uint64_t, uint64_t>{100, 1000}, {5000, 300001}, {8192, 65536}}) {
    std::fill_n(mapping->data(), 2 << 20, 'x');
    ASSERT_TRUE(ZeroRange(*fd, *mapping, offset, bytes).ok());
    EXPECT_EQ(mapping->data()[offset - 1], 'x');
    EXPECT_EQ(mapping->data()[offset + bytes], 'x');
    EXPECT_EQ(std::count(mapping->data() + offset, mapping->data() + offset + bytes, '\0'),
              static_cast<int64_t>(bytes));
  }
}

TEST(SharedMemoryTest, PagesOfAZeroedRangeAreGivenBack) {
  absl::StatusOr<UniqueFd> fd = CreateSealedMemory(2 << 20);
  absl::StatusOr<MappedMemory> mapping = MappedMemory::Map(*fd, 2 << 20);
  std::fill_n(mapping->data(), 2 << 20, 'x');
  ASSERT_TRUE(ZeroRange(*fd, *mapping, 0, 2 << 20).ok());
  struct stat facts{};
  ASSERT_EQ(fstat(fd->get(), &facts), 0);
  EXPECT_EQ(facts.st_blocks, 0);
}

TEST(RangeAllocatorTest, AFullRangeHandsOutNothing) {
  RangeAllocator ranges(0, 1024);
  EXPECT_FALSE(ranges.Allocate(1025, 1).has_value());
  EXPECT_EQ(ranges.Allocate(1024, 256), 0u);
  EXPECT_FALSE(ranges.Allocate(1, 1).has_value());
}

TEST(RangeAllocatorTest, FreedNeighboursAreJoined) {
  RangeAllocator ranges(0, 1024);
  const uint64_t a = *ranges.Allocate(256, 256), b = *ranges.Allocate(256, 256),
                 c = *ranges.Allocate(512, 256);
  ranges.Free(a, 256);
  ranges.Free(c, 512);
  EXPECT_FALSE(ranges.Allocate(1024, 256).has_value());
  ranges.Free(b, 256);
  EXPECT_EQ(ranges.Allocate(1024, 256), 0u);
}

TEST(RangeAllocatorTest, AlignmentLosesNothing) {
  RangeAllocator ranges(100, 5000);
  EXPECT_EQ(ranges.Allocate(10, 4096), 4096u);
  EXPECT_EQ(ranges.Allocate(10, 1), 100u);
  EXPECT_EQ(ranges.touched(), 4106u);
  ranges.Free(4096, 10);
  ranges.Free(100, 10);
  EXPECT_EQ(ranges.Allocate(4900, 1), 100u);
}

}  // namespace
}  // namespace trun::device
