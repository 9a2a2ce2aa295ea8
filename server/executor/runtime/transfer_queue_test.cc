#include "server/executor/runtime/transfer_queue.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>

#include "common/base/status.h"
#include "server/device/fake_device.h"

namespace trun {
namespace {

constexpr uint64_t kAddress = device::kFakeAddresses;
constexpr uint64_t kBytes = 2 << 20;

class TransferQueueTest : public ::testing::Test {
 protected:
  TransferQueueTest() : device_(device::CreateFakeDevice()) {
    memory_ = *device_->CreateMemory(kBytes);
    arena_ = *device_->MapArena(memory_, kBytes, kAddress);
    ours_ = *device::MappedMemory::Map(staging_, kBytes);
    queue_ = std::make_unique<TransferQueue>(device_.get());
  }
  std::string Map(uint64_t area) {
    std::promise<std::string> mapped;
    EXPECT_TRUE(queue_->Map(area, staging_, kBytes, [&](std::string why) { mapped.set_value(why); }).ok());
    return mapped.get_future().get();
  }
  absl::Status Move(const TransferQueue::Range& range) {
    std::promise<absl::Status> moved;
    const absl::Status taken = queue_->Transfer(range, [&](absl::Status status) { moved.set_value(status); });
    return taken.ok() ? moved.get_future().get() : taken;
  }

  std::unique_ptr<device::Device> device_;
  UniqueFd memory_;
  std::unique_ptr<device::Arena> arena_;
  const UniqueFd staging_ = *device::CreateSealedMemory(kBytes);
  device::MappedMemory ours_;
  std::unique_ptr<TransferQueue> queue_;
};

TEST_F(TransferQueueTest, RangesPastTheEndAndAreasThatAreNotThereAreRefused) {
  EXPECT_EQ(Move({1, 0, 16, kAddress, true}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Map(1), "");
  EXPECT_EQ(Move({1, kBytes - 8, 16, kAddress, true}).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Move({1, ~uint64_t{0}, 16, kAddress, true}).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Move({1, 8, ~uint64_t{0}, kAddress, true}).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Move({1, 0, 16, kAddress + kBytes - 8, true}).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(queue_->Unmap(2, nullptr).code(), absl::StatusCode::kNotFound);
}

TEST_F(TransferQueueTest, MemoryThatCouldShrinkOrIsShorterThanSaidIsRefused) {
  const UniqueFd open(memfd_create("unsealed", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(open.get(), kBytes), 0);
  EXPECT_EQ(queue_->Map(1, open, kBytes, nullptr).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(queue_->Map(1, staging_, kBytes + 1, nullptr).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(queue_->Map(1, staging_, 0, nullptr).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(TransferQueueTest, ANumberIsTakenUntilItsAreaIsUnmapped) {
  EXPECT_EQ(Map(1), "");
  EXPECT_EQ(queue_->Map(1, staging_, kBytes, nullptr).code(), absl::StatusCode::kInvalidArgument);
  std::promise<absl::Status> gone;
  ASSERT_TRUE(queue_->Unmap(1, [&](absl::Status status) { gone.set_value(status); }).ok());
  EXPECT_TRUE(gone.get_future().get().ok());
  EXPECT_EQ(Map(1), "");
}

TEST_F(TransferQueueTest, BytesThatChangeWhileTheyAreCopiedAreStillOnlyBytes) {
  EXPECT_EQ(Map(1), "");
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    for (char value = 0; !stop; ++value) std::memset(ours_.data(), value, 4096);
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(Move({1, 0, 8192, kAddress, true}).ok());
    EXPECT_TRUE(Move({1, 0, 8192, kAddress, false}).ok());
  }
  stop = true;
  scribbler.join();
  std::memset(ours_.data(), 'e', 8192);
  EXPECT_TRUE(Move({1, 0, 8192, kAddress, true}).ok());
  EXPECT_TRUE(Move({1, 8192, 8192, kAddress, false}).ok());
  EXPECT_EQ(std::string(ours_.data() + 8192, 8192), std::string(8192, 'e'));
}

TEST_F(TransferQueueTest, EveryCallbackIsCalledOnceAlsoWhenTheQueueEnds) {
  EXPECT_EQ(Map(1), "");
  constexpr int kTransfers = 200;
  std::atomic<int> called{0};
  for (int i = 0; i < kTransfers; ++i) {
    ASSERT_TRUE(queue_
                    ->Transfer({1, 0, kBytes / 2, kAddress, true},
                               [&](const absl::Status& status) {
                                 EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
                                 ++called;
                               })
                    .ok());
  }
  ASSERT_TRUE(queue_->Unmap(1, [&](const absl::Status&) { ++called; }).ok());
  queue_.reset();
  EXPECT_EQ(called, kTransfers + 1);
}

}  // namespace
}  // namespace trun
