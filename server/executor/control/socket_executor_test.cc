#include "server/executor/control/socket_executor.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/subprocess_executor_factory.h"
#include "server/executor/protocol/messages.h"

namespace trun {
namespace {

using internal::v1::ExecutorReply;
using internal::v1::ExecutorRequest;

class NoHost final : public ExecutorHost {
 public:
  int64_t pid() const override { return 0; }
  std::string End(bool gone) override { return "ended by the test"; }
};

// Plays the executor by hand.
class SocketExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer_.reset(ends[1]);
    SocketExecutorOptions options;
    options.reply_timeout = absl::Milliseconds(200);
    options.load_timeout = absl::Milliseconds(200);
    options.hang_grace = absl::Milliseconds(50);
    executor_ = std::make_unique<SocketExecutor>(UniqueFd(ends[0]), std::make_unique<NoHost>(), options);
  }

  ExecutorRequest NextRequest() {
    ExecutorRequest request;
    absl::string_view frame;
    while (!reader_.Next(&frame)) {
      if (!reader_.Receive(peer_.get(), true).ok()) return request;
    }
    EXPECT_TRUE(request.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
    return request;
  }
  void Send(const ExecutorReply& reply) {
    std::string bytes;
    ASSERT_TRUE(AppendFrame(reply, &bytes).ok());
    ASSERT_TRUE(SendAll(peer_.get(), bytes, -1).ok());
  }
  void LaunchOne(Awaited<ExecutorLaunchResult>* result, absl::Duration deadline = absl::Seconds(30)) {
    ExecutorLaunch launch;
    launch.sequence = ++sequence_;
    launch.deadline = deadline;
    executor_->Launch(std::move(launch), result->callback());
  }
  static ExecutorReply LaunchReply(uint64_t id, int times) {
    ExecutorReply reply;
    reply.set_request_id(id);
    reply.mutable_launch();
    for (int i = 0; i < times; ++i) reply.mutable_launch()->add_device_time_ns(1000);
    return reply;
  }

  UniqueFd peer_;
  FrameReader reader_{true};
  std::unique_ptr<SocketExecutor> executor_;
  uint64_t sequence_ = 0;
};

TEST_F(SocketExecutorTest, AnAnswerToNothingEndsTheConnection) {
  Awaited<absl::Status> lost;
  executor_->OnLost(lost.callback());
  ExecutorReply reply;
  reply.set_request_id(77);
  Send(reply);
  EXPECT_EQ(GetReason(lost.Wait()), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, ATransferThatIsNotAnsweredInTimeEndsTheConnection) {
  Awaited<absl::Status> first, second;
  executor_->Transfer({0, 0, 16}, 4096, true, first.callback());
  executor_->Transfer({0, 0, 16}, 8192, true, second.callback());
  ExecutorReply reply;
  reply.set_request_id(NextRequest().request_id());
  Send(reply);
  EXPECT_TRUE(first.Wait().ok());
  const absl::Status overdue = second.Wait();
  EXPECT_EQ(GetReason(overdue), Reason::kExecutorLost);
  EXPECT_NE(overdue.message().find("move bytes"), absl::string_view::npos) << overdue;
}

TEST_F(SocketExecutorTest, AnArenaWithoutItsDescriptorEndsTheConnection) {
  std::thread peer([this] {
    ExecutorReply reply;
    reply.set_request_id(NextRequest().request_id());
    reply.mutable_create_arena();
    Send(reply);
  });
  EXPECT_EQ(GetReason(executor_->CreateArena(1, 4096, 4096).status()), Reason::kExecutorLost);
  peer.join();
  Awaited<absl::Status> lost;
  executor_->OnLost(lost.callback());
  EXPECT_EQ(GetReason(lost.Wait()), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, BytesThatAreNoMessageEndTheConnection) {
  Awaited<absl::Status> lost;
  executor_->OnLost(lost.callback());
  ASSERT_TRUE(SendAll(peer_.get(), absl::string_view("\x03\0\0\0\xff\xff\xff", 7), -1).ok());
  EXPECT_EQ(GetReason(lost.Wait()), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, AnAnswerOfAnotherKindEndsTheConnectionAndFailsTheLaunch) {
  Awaited<ExecutorLaunchResult> result;
  LaunchOne(&result);
  ExecutorReply reply;
  reply.set_request_id(NextRequest().request_id());
  reply.mutable_hello();
  Send(reply);
  EXPECT_EQ(GetReason(result.Wait().status), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, AResultWithTheWrongNumberOfTimesEndsTheConnection) {
  Awaited<ExecutorLaunchResult> first, second;
  LaunchOne(&first);
  LaunchOne(&second);
  Send(LaunchReply(NextRequest().request_id(), 2));
  EXPECT_EQ(GetReason(first.Wait().status), Reason::kExecutorLost);
  EXPECT_FALSE(second.Wait().status.ok());
}

TEST_F(SocketExecutorTest, WhenThePeerGoesTheOldestLaunchIsBlamedAndTheOthersAreToldSo) {
  Awaited<ExecutorLaunchResult> first, second;
  LaunchOne(&first);
  LaunchOne(&second);
  peer_.reset();
  EXPECT_EQ(GetReason(first.Wait().status), Reason::kExecutorLost);
  const absl::Status behind = second.Wait().status;
  EXPECT_EQ(GetReason(behind), Reason::kContextLost);
  EXPECT_EQ(GetDetails(behind)["sequence"], "1");
  Awaited<ExecutorLaunchResult> late;
  LaunchOne(&late);
  EXPECT_EQ(GetReason(late.Wait().status), Reason::kExecutorLost);
  EXPECT_EQ(GetReason(executor_->AddAllocation(1, 2, 3)), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, ALaunchThatIsNotAnsweredByItsDeadlineAndTheGraceIsHung) {
  Awaited<ExecutorLaunchResult> first, second;
  LaunchOne(&first, absl::Milliseconds(10));
  LaunchOne(&second, absl::Milliseconds(10));
  EXPECT_EQ(GetReason(first.Wait().status), Reason::kHungKernel);
  EXPECT_EQ(GetReason(second.Wait().status), Reason::kContextLost);
}

TEST_F(SocketExecutorTest, ARoundTripThatIsNotAnsweredEndsTheExecutor) {
  EXPECT_EQ(GetReason(executor_->RemoveAllocation(1)), Reason::kExecutorLost);
  EXPECT_EQ(GetReason(executor_->health()), Reason::kExecutorLost);
}

TEST_F(SocketExecutorTest, APeerThatDoesNotReadBlocksNobody) {
  std::vector<Awaited<ExecutorLaunchResult>> results(2000);
  for (auto& result : results) LaunchOne(&result);
  executor_.reset();
  for (auto& result : results) EXPECT_EQ(result.calls(), 1);
}

TEST_F(SocketExecutorTest, WhatDidNotFitIntoTheSocketFollowsInOrder) {
  std::vector<Awaited<ExecutorLaunchResult>> results(2000);
  for (auto& result : results) LaunchOne(&result);
  for (uint64_t i = 1; i <= results.size(); ++i) {
    const ExecutorRequest request = NextRequest();
    ASSERT_EQ(request.launch().sequence(), i);
    Send(LaunchReply(request.request_id(), 1));
  }
  for (auto& result : results) EXPECT_TRUE(result.Wait().status.ok());
}

class SubprocessExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto tests = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    SubprocessExecutorFactoryOptions options;
    options.devices = {{"fake:0", {(tests.parent_path() / "bin" / "fake_device_executor").string()}}};
    auto factory = SubprocessExecutorFactory::Create(options);
    ASSERT_TRUE(factory.ok()) << factory.status();
    factory_ = *std::move(factory);
  }

  std::unique_ptr<SubprocessExecutorFactory> factory_;
};

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST(SubprocessExecutorFactoryTest, ABinaryThatIsNotThereIsUnavailableAndSaysWhichDevice) {
  SubprocessExecutorFactoryOptions options;
  EXPECT_FALSE(SubprocessExecutorFactory::Create(options).ok());
  options.devices = {{"fake:0", {"/nonexistent/executor"}}};
  auto factory = SubprocessExecutorFactory::Create(options);
  ASSERT_TRUE(factory.ok());
  const absl::Status status = (*factory)->Create("fake:0", "s").status();
  EXPECT_EQ(GetReason(status), Reason::kUnavailable);
  EXPECT_NE(status.message().find("fake:0"), absl::string_view::npos);
  EXPECT_FALSE((*factory)->Devices()[0].usable.ok());
  options.devices.push_back(options.devices[0]);
  EXPECT_EQ(SubprocessExecutorFactory::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SubprocessExecutorFactoryTest, AChildThatDiesBeforeItsGreetingIsSeenLongBeforeTheReplyIsDue) {
  SubprocessExecutorFactoryOptions options;
  options.devices = {{"dead:0", {"/bin/false"}}};
  options.executor.reply_timeout = absl::Minutes(5);
  auto factory = SubprocessExecutorFactory::Create(options);
  ASSERT_TRUE(factory.ok()) << factory.status();
  const absl::Time begun = absl::Now();
  const absl::Status status = (*factory)->Create("dead:0", "session").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_LT(absl::Now() - begun, absl::Minutes(1));
}

TEST_F(SubprocessExecutorTest, AKernelThatKillsItsProcessIsNamedWithTheSignal) {
  auto executor = factory_->Create("fake:0", "s");
  ASSERT_TRUE(executor.ok()) << executor.status();
  ASSERT_TRUE((*executor)->LoadKernel(1, "die abort", "die").ok());
  ExecutorLaunch launch;
  launch.sequence = 5;
  launch.kernel = 1;
  Awaited<ExecutorLaunchResult> result;
  (*executor)->Launch(launch, result.callback());
  const absl::Status status = result.Wait().status;
  EXPECT_EQ(GetReason(status), Reason::kExecutorLost);
  EXPECT_NE(status.message().find("launch 5"), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find("signal 6"), absl::string_view::npos) << status;
}

TEST_F(SubprocessExecutorTest, AKilledSpareIsReplacedAndNoProcessOrDescriptorIsLeft) {
  factory_->Devices();  // the first spare is there
  const size_t before = OpenDescriptors();
  for (int round = 0; round < 10; ++round) {
    auto executor = factory_->Create("fake:0", absl::StrCat("s-", round));
    ASSERT_TRUE(executor.ok()) << executor.status();
    ASSERT_EQ(kill(static_cast<pid_t>((*executor)->pid()), SIGKILL), 0);
    EXPECT_EQ(GetReason((*executor)->AddAllocation(1, 4096, 16)), Reason::kExecutorLost);
    const auto pid = static_cast<pid_t>((*executor)->pid());
    executor->reset();
    EXPECT_NE(kill(pid, 0), 0) << "the process is still there";
  }
  factory_.reset();
  EXPECT_LE(OpenDescriptors(), before);
}

TEST_F(SubprocessExecutorTest, AStoppedExecutorIsKilledByTheWatchdog) {
  auto executor = factory_->Create("fake:0", "s");
  ASSERT_TRUE(executor.ok());
  ASSERT_TRUE((*executor)->LoadKernel(1, "hang hang", "hang").ok());
  ASSERT_EQ(kill(static_cast<pid_t>((*executor)->pid()), SIGSTOP), 0);
  ExecutorLaunch launch;
  launch.sequence = 1;
  launch.kernel = 1;
  launch.deadline = absl::Milliseconds(1);
  Awaited<ExecutorLaunchResult> result;
  (*executor)->Launch(launch, result.callback());
  EXPECT_EQ(GetReason(result.Wait().status), Reason::kHungKernel);
}

}  // namespace
}  // namespace trun
