#include "common/subprocess/frame_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "common/base/status.h"

namespace trun {
namespace {

constexpr absl::Duration kSoon = absl::Seconds(20);

class FrameChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = FrameChannel::MakePair();
    ASSERT_TRUE(pair.ok());
    raw_ = std::move(pair->first);
    channel_ =
        std::make_unique<FrameChannel>(std::move(pair->second), FrameChannel::Limits{1 << 10, 8 << 20});
  }
  void Raw(absl::string_view bytes) {
    ASSERT_EQ(send(raw_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  UniqueFd raw_;
  std::unique_ptr<FrameChannel> channel_;
};

TEST_F(FrameChannelTest, ASilentPeerIsDeadlineExceeded) {
  EXPECT_EQ(channel_->Receive(absl::Milliseconds(5)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(FrameChannelTest, AClosedPeerIsUnavailable) {
  raw_.reset();
  EXPECT_EQ(channel_->Receive(kSoon).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(channel_->Send("{}", "", kSoon).code(), absl::StatusCode::kUnavailable);
}

TEST_F(FrameChannelTest, APeerThatEndsInTheMiddleOfAFrameIsUnavailable) {
  Raw(absl::string_view("\x05\0\0\0\0\0\0\0abc", 11));
  raw_.reset();
  EXPECT_EQ(channel_->Receive(kSoon).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(FrameChannelTest, LengthsOverTheLimitsAreAProtocolError) {
  Raw("GARBAGE!");
  const absl::Status status = channel_->Receive(kSoon).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GetReason(status), Reason::kProtocol);
}

TEST_F(FrameChannelTest, AFrameOverTheLimitIsNotSent) {
  const absl::Status status = channel_->Send(std::string(2000, ' '), "", kSoon);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
}

TEST_F(FrameChannelTest, APeerThatDoesNotReadIsDeadlineExceeded) {
  EXPECT_EQ(channel_->Send("{}", std::string(8 << 20, 'x'), absl::Milliseconds(20)).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(FrameChannelTest, FramesArriveWholeAndInOrder) {
  FrameChannel other(std::move(raw_));
  const std::string big(7 << 20, 'y');
  std::thread sender([&] {
    EXPECT_TRUE(other.Send("{\"n\":1}", big, kSoon).ok());
    EXPECT_TRUE(other.Send("{\"n\":2}", "", kSoon).ok());
  });
  auto first = channel_->Receive(kSoon);
  auto second = channel_->Receive(kSoon);
  sender.join();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->header, "{\"n\":1}");
  EXPECT_EQ(first->body, big);
  EXPECT_EQ(second->header, "{\"n\":2}");
  EXPECT_EQ(second->body, "");
}

}  // namespace
}  // namespace trun
