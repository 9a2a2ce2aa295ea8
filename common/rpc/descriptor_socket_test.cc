#include "common/rpc/descriptor_socket.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "common/base/status.h"
#include "common/rpc/unix_socket.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

// One connection, served by a function on a thread of its own.
class DescriptorSocketTest : public testing::Test {
 protected:
  DescriptorSocketTest() {
    char path[] = "/tmp/trun_test_XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    folder_ = path;
    path_ = folder_ + "/s.fds";
    listener_ = ListenUnix(path_).value();
  }
  ~DescriptorSocketTest() override {
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }
  void Serve(std::function<void(int)> serve) {
    thread_ = std::thread([this, serve = std::move(serve)] {
      UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      serve(connection.get());
    });
  }

  std::string folder_;
  std::string path_;
  UniqueFd listener_;
  std::thread thread_;
};

TEST_F(DescriptorSocketTest, ARefusedTokenComesBackAsTheServersStatus) {
  Serve([](int fd) {
    EXPECT_EQ(ReadDescriptorRequest(fd).value().token, "nonsense");
    EXPECT_TRUE(SendDescriptors(fd, NotFound(Reason::kHandle, "no such token"), {}).ok());
  });
  const absl::Status status = ReceiveDescriptors(path_, "nonsense").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(status), Reason::kHandle);
}

TEST_F(DescriptorSocketTest, AnAnswerOfAnotherProtocolIsDataLoss) {
  Serve([](int fd) {
    ReadDescriptorRequest(fd).status().IgnoreError();
    EXPECT_EQ(send(fd, "HTTP/1.1 400 Bad Request\r\n", 26, MSG_NOSIGNAL), 26);
  });
  EXPECT_EQ(ReceiveDescriptors(path_, "t").status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(DescriptorSocketTest, AnAnswerThatPromisesMoreThanItSendsIsAnError) {
  Serve([](int fd) {
    ReadDescriptorRequest(fd).status().IgnoreError();
    const char reply[] = "TFD1\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0";
    EXPECT_EQ(send(fd, reply, 20, MSG_NOSIGNAL), 20);
  });
  EXPECT_EQ(ReceiveDescriptors(path_, "t").status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(DescriptorSocketTest, AServerThatSaysNothingIsGivenUpInTime) {
  EXPECT_EQ(ReceiveDescriptors(path_, "t", absl::Milliseconds(30)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(DescriptorSocketTest, ARequestThatIsNoneIsRefused) {
  Serve([](int fd) { EXPECT_EQ(GetReason(ReadDescriptorRequest(fd).status()), Reason::kProtocol); });
  const UniqueFd client = ConnectUnix(path_).value();
  EXPECT_EQ(send(client.get(), "TFD1\xff\xff\xff\xff", 8, MSG_NOSIGNAL), 8);
  thread_.join();
}

TEST_F(DescriptorSocketTest, ADepositThatIsNoneIsRefused) {
  const UniqueFd memory(memfd_create("t", MFD_CLOEXEC));
  const auto send_with = [&](absl::string_view bytes, bool with_descriptor) {
    const UniqueFd client = ConnectUnix(path_).value();
    UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (with_descriptor) {
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      const int number = memory.get();
      std::memcpy(CMSG_DATA(header), &number, sizeof(int));
    }
    EXPECT_EQ(sendmsg(client.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    return GetReason(ReadDescriptorRequest(connection.get()).status());
  };
  EXPECT_EQ(send_with(absl::string_view("TFU1\1\0\0\0", 8), false), Reason::kProtocol) << "no descriptor";
  EXPECT_EQ(send_with(absl::string_view("TFU1\2\0\0\0", 8), true), Reason::kProtocol) << "one of two";
  EXPECT_EQ(send_with(absl::string_view("TFD1\1\0\0\0t", 9), true), Reason::kProtocol)
      << "a descriptor beside a token";
}

TEST_F(DescriptorSocketTest, ADepositComesBackAsATokenOrTheServersStatus) {
  const UniqueFd memory(memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memory.get(), 77), 0);
  Serve([](int fd) {
    const absl::StatusOr<DescriptorRequest> request = ReadDescriptorRequest(fd);
    ASSERT_TRUE(request.ok() && request->deposited.valid()) << request.status();
    struct stat info;
    ASSERT_EQ(fstat(request->deposited.get(), &info), 0);
    EXPECT_EQ(info.st_size, 77);
    EXPECT_NE(fcntl(request->deposited.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_TRUE(SendToken(fd, std::string("a token")).ok());
  });
  EXPECT_EQ(DepositDescriptor(path_, memory.get()).value(), "a token");
  thread_.join();
  Serve([](int fd) {
    ReadDescriptorRequest(fd).status().IgnoreError();
    EXPECT_TRUE(SendToken(fd, ResourceExhausted(Reason::kQuota, "too many")).ok());
  });
  const absl::Status full = DepositDescriptor(path_, memory.get()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full.message(), "too many");
}

TEST_F(DescriptorSocketTest, HundredsOfDescriptorsArriveInOrderAndCloseOnExec) {
  constexpr int kCount = 200;
  std::vector<UniqueFd> sent;
  std::vector<int> numbers;
  for (int i = 0; i < kCount; ++i) {
    sent.emplace_back(memfd_create("t", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(sent.back().get(), 100 + i), 0);
    numbers.push_back(sent.back().get());
  }
  Serve([&](int fd) {
    EXPECT_EQ(ReadDescriptorRequest(fd).value().token, std::string(64, 'a'));
    EXPECT_TRUE(SendDescriptors(fd, absl::OkStatus(), numbers).ok());
  });
  const absl::StatusOr<std::vector<UniqueFd>> received = ReceiveDescriptors(path_, std::string(64, 'a'));
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_EQ(received->size(), static_cast<size_t>(kCount));
  for (int i = 0; i < kCount; ++i) {
    struct stat info;
    ASSERT_EQ(fstat((*received)[i].get(), &info), 0);
    EXPECT_EQ(info.st_size, 100 + i);
    EXPECT_NE(fcntl((*received)[i].get(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(DescriptorSocketTest, TheSocketIsOpenToItsUserOnlyAndKnowsItsPeer) {
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(ListenUnix(path_).status().code(), absl::StatusCode::kAlreadyExists);
  const UniqueFd client = ConnectUnix(path_).value();
  EXPECT_EQ(GetPeerCredentials(client.get())->uid, geteuid());
  EXPECT_EQ(ConnectUnix(folder_ + "/none").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace trun
