// Staging areas of a session whose tensors only the device can touch.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <thread>

#include "common/base/fake_clock.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"
#include "server/executor/control/fake_executor.h"
#include "server/session/session_registry.h"

namespace trun {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class SessionStagingTest : public ::testing::Test {
 protected:
  SessionStagingTest() {
    executors_.UseDeviceMemory();
    SessionRegistryOptions options;
    options.default_device = "fake:0";
    options.run_reaper = false;
    options.tenant_memory_bytes = 256 * kMiB;
    registry_ = SessionRegistry::Create(options, &factory_, &clock_);
    session_ = Open();
    tensor_ = New(1 << 20);
  }
  std::shared_ptr<Session> Open() {
    return *registry_->Open({"uid:1", "test", "", absl::Seconds(30), 128 * kMiB});
  }
  std::string New(uint64_t bytes) {
    return session_->Allocate({TensorSpec{ScalarType::kI8, {bytes}}}).value()[0].handle;
  }
  absl::Status Move(const std::string& staging, StagingMove move, bool to_tensor = true) {
    return session_->Transfer(staging, {move},
                              to_tensor ? TransferDirection::kToTensor : TransferDirection::kFromTensor);
  }
  StagingInfo Create(uint64_t bytes = 4 * kMiB) {
    auto made = session_->CreateStaging(bytes);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  FakeExecutors executors_;
  FakeExecutorFactory factory_{&executors_};
  FakeClock clock_;
  std::unique_ptr<SessionRegistry> registry_;
  std::shared_ptr<Session> session_;
  std::string tensor_;
};

TEST_F(SessionStagingTest, RangesPastAnEndAreRefused) {
  const StagingInfo staging = Create(3 * kMiB);
  EXPECT_EQ(staging.bytes, 4 * kMiB) << "granules of 2 MiB";
  for (const StagingMove& move : std::vector<StagingMove>{{4 * kMiB - 8, tensor_, 0, 16},
                                                          {~uint64_t{0}, tensor_, 0, 16},
                                                          {16, tensor_, 0, ~uint64_t{0}},
                                                          {0, tensor_, kMiB - 8, 16},
                                                          {0, tensor_, ~uint64_t{0}, 16}}) {
    const absl::Status status = Move(staging.handle, move);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument);
  }
  EXPECT_TRUE(Move(staging.handle, {4 * kMiB - 16, tensor_, kMiB - 16, 16}).ok());
  EXPECT_TRUE(Move(staging.handle, {4 * kMiB, tensor_, kMiB, 0}).ok()) << "nothing, at the end";
}

TEST_F(SessionStagingTest, FreedAndForeignHandlesAreNotFound) {
  const StagingInfo staging = Create();
  const auto other = Open();
  EXPECT_EQ(GetReason(other->Transfer(staging.handle, {}, TransferDirection::kToTensor)), Reason::kHandle);
  EXPECT_EQ(GetReason(other->FreeStaging(staging.handle)), Reason::kHandle);
  const std::string foreign = other->Allocate({TensorSpec{ScalarType::kI8, {16}}}).value()[0].handle;
  EXPECT_EQ(GetReason(Move(staging.handle, {0, foreign, 0, 16})), Reason::kHandle);
  ASSERT_TRUE(session_->Free({tensor_}).ok());
  EXPECT_EQ(GetReason(Move(staging.handle, {0, tensor_, 0, 16})), Reason::kHandle);
  ASSERT_TRUE(session_->FreeStaging(staging.handle).ok());
  EXPECT_EQ(GetReason(session_->FreeStaging(staging.handle)), Reason::kHandle);
  EXPECT_EQ(GetReason(Move(staging.handle, {0, New(16), 0, 16})), Reason::kHandle);
  EXPECT_EQ(executors_.staging_areas(), 0);
}

TEST_F(SessionStagingTest, AnAreaIsChargedAsLongAsItLivesAndSizesAreChecked) {
  EXPECT_EQ(session_->CreateStaging(0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(session_->CreateStaging(~uint64_t{0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(session_->CreateStaging(200 * kMiB).status()), Reason::kQuota);
  const StagingInfo staging = Create(100 * kMiB);
  EXPECT_EQ(GetReason(session_->CreateStaging(100 * kMiB).status()), Reason::kQuota);
  ASSERT_TRUE(session_->FreeStaging(staging.handle).ok());
  Create(100 * kMiB);
}

TEST_F(SessionStagingTest, ThereAreNoMoreAreasThanMayBe) {
  for (int i = 0; i < 50; ++i) Create(1);
  absl::Status last;
  for (int i = 0; i < 20 && last.ok(); ++i) last = session_->CreateStaging(1).status();
  EXPECT_EQ(GetReason(last), Reason::kQuota) << last;
}

TEST_F(SessionStagingTest, WhereTensorsAreSharedMemoryThereIsNoStaging) {
  FakeExecutors shared;
  FakeExecutorFactory factory(&shared);
  SessionRegistryOptions options;
  options.default_device = "fake:0";
  options.run_reaper = false;
  const auto registry = SessionRegistry::Create(options, &factory, &clock_);
  const auto session = *registry->Open({"uid:1", "test", "", absl::Seconds(30), 0});
  const absl::Status status = session->CreateStaging(kMiB).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
}

TEST_F(SessionStagingTest, WhatTheDriverDoesNotRegisterSaysSoAndWorks) {
  executors_.RefuseToRegister("no more locked memory");
  const StagingInfo staging = Create();
  EXPECT_EQ(staging.unregistered, "no more locked memory");
  EXPECT_TRUE(Move(staging.handle, {0, tensor_, 0, kMiB}).ok());
}

TEST_F(SessionStagingTest, TheDescriptorIsSealedAndCarriesBytesBothWays) {
  const StagingInfo staging = Create();
  EXPECT_NE(ftruncate(staging.descriptor.get(), 0), 0) << "a peer could take pages away";
  const device::MappedMemory ours = *device::MappedMemory::Map(staging.descriptor, staging.bytes);
  std::memset(ours.data() + 100, 'x', 1000);
  ASSERT_TRUE(Move(staging.handle, {100, tensor_, 50, 1000}).ok());
  std::string read(1000, ' ');
  ASSERT_TRUE(session_->Read(tensor_, 50, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(read, std::string(1000, 'x'));
  const std::vector<StagingMove> both = {{2 * kMiB, tensor_, 50, 500}, {3 * kMiB, tensor_, 550, 500}};
  ASSERT_TRUE(session_->Transfer(staging.handle, both, TransferDirection::kFromTensor).ok());
  EXPECT_EQ(std::string(ours.data() + 2 * kMiB, 500) + std::string(ours.data() + 3 * kMiB, 500), read);
}

TEST_F(SessionStagingTest, TheNextExecutorGetsTheAreaWithTheNextTransfer) {
  const StagingInfo staging = Create();
  const StagingInfo other = Create();
  EXPECT_EQ(executors_.staging_areas(), 2);
  executors_.Kill();
  EXPECT_TRUE(Move(staging.handle, {0, tensor_, 0, 16}).ok());
  EXPECT_EQ(executors_.staging_areas(), 1) << "the other one when it is used";
  EXPECT_TRUE(Move(other.handle, {0, tensor_, 0, 16}, false).ok());
  EXPECT_EQ(executors_.staging_areas(), 2);
  EXPECT_EQ(session_->statistics().executor_restarts, 1u);
}

TEST_F(SessionStagingTest, TheExecutorOfAClosedSessionEndsInTheBackgroundAndBeforeTheRegistry) {
  for (int i = 0; i < 20; ++i) {
    const auto session = Open();
    ASSERT_TRUE(registry_->Close(session->id(), "uid:1").ok());
    EXPECT_EQ(GetReason(session->Allocate({TensorSpec{ScalarType::kI8, {1}}}).status()),
              Reason::kSessionExpired);
  }
  session_.reset();
  registry_.reset();
  EXPECT_EQ(executors_.live(), 0);
}

TEST_F(SessionStagingTest, AnAreaThatIsFreedWhileACopyRunsLivesUntilTheCopyIsDone) {
  const StagingInfo staging = Create();
  const device::MappedMemory ours = *device::MappedMemory::Map(staging.descriptor, staging.bytes);
  std::memset(ours.data(), 'x', kMiB);
  executors_.HoldTransfers();
  std::thread copy([&] { EXPECT_TRUE(Move(staging.handle, {0, tensor_, 0, kMiB}).ok()); });
  executors_.AwaitHeldTransfer();
  EXPECT_TRUE(session_->FreeStaging(staging.handle).ok());
  EXPECT_EQ(GetReason(session_->FreeStaging(staging.handle)), Reason::kHandle);
  EXPECT_EQ(GetReason(Move(staging.handle, {0, tensor_, 0, 16})), Reason::kHandle) << "another copy";
  executors_.ReleaseTransfers();
  copy.join();
  std::string read(kMiB, ' ');
  ASSERT_TRUE(session_->Read(tensor_, 0, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(read, std::string(kMiB, 'x'));
}

// It would stay mapped in that executor, and nobody could let go of it.
TEST_F(SessionStagingTest, AnAreaThatWasFreedWhileACopyRanIsNotGivenToTheNextExecutor) {
  const StagingInfo staging = Create();
  executors_.HoldTransfers();
  std::thread copy([&] {
    const absl::Status status = Move(staging.handle, {0, tensor_, 0, kMiB});
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_EQ(GetReason(status), Reason::kHandle) << status;
  });
  executors_.AwaitHeldTransfer();
  EXPECT_TRUE(session_->FreeStaging(staging.handle).ok());
  executors_.Kill();
  executors_.ReleaseTransfers(Unavailable(Reason::kExecutorLost, "the fake executor was killed"));
  copy.join();
  const StagingInfo other = Create();
  EXPECT_TRUE(Move(other.handle, {0, tensor_, 0, 16}).ok());
  EXPECT_EQ(executors_.staging_areas(), 1);
}

TEST_F(SessionStagingTest, ACopyUnderWayEndsWithTheSession) {
  const StagingInfo staging = Create();
  std::thread copies([&] {
    absl::Status status;
    while (status.ok()) status = Move(staging.handle, {0, tensor_, 0, kMiB});
    EXPECT_TRUE(GetReason(status) == Reason::kSessionExpired || absl::IsCancelled(status)) << status;
  });
  ASSERT_TRUE(registry_->Close(session_->id(), "uid:1").ok());
  copies.join();
  EXPECT_EQ(GetReason(session_->CreateStaging(1).status()), Reason::kSessionExpired);
}

}  // namespace
}  // namespace trun
