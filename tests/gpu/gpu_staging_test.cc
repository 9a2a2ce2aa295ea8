// Staging areas (ADR 19) between a session and its executor process on a CUDA device.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "server/device/shared_memory.h"
#include "tests/gpu/gpu_session_fixture.h"

namespace trun {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class GpuStagingTest : public GpuSessionTest {
 protected:
  void SetUp() override {
    Start(/*warm_spares=*/false);
    session_ = Open();
    ASSERT_NE(session_, nullptr);
    tensor_ = New(*session_, kMiB);
  }

  absl::Status Move(const std::string& staging, StagingMove move,
                    TransferDirection direction = TransferDirection::kToTensor) {
    return session_->Transfer(staging, {std::move(move)}, direction);
  }
  StagingInfo Create(uint64_t bytes) {
    auto made = session_->CreateStaging(bytes);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : StagingInfo();
  }

  std::shared_ptr<Session> session_;
  TensorInfo tensor_;
};

// What trund would never send: whoever did could make the executor read pages that are gone.
TEST_F(GpuStagingTest, AnExecutorTakesNoMemoryThatCouldShrinkOrIsShorterThanSaid) {
  const UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(unsealed.get(), 2 * kMiB), 0);
  const UniqueFd may_grow(memfd_create("may grow", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(may_grow.get(), 2 * kMiB), 0);
  ASSERT_EQ(fcntl(may_grow.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  const UniqueFd sealed = *device::CreateSealedMemory(2 * kMiB);
  const UniqueFd no_memfd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  struct Bad {
    const char* what;
    const UniqueFd* memory;
    uint64_t bytes;
  };
  for (const Bad& bad :
       {Bad{"not sealed", &unsealed, 2 * kMiB}, Bad{"sealed against growing only", &may_grow, 2 * kMiB},
        Bad{"shorter than said", &sealed, 4 * kMiB}, Bad{"of no bytes", &sealed, 0},
        Bad{"no memfd", &no_memfd, 4096}}) {
    auto executor = factory_->Create("cuda:0", "s-staging");
    ASSERT_TRUE(executor.ok()) << executor.status();
    Awaited<absl::StatusOr<std::string>> mapped;
    (*executor)->MapStaging(1, *bad.memory, bad.bytes, mapped.callback());
    const absl::Status status = mapped.Wait().status();
    EXPECT_FALSE(status.ok()) << bad.what;
    EXPECT_FALSE((*executor)->health().ok()) << bad.what << ": nobody but trund speaks to it";
  }
  // Shrunk by its other owner after it was given away: the seal refuses that.
  EXPECT_EQ(ftruncate(sealed.get(), 0), -1);
}

TEST_F(GpuStagingTest, SizesRangesAndHandlesThatAreNoneAreRefusedAndTheExecutorGoesOn) {
  EXPECT_EQ(GetReason(session_->CreateStaging(0).status()), Reason::kArgument);
  EXPECT_EQ(GetReason(session_->CreateStaging(~uint64_t{0}).status()), Reason::kArgument);
  const StagingInfo staging = Create(3 * kMiB);
  ASSERT_EQ(staging.bytes, 4 * kMiB);
  for (const StagingMove& move : std::vector<StagingMove>{{4 * kMiB - 8, tensor_.handle, 0, 16},
                                                          {4 * kMiB + 1, tensor_.handle, 0, 0},
                                                          {~uint64_t{0} - 7, tensor_.handle, 0, 16},
                                                          {0, tensor_.handle, 4 * kMiB - 8, 16},
                                                          {0, tensor_.handle, ~uint64_t{0} - 7, 16}}) {
    const absl::Status status = Move(staging.handle, move);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
  }
  const auto other = Open();
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(GetReason(other->Transfer(staging.handle, {{0, New(*other, 4).handle, 0, 16}},
                                      TransferDirection::kToTensor)),
            Reason::kHandle);
  EXPECT_EQ(GetReason(other->FreeStaging(staging.handle)), Reason::kHandle);
  EXPECT_EQ(GetReason(Move(staging.handle, {0, New(*other, 4).handle, 0, 16})), Reason::kHandle);
  EXPECT_TRUE(Move(staging.handle, {4 * kMiB - 16, tensor_.handle, 4 * kMiB - 16, 16}).ok());
  ASSERT_TRUE(session_->FreeStaging(staging.handle).ok());
  EXPECT_EQ(GetReason(session_->FreeStaging(staging.handle)), Reason::kHandle);
  EXPECT_EQ(GetReason(Move(staging.handle, {0, tensor_.handle, 0, 16})), Reason::kHandle);
  EXPECT_EQ(session_->statistics().executor_restarts, 0u);
}

TEST_F(GpuStagingTest, AnAreaFreedWhileCopiesRunLivesUntilTheyAreDoneAndNothingElseIsHit) {
  for (int round = 0; round < 10; ++round) {
    const StagingInfo staging = Create(4 * kMiB);
    const auto ours = MapWhole(staging);
    std::memset(ours.get(), 'a' + round, staging.bytes);
    std::atomic<int> begun{0};
    std::thread copies([&] {
      absl::Status status;
      while (status.ok()) {
        begun.fetch_add(1);
        status = Move(staging.handle, {0, tensor_.handle, 0, 4 * kMiB});
      }
      EXPECT_EQ(GetReason(status), Reason::kHandle) << status;
    });
    while (begun.load() < 2 + round) std::this_thread::yield();
    EXPECT_TRUE(session_->FreeStaging(staging.handle).ok());
    copies.join();
    const auto words = Words(*session_, tensor_, kMiB);
    EXPECT_EQ(std::count(words.begin(), words.end(), 0x01010101 * ('a' + round)), static_cast<int64_t>(kMiB));
  }
  EXPECT_EQ(session_->statistics().executor_restarts, 0u);
}

TEST_F(GpuStagingTest, AnExecutorKilledInTheMiddleOfACopyCostsNoBytes) {
  const StagingInfo staging = Create(4 * kMiB);
  const auto ours = MapWhole(staging);
  for (int round = 1; round <= 3; ++round) {
    std::memset(ours.get(), round, staging.bytes);
    std::thread killer(
        [&] { EXPECT_EQ(kill(static_cast<pid_t>(session_->statistics().executor_pid), SIGKILL), 0); });
    const absl::Status moved = Move(staging.handle, {0, tensor_.handle, 0, 4 * kMiB});
    killer.join();
    EXPECT_TRUE(moved.ok()) << moved;
    const auto words = Words(*session_, tensor_, kMiB);
    EXPECT_EQ(std::count(words.begin(), words.end(), 0x01010101 * round), static_cast<int64_t>(kMiB));
  }
}

TEST_F(GpuStagingTest, ManyRangesGoBothWaysAtOnceToTheByte) {
  const StagingInfo to = Create(4 * kMiB), from = Create(4 * kMiB);
  EXPECT_EQ(to.unregistered, "");
  const auto source = MapWhole(to), target = MapWhole(from);
  for (uint64_t i = 0; i < 4 * kMiB; ++i) source.get()[i] = static_cast<char>(i * 2654435761u >> 13);
  const TensorInfo still = New(*session_, kMiB);
  ASSERT_TRUE(Move(to.handle, {0, still.handle, 0, 4 * kMiB}).ok());
  std::vector<StagingMove> pieces;
  for (uint64_t at = 0, bytes = 1; at < 4 * kMiB; at += bytes, bytes = bytes * 5 / 3 + 1) {
    bytes = std::min(bytes, 4 * kMiB - at);
    pieces.push_back({at, tensor_.handle, at, bytes});
  }
  std::thread back([&] {
    const absl::Status status =
        session_->Transfer(from.handle, {{0, still.handle, 0, 4 * kMiB}}, TransferDirection::kFromTensor);
    EXPECT_TRUE(status.ok()) << status;
  });
  const absl::Status status = session_->Transfer(to.handle, pieces, TransferDirection::kToTensor);
  EXPECT_TRUE(status.ok()) << status;
  back.join();
  EXPECT_EQ(std::memcmp(source.get(), target.get(), 4 * kMiB), 0);
  std::string read(4 * kMiB, ' ');
  ASSERT_TRUE(session_->Read(tensor_.handle, 0, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(std::memcmp(source.get(), read.data(), read.size()), 0);
}

}  // namespace
}  // namespace trun
