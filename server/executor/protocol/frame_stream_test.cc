#include "server/executor/protocol/frame_stream.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/base/status.h"
#include "trun/internal/v1/executor.pb.h"

namespace trun {
namespace {

class FrameStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_.reset(ends[0]);
    peers_.reset(ends[1]);
  }

  UniqueFd ours_, peers_;
  FrameReader reader_{true};
};

TEST_F(FrameStreamTest, AnAnnouncedLengthOverTheLimitIsAProtocolError) {
  ASSERT_TRUE(SendAll(peers_.get(), absl::string_view("\x01\x00\x00\x01", 4), -1).ok());
  EXPECT_EQ(GetReason(reader_.Receive(ours_.get(), true).status()), Reason::kProtocol);
}

TEST_F(FrameStreamTest, APeerThatIsGoneIsExecutorLost) {
  peers_.reset();
  EXPECT_EQ(GetReason(reader_.Receive(ours_.get(), true).status()), Reason::kExecutorLost);
  EXPECT_EQ(GetReason(SendAll(ours_.get(), "x", -1)), Reason::kExecutorLost);
}

TEST_F(FrameStreamTest, DescriptorsThatNobodyTakesAreAProtocolError) {
  UniqueFd memory(memfd_create("test", MFD_CLOEXEC));
  absl::StatusOr<bool> got = true;
  for (int i = 0; i < 40 && got.ok(); ++i) {
    ASSERT_TRUE(SendAll(peers_.get(), absl::string_view("\0", 1), memory.get()).ok());
    got = reader_.Receive(ours_.get(), true);
  }
  EXPECT_EQ(GetReason(got.status()), Reason::kProtocol);
}

TEST_F(FrameStreamTest, AMessageOverTheLimitIsNotFramed) {
  internal::v1::ExecutorRequest request;
  request.mutable_load_kernel()->set_image(std::string(kMaxExecutorFrameBytes, 'x'));
  std::string out;
  EXPECT_EQ(GetReason(AppendFrame(request, &out)), Reason::kTooLarge);
  EXPECT_TRUE(out.empty());
}

TEST_F(FrameStreamTest, WithNothingToReadItDoesNotWait) {
  absl::StatusOr<bool> got = reader_.Receive(ours_.get(), false);
  ASSERT_TRUE(got.ok());
  EXPECT_FALSE(*got);
}

TEST_F(FrameStreamTest, FramesArriveWholeWhereverTheyAreCutAndDescriptorsWithThem) {
  UniqueFd memory(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memory.get(), 12345), 0);
  std::string bytes;
  for (uint64_t id = 1; id <= 3; ++id) {
    internal::v1::ExecutorRequest request;
    request.set_request_id(id);
    request.mutable_load_kernel()->set_image(std::string(id * 1000, 'x'));
    ASSERT_TRUE(AppendFrame(request, &bytes).ok());
  }
  uint64_t next = 1;
  bool first = true;
  for (size_t at = 0; at < bytes.size(); at += 777) {
    ASSERT_TRUE(
        SendAll(peers_.get(), absl::string_view(bytes).substr(at, 777), first ? memory.get() : -1).ok());
    first = false;
    ASSERT_TRUE(reader_.Receive(ours_.get(), true).ok());
    absl::string_view frame;
    while (reader_.Next(&frame)) {
      internal::v1::ExecutorRequest request;
      ASSERT_TRUE(request.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
      EXPECT_EQ(request.request_id(), next);
      EXPECT_EQ(request.load_kernel().image().size(), next * 1000);
      ++next;
    }
  }
  EXPECT_EQ(next, 4u);
  UniqueFd arrived = reader_.TakeDescriptor();
  struct stat facts{};
  ASSERT_EQ(fstat(arrived.get(), &facts), 0);
  EXPECT_EQ(facts.st_size, 12345);
  EXPECT_FALSE(reader_.TakeDescriptor().valid());
}

}  // namespace
}  // namespace trun
