#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/fake_clock.h"
#include "common/base/status.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/fake_executor.h"
#include "server/session/session_registry.h"

namespace trun {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<CompiledKernel> Kernel(const std::string& name, const std::string& image,
                                       std::vector<KernelArgument> arguments) {
  auto kernel = std::make_shared<CompiledKernel>();
  kernel->signature = {name, std::move(arguments)};
  kernel->metadata.name = name;
  kernel->metadata.num_warps = 4;
  kernel->metadata.triton_version = "3.9.0";
  kernel->artifacts[Level::kPtx] = {Level::kPtx, image};
  return kernel;
}

device::KernelAttributes Attributes(const std::string& name, const std::vector<uint32_t>& sizes) {
  device::KernelAttributes attributes;
  attributes.name = name;
  for (const uint32_t bytes : sizes) {
    attributes.parameters.push_back({attributes.parameter_bytes, bytes, bytes});
    attributes.parameter_bytes += bytes;
  }
  return attributes;
}

ExecutorLaunchResult Outcome(absl::Status status) {
  ExecutorLaunchResult result;
  result.status = std::move(status);
  return result;
}

const KernelArgument kPointer = {"out", KernelArgument::Kind::kPointer, ScalarType::kI32, 8, 16, ""};
const KernelArgument kValue = {"value", KernelArgument::Kind::kScalar, ScalarType::kI32, 4, 1, ""};

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    executors_.SetKernel("store", Attributes("store", {8, 4, 8, 8}),
                         [](const ExecutorLaunch& launch, FakeExecutors* all) {
                           char* const to = all->At(std::get<uint64_t>(launch.arguments[0]), 4);
                           if (to == nullptr) return Outcome(Internal("the arena is not mapped"));
                           std::memcpy(to, std::get<std::string>(launch.arguments[1]).data(), 4);
                           ExecutorLaunchResult result;
                           result.printed = "stored\n";
                           return result;
                         });
    executors_.SetKernel("hang", Attributes("hang", {}), [](const ExecutorLaunch&, FakeExecutors*) {
      return Outcome(DeadlineExceeded(Reason::kHungKernel, "hangs"));
    });
    executors_.SetKernel("fault", Attributes("fault", {8}), [](const ExecutorLaunch&, FakeExecutors* all) {
      ExecutorLaunchResult result = Outcome(FailedPrecondition(Reason::kIllegalAddress, "outside"));
      result.fault.nearest_allocation = all->launch_allocations().begin()->first;
      return result;
    });
    executors_.SetKernel("other", Attributes("other", {8, 8}),
                         [](const ExecutorLaunch&, FakeExecutors*) { return ExecutorLaunchResult(); });
    options_.default_device = "fake:0";
    options_.run_reaper = false;
    options_.tenant_memory_bytes = 256 * kMiB;
    options_.max_sessions_per_tenant = 3;
    options_.max_queued_launches = 8;
    options_.max_kernels_per_session = 6;
    registry_ = SessionRegistry::Create(options_, &factory_, &clock_);
  }

  std::shared_ptr<Session> Open(const std::string& tenant = "uid:1") {
    auto session = registry_->Open({tenant, "test", "", absl::Seconds(30), 0});
    EXPECT_TRUE(session.ok()) << session.status();
    return *session;
  }
  static TensorInfo New(Session* session, uint64_t words = 64) {
    auto infos = session->Allocate({TensorSpec{ScalarType::kI32, {words}}});
    EXPECT_TRUE(infos.ok()) << infos.status();
    return infos->at(0);
  }
  static std::string Add(Session* session, const std::string& name, std::vector<KernelArgument> arguments) {
    auto handle = session->AddKernel(Kernel(name, name, std::move(arguments)));
    EXPECT_TRUE(handle.ok()) << handle.status();
    return *handle;
  }
  static SessionLaunch Store(const std::string& kernel, const TensorInfo& tensor, int64_t value) {
    SessionLaunch launch;
    launch.kernel = kernel;
    launch.grid = {1};
    launch.arguments = {TensorReference{tensor.handle, 0}, value};
    return launch;
  }
  static LaunchResult Run(Session* session, const SessionLaunch& launch) {
    Awaited<LaunchResult> result;
    auto sequence = session->Launch(launch, result.callback());
    if (!sequence.ok()) {
      LaunchResult refused;
      refused.status = sequence.status();
      return refused;
    }
    return result.Wait();
  }
  static SynchronizeResult Synchronize(Session* session) {
    Awaited<SynchronizeResult> result;
    session->Synchronize(result.callback());
    return result.Wait();
  }
  static int32_t First(Session* session, const TensorInfo& tensor) {
    int32_t value = -1;
    EXPECT_TRUE(session->Read(tensor.handle, 0, absl::MakeSpan(reinterpret_cast<char*>(&value), 4)).ok());
    return value;
  }

  FakeClock clock_;
  FakeExecutors executors_;
  FakeExecutorFactory factory_{&executors_};
  SessionRegistryOptions options_;
  std::unique_ptr<SessionRegistry> registry_;
};

// --- opening, finding, leases, quotas

TEST_F(SessionTest, AnUnknownDeviceIsNotFound) {
  EXPECT_EQ(registry_->Open({"uid:1", "", "cuda:9", absl::ZeroDuration(), 0}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(registry_->open_sessions(), 0u);
}

TEST_F(SessionTest, ALeaseOutsideTheLimitsIsRefused) {
  for (const absl::Duration lease : {absl::Milliseconds(1), absl::Hours(2), -absl::Seconds(1)}) {
    EXPECT_EQ(registry_->Open({"uid:1", "", "", lease, 0}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(SessionTest, AnExecutorThatCannotBeStartedIsUnavailableAndCostsNoQuota) {
  executors_.set_create_status(Unavailable(Reason::kUnavailable, "no process"));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(GetReason(registry_->Open({"uid:1", "", "", absl::ZeroDuration(), 0}).status()),
              Reason::kUnavailable);
  }
  executors_.set_create_status(absl::OkStatus());
  EXPECT_TRUE(registry_->Open({"uid:1", "", "", absl::ZeroDuration(), 0}).ok());
}

TEST_F(SessionTest, TooManySessionsOfATenantAreItsOwnProblem) {
  for (int i = 0; i < 3; ++i) Open();
  const absl::Status status = registry_->Open({"uid:1", "", "", absl::ZeroDuration(), 0}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kQuota);
  Open("uid:2");
}

TEST_F(SessionTest, ASessionOfAnotherTenantLooksLikeOneThatIsNot) {
  const std::string id = Open()->id();
  const absl::Status foreign = registry_->Find(id, "uid:2").status();
  const absl::Status missing = registry_->Find("s-nothing", "uid:1").status();
  EXPECT_EQ(GetReason(foreign), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(missing), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(registry_->Close(id, "uid:2")), Reason::kSessionExpired);
  EXPECT_TRUE(registry_->Find(id, "uid:1").ok());
}

TEST_F(SessionTest, ALeaseRunsOutUnlessItIsRenewedOrTheSessionIsInUse) {
  const std::string id = Open()->id();
  clock_.Advance(absl::Seconds(29));
  EXPECT_EQ(registry_->ReapExpired(), 0);
  EXPECT_TRUE(registry_->Find(id, "uid:1").ok());
  clock_.Advance(absl::Seconds(29));
  {
    auto held = registry_->Find(id, "uid:1");
    ASSERT_TRUE(held.ok());
    clock_.Advance(absl::Seconds(100));
    EXPECT_EQ(registry_->ReapExpired(), 0);
  }
  clock_.Advance(absl::Seconds(31));
  EXPECT_EQ(GetReason(registry_->Find(id, "uid:1").status()), Reason::kSessionExpired)
      << "before the reaper comes by";
  EXPECT_EQ(registry_->ReapExpired(), 1);
  EXPECT_EQ(registry_->open_sessions(), 0u);
  EXPECT_EQ(executors_.live(), 0);
}

TEST_F(SessionTest, TheReaperEndsASessionWhoseLeaseRanOutByItself) {
  options_.run_reaper = true;
  options_.min_lease = absl::Milliseconds(1);
  auto registry = SessionRegistry::Create(options_, &factory_, Clock::Real());
  ASSERT_TRUE(registry->Open({"uid:1", "", "", absl::Milliseconds(5), 0}).ok());
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (registry->open_sessions() > 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_EQ(registry->open_sessions(), 0u);
}

TEST_F(SessionTest, AClosedSessionRefusesEverythingAndItsMemoryIsReturned) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  ASSERT_TRUE(registry_->Close(session->id(), "uid:1").ok());
  EXPECT_EQ(GetReason(session->Allocate({TensorSpec{ScalarType::kI32, {1}}}).status()),
            Reason::kSessionExpired);
  EXPECT_EQ(GetReason(session->Write(tensor.handle, 0, "abcd")), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(session->GetTensor(tensor.handle).status()), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(session->PrepareKernel(kernel).status()), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Run(session.get(), Store(kernel, tensor, 1)).status), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Synchronize(session.get()).status), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(registry_->Close(session->id(), "uid:1")), Reason::kSessionExpired);
  EXPECT_EQ(executors_.live(), 0);
  auto next = Open();
  EXPECT_TRUE(next->Allocate({TensorSpec{ScalarType::kU8, {256 * kMiB}}}).ok());
}

TEST_F(SessionTest, ClosingCancelsWhatRunsAndWakesWhoWaits) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  executors_.Hold();
  Awaited<LaunchResult> first, second;
  Awaited<SynchronizeResult> synchronized;
  ASSERT_TRUE(session->Launch(Store(kernel, tensor, 1), first.callback()).ok());
  ASSERT_TRUE(session->Launch(Store(kernel, tensor, 2), second.callback()).ok());
  session->Synchronize(synchronized.callback());
  std::thread reader([&] {
    char word[4];
    EXPECT_FALSE(session->Read(tensor.handle, 0, absl::MakeSpan(word)).ok());
  });
  ASSERT_TRUE(registry_->Close(session->id(), "uid:1").ok());
  reader.join();
  EXPECT_EQ(first.Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(second.Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(synchronized.Wait().status.code(), absl::StatusCode::kCancelled);
}

TEST_F(SessionTest, DrainingRefusesNewWorkAndLetsTheRunningEnd) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  executors_.Hold();
  Awaited<LaunchResult> running;
  ASSERT_TRUE(session->Launch(Store(kernel, tensor, 1), running.callback()).ok());
  std::thread drain([&] { registry_->Drain(absl::Seconds(30)); });
  const auto open = [&] {
    return GetReason(registry_->Open({"uid:2", "", "cuda:9", absl::ZeroDuration(), 0}).status());
  };
  while (open() != Reason::kDraining) std::this_thread::yield();
  const auto launch = [&] {
    return GetReason(session->Launch(Store(kernel, tensor, 1), [](LaunchResult) {}).status());
  };
  while (launch() != Reason::kDraining) std::this_thread::yield();
  executors_.Release();
  EXPECT_TRUE(registry_->WaitForLaunches(absl::Seconds(30)));
  drain.join();
  EXPECT_TRUE(running.Wait().status.ok());
  EXPECT_EQ(registry_->open_sessions(), 0u);
}

TEST_F(SessionTest, ADrainThatTakesTooLongCutsWhatRuns) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  executors_.Hold();
  Awaited<LaunchResult> running;
  ASSERT_TRUE(
      session->Launch(Store(Add(session.get(), "store", {kPointer, kValue}), tensor, 1), running.callback())
          .ok());
  registry_->StartDraining();
  EXPECT_FALSE(registry_->WaitForLaunches(absl::Milliseconds(1)));
  EXPECT_EQ(registry_->open_sessions(), 1u) << "results can still be read";
  registry_->Drain(absl::Milliseconds(1));
  EXPECT_EQ(running.Wait().status.code(), absl::StatusCode::kCancelled);
}

// --- tensors

TEST_F(SessionTest, HandlesOfOneSessionMeanNothingInAnother) {
  auto one = Open();
  auto two = Open();
  const TensorInfo tensor = New(one.get());
  const std::string kernel = Add(one.get(), "store", {kPointer, kValue});
  EXPECT_EQ(GetReason(two->GetTensor(tensor.handle).status()), Reason::kHandle);
  EXPECT_EQ(GetReason(two->Write(tensor.handle, 0, "abcd")), Reason::kHandle);
  EXPECT_EQ(GetReason(two->Free({tensor.handle})), Reason::kHandle);
  EXPECT_EQ(GetReason(two->FindKernel(kernel).status()), Reason::kHandle);
  EXPECT_EQ(GetReason(two->ReleaseKernel(kernel)), Reason::kHandle);
  EXPECT_EQ(GetReason(two->ExportDescriptors({tensor.handle}).status()), Reason::kHandle);
  EXPECT_NE(New(two.get()).device_address, tensor.device_address);
}

TEST_F(SessionTest, RangesPastTheEndAreOutOfRange) {
  auto session = Open();
  const TensorInfo tensor = New(session.get(), 4);
  char word[4] = {};
  EXPECT_EQ(session->Write(tensor.handle, 13, word).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(session->Read(tensor.handle, ~uint64_t{0}, absl::MakeSpan(word)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(session->Fill(tensor.handle, 0, 17, "x").code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(session->Copy(tensor.handle, 0, tensor.handle, 12, 8).code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(session->Write(tensor.handle, 12, word).ok());
}

TEST_F(SessionTest, BadPatternsAndOverlappingCopiesAreRefused) {
  auto session = Open();
  const TensorInfo tensor = New(session.get(), 4);
  EXPECT_EQ(GetReason(session->Fill(tensor.handle, 0, 0, "xyz")), Reason::kArgument);
  EXPECT_EQ(GetReason(session->Fill(tensor.handle, 0, 6, "abcd")), Reason::kArgument);
  EXPECT_EQ(session->Copy(tensor.handle, 0, tensor.handle, 4, 8).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SessionTest, WhatIsWrittenFilledAndCopiedIsRead) {
  auto session = Open();
  const TensorInfo a = New(session.get(), kMiB), b = New(session.get(), kMiB);
  std::vector<int32_t> values(kMiB), back(kMiB);
  std::iota(values.begin(), values.end(), 0);
  const absl::Span<const char> bytes(reinterpret_cast<const char*>(values.data()), 4 * kMiB);
  ASSERT_TRUE(session->Write(a.handle, 0, bytes).ok());
  ASSERT_TRUE(session->Fill(b.handle, 0, 0, absl::string_view("\1\2\3\4", 4)).ok());
  ASSERT_TRUE(session->Copy(a.handle, 4, b.handle, 8, 4 * kMiB - 8).ok());
  ASSERT_TRUE(
      session->Read(b.handle, 0, absl::MakeSpan(reinterpret_cast<char*>(back.data()), 4 * kMiB)).ok());
  EXPECT_EQ(back[0], 0x04030201);
  EXPECT_EQ(back[1], 0x04030201);
  EXPECT_TRUE(std::equal(back.begin() + 2, back.end(), values.begin() + 1));
}

TEST_F(SessionTest, ExportedMemoryIsTheTensorsAndOneDescriptorServesAnArena) {
  auto session = Open();
  const TensorInfo a = New(session.get()), b = New(session.get());
  ASSERT_TRUE(session->Write(b.handle, 0, "abcd").ok());
  auto exported = session->ExportDescriptors({a.handle, b.handle});
  ASSERT_TRUE(exported.ok()) << exported.status();
  ASSERT_EQ(exported->descriptors.size(), 1u);
  ASSERT_EQ(exported->tensors.size(), 2u);
  char word[4];
  ASSERT_EQ(pread(exported->descriptors[0].get(), word, 4, static_cast<off_t>(exported->tensors[1].offset)),
            4);
  EXPECT_EQ(std::memcmp(word, "abcd", 4), 0);
  EXPECT_EQ(exported->tensors[0].bytes, a.bytes);
}

TEST_F(SessionTest, ReadsAndWritesWaitForTheLaunchesBefore) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  executors_.Hold();
  Awaited<LaunchResult> result;
  ASSERT_TRUE(
      session->Launch(Store(Add(session.get(), "store", {kPointer, kValue}), tensor, 42), result.callback())
          .ok());
  EXPECT_EQ(session->WaitForLaunches(absl::Milliseconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  std::thread release([&] { executors_.Release(); });
  EXPECT_EQ(First(session.get(), tensor), 42);
  release.join();
}

TEST_F(SessionTest, ATensorFreedBehindALaunchIsStillThereForItAndItsMemoryComesBack) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  auto large = session->Allocate({TensorSpec{ScalarType::kU8, {200 * kMiB}}});
  ASSERT_TRUE(large.ok());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  executors_.Hold();
  Awaited<LaunchResult> before;
  ASSERT_TRUE(session->Launch(Store(kernel, tensor, 1), before.callback()).ok());
  ASSERT_TRUE(session->Free({tensor.handle, large->at(0).handle}).ok());
  EXPECT_EQ(GetReason(Run(session.get(), Store(kernel, tensor, 1)).status), Reason::kHandle);
  std::thread release([&] { executors_.Release(); });
  // Over the quota until the launch is done: waits for it.
  EXPECT_TRUE(session->Allocate({TensorSpec{ScalarType::kU8, {200 * kMiB}}}).ok());
  release.join();
  EXPECT_TRUE(before.Wait().status.ok());
}

// --- kernels and launches

TEST_F(SessionTest, TooManyKernelsAreRefusedUntilSomeAreReleased) {
  auto session = Open();
  std::vector<std::string> handles;
  for (int i = 0; i < 6; ++i) handles.push_back(Add(session.get(), "store", {kPointer, kValue}));
  EXPECT_EQ(GetReason(session->AddKernel(Kernel("store", "store", {})).status()), Reason::kQuota);
  EXPECT_TRUE(session->ReleaseKernel(handles[0]).ok());
  EXPECT_EQ(GetReason(session->ReleaseKernel(handles[0])), Reason::kHandle);
  EXPECT_TRUE(session->AddKernel(Kernel("store", "store", {})).ok());
}

TEST_F(SessionTest, AKernelWithoutTheDevicesLevelCannotBeLaunched) {
  auto session = Open();
  auto kernel = Kernel("store", "store", {});
  kernel->artifacts.clear();
  const std::string handle = *session->AddKernel(kernel);
  const absl::Status status = session->PrepareKernel(handle).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedLevel);
}

TEST_F(SessionTest, ASignatureThatContradictsTheKernelIsAMetadataError) {
  auto session = Open();
  const std::string wrong_size = Add(session.get(), "store", {kPointer, kPointer});
  EXPECT_EQ(GetReason(session->PrepareKernel(wrong_size).status()), Reason::kMetadata);
  const std::string too_few = Add(session.get(), "store", {kPointer});
  EXPECT_EQ(GetReason(session->PrepareKernel(too_few).status()), Reason::kMetadata);
  EXPECT_EQ(GetReason(session->PrepareKernel(Add(session.get(), "no such image", {})).status()),
            Reason::kInvalidIr);
}

TEST_F(SessionTest, ARefusedLaunchUsesNoNumberAndCallsNobody) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  std::vector<SessionLaunch> bad(7, Store(kernel, tensor, 1));
  bad[0].arguments.pop_back();
  bad[1].arguments[1] = 1.5;
  bad[2].grid = {0};
  bad[3].grid = {1001};
  bad[4].deadline = absl::Hours(2);
  bad[5].repetitions = 0;
  bad[6].kernel = "k-nothing";
  for (const SessionLaunch& launch : bad) {
    EXPECT_FALSE(session->Launch(launch, [](LaunchResult) { FAIL() << "called"; }).ok());
  }
  Awaited<LaunchResult> result;
  EXPECT_EQ(*session->Launch(Store(kernel, tensor, 1), result.callback()), 1u);
  result.Wait();
  EXPECT_EQ(session->statistics().launches, 1u);
}

TEST_F(SessionTest, TooManyQueuedLaunchesAreRefusedUntilThereIsRoom) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string kernel = Add(session.get(), "store", {kPointer, kValue});
  executors_.Hold();
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(session->Launch(Store(kernel, tensor, i), [](LaunchResult) {}).ok());
  EXPECT_EQ(GetReason(session->Launch(Store(kernel, tensor, 9), [](LaunchResult) {}).status()),
            Reason::kQuota);
  EXPECT_EQ(session->WaitForRoom(absl::Milliseconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  executors_.Release();
  EXPECT_TRUE(session->WaitForRoom(absl::Seconds(30)).ok());
  EXPECT_TRUE(session->Launch(Store(kernel, tensor, 9), [](LaunchResult) {}).ok());
}

TEST_F(SessionTest, ALaunchSeesItsArgumentsScratchAndAllocations) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  auto kernel = Kernel("store", "store", {kPointer, kValue});
  kernel->metadata.global_scratch_bytes = 128;
  kernel->metadata.global_scratch_align = 64;
  SessionLaunch launch = Store(*session->AddKernel(kernel), tensor, -7);
  launch.grid = {3, 2};
  const LaunchResult result = Run(session.get(), launch);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.printed, "stored\n");
  EXPECT_EQ(First(session.get(), tensor), -7);
  const ExecutorLaunch seen = executors_.launches().at(0);
  EXPECT_EQ(seen.sequence, 1u);
  EXPECT_EQ(seen.dimensions.grid, (std::array<uint32_t, 3>{3, 2, 1}));
  EXPECT_EQ(seen.dimensions.block, (std::array<uint32_t, 3>{128, 1, 1}));
  EXPECT_EQ(seen.global_scratch_bytes, 128u * 6);
  EXPECT_EQ(seen.global_scratch_align, 64u);
  EXPECT_EQ(seen.deadline, absl::Seconds(30));
  ASSERT_EQ(executors_.allocations().size(), 1u);
  EXPECT_EQ(executors_.allocations().begin()->second, (FakeExecutors::Range{tensor.device_address, 256}));
}

TEST_F(SessionTest, ATensorIsUnwrittenWhileTheCallerSaysSoAndTheSessionHasNotWrittenIt) {
  auto session = Open();
  const TensorInfo tensor = New(session.get()), other = New(session.get());
  SessionLaunch launch = Store(Add(session.get(), "store", {kPointer, kValue}), tensor, 1);
  launch.checks.uninitialized = true;
  launch.unwritten = {tensor.handle, "t_nothing"};
  EXPECT_EQ(GetReason(session->Launch(launch, [](LaunchResult) {}).status()), Reason::kHandle);
  launch.unwritten = {tensor.handle, other.handle};
  ASSERT_TRUE(Run(session.get(), launch).status.ok());
  EXPECT_EQ(executors_.launches().at(0).unwritten.size(), 2u);
  ASSERT_TRUE(session->Fill(other.handle, 0, 4, "1234").ok());
  ASSERT_TRUE(Run(session.get(), launch).status.ok());
  const std::vector<uint64_t> left = executors_.launches().at(1).unwritten;
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0], executors_.launches().at(0).unwritten[0]);
}

TEST_F(SessionTest, TwoHandlesOfOneKernelAreLoadedOnce) {
  auto session = Open();
  const auto kernel = Kernel("store", "store", {kPointer, kValue});
  const std::string one = *session->AddKernel(kernel), two = *session->AddKernel(kernel);
  EXPECT_NE(one, two);
  EXPECT_TRUE(session->PrepareKernel(one).ok());
  EXPECT_TRUE(session->PrepareKernel(two).ok());
  EXPECT_EQ(executors_.loads(), 1);
  EXPECT_TRUE(session->ReleaseKernel(one).ok());
  EXPECT_TRUE(session->PrepareKernel(two).ok());
  EXPECT_TRUE(session->ReleaseKernel(two).ok());
  EXPECT_TRUE(session->PrepareKernel(*session->AddKernel(kernel)).ok());
  EXPECT_EQ(executors_.loads(), 2);
}

TEST_F(SessionTest, SynchronizeReportsTheFirstFaultOnceWithItsNumberAndTensor) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string store = Add(session.get(), "store", {kPointer, kValue});
  SessionLaunch fault;
  fault.kernel = Add(session.get(), "fault", {kPointer});
  fault.grid = {1};
  fault.arguments = {TensorReference{tensor.handle, 0}};
  const auto ignore = [](LaunchResult) {};
  ASSERT_TRUE(session->Launch(Store(store, tensor, 1), ignore).ok());
  ASSERT_TRUE(session->Launch(fault, ignore).ok());
  ASSERT_TRUE(session->Launch(fault, ignore).ok());
  ASSERT_TRUE(session->Launch(Store(store, tensor, 2), ignore).ok());
  const SynchronizeResult first = Synchronize(session.get());
  EXPECT_EQ(GetReason(first.status), Reason::kIllegalAddress);
  EXPECT_EQ(first.fault.sequence, 2u);
  EXPECT_EQ(first.fault.kernel_name, "fault");
  EXPECT_EQ(first.fault.nearest_tensor, tensor.handle);
  EXPECT_EQ(first.last_sequence, 4u);
  EXPECT_EQ(first.printed, "stored\nstored\n");
  const SynchronizeResult second = Synchronize(session.get());
  EXPECT_TRUE(second.status.ok());
  EXPECT_EQ(second.printed, "");
  fault.observed = true;
  EXPECT_FALSE(Run(session.get(), fault).status.ok());
  EXPECT_TRUE(Synchronize(session.get()).status.ok()) << "its caller has seen that one";
}

TEST_F(SessionTest, ABenchmarkWarmsUpAndMeasuresEachRepetition) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  SessionLaunch launch = Store(Add(session.get(), "store", {kPointer, kValue}), tensor, 1);
  launch.repetitions = 5;
  Awaited<LaunchResult> result;
  ASSERT_TRUE(session->Benchmark(launch, 2, result.callback()).ok());
  EXPECT_EQ(result.Wait().device_times.size(), 5u);
  EXPECT_EQ(executors_.launches().at(0).repetitions, 2u);
  launch.repetitions = 10'001;
  EXPECT_EQ(GetReason(session->Benchmark(launch, 2, [](LaunchResult) {}).status()), Reason::kArgument);
  launch.repetitions = 1;
  EXPECT_EQ(GetReason(session->Benchmark(launch, 10'001, [](LaunchResult) {}).status()), Reason::kArgument);
}

// --- executors that are lost

TEST_F(SessionTest, AHungKernelCostsItsExecutorAndTheTensorsAreIntactAtTheirAddresses) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string store = Add(session.get(), "store", {kPointer, kValue});
  SessionLaunch hang;
  hang.kernel = Add(session.get(), "hang", {});
  hang.grid = {1};
  ASSERT_TRUE(Run(session.get(), Store(store, tensor, 5)).status.ok());
  const auto arenas = executors_.arenas();
  const auto allocations = executors_.allocations();
  executors_.Hold();
  Awaited<LaunchResult> hung, behind;
  ASSERT_TRUE(session->Launch(hang, hung.callback()).ok());
  ASSERT_TRUE(session->Launch(Store(store, tensor, 6), behind.callback()).ok());
  executors_.Release();
  EXPECT_EQ(GetReason(hung.Wait().status), Reason::kHungKernel);
  const LaunchResult not_run = behind.Wait();
  EXPECT_EQ(GetReason(not_run.status), Reason::kContextLost);
  EXPECT_EQ(GetDetails(not_run.status)["sequence"], "2");
  EXPECT_EQ(First(session.get(), tensor), 5);
  ASSERT_TRUE(Run(session.get(), Store(store, tensor, 7)).status.ok());
  EXPECT_EQ(First(session.get(), tensor), 7);
  EXPECT_EQ(session->statistics().executor_restarts, 1u);
  EXPECT_EQ(executors_.arenas(), arenas);
  EXPECT_EQ(executors_.allocations(), allocations);
  EXPECT_EQ(executors_.live(), 1);
  const SynchronizeResult synchronized = Synchronize(session.get());
  EXPECT_EQ(synchronized.fault.sequence, 2u);
}

TEST_F(SessionTest, AKilledExecutorIsReplacedByTheNextLaunch) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string store = Add(session.get(), "store", {kPointer, kValue});
  executors_.Hold();
  Awaited<LaunchResult> first, second;
  ASSERT_TRUE(session->Launch(Store(store, tensor, 1), first.callback()).ok());
  ASSERT_TRUE(session->Launch(Store(store, tensor, 2), second.callback()).ok());
  executors_.Kill();
  EXPECT_EQ(GetReason(first.Wait().status), Reason::kExecutorLost);
  EXPECT_EQ(GetReason(second.Wait().status), Reason::kContextLost);
  executors_.Release();
  // Meanwhile memory was made and given up.
  const TensorInfo fresh = New(session.get());
  ASSERT_TRUE(session->Free({tensor.handle}).ok());
  ASSERT_TRUE(Run(session.get(), Store(store, fresh, 3)).status.ok());
  EXPECT_EQ(executors_.allocations().size(), 1u);
  EXPECT_EQ(session->statistics().executor_restarts, 1u);
}

TEST_F(SessionTest, WhenNoReplacementCanBeStartedTheLaunchSaysSoAndTheNextOneTriesAgain) {
  auto session = Open();
  const TensorInfo tensor = New(session.get());
  const std::string store = Add(session.get(), "store", {kPointer, kValue});
  executors_.Kill();
  executors_.set_create_status(Unavailable(Reason::kUnavailable, "no process"));
  EXPECT_EQ(GetReason(Run(session.get(), Store(store, tensor, 1)).status), Reason::kUnavailable);
  ASSERT_TRUE(session->Write(tensor.handle, 0, "abcd").ok()) << "tensors need no executor";
  executors_.set_create_status(absl::OkStatus());
  EXPECT_TRUE(Run(session.get(), Store(store, tensor, 2)).status.ok());
  EXPECT_EQ(First(session.get(), tensor), 2);
}

TEST_F(SessionTest, StatisticsAndUsageTellWhatIsThere) {
  auto session = Open();
  New(session.get(), 64);
  Add(session.get(), "store", {});
  clock_.Advance(absl::Seconds(3));
  const SessionStatistics statistics = registry_->List("uid:1").at(0);
  EXPECT_EQ(statistics.tensors, 1u);
  EXPECT_EQ(statistics.tensor_bytes, 256u);
  EXPECT_EQ(statistics.kernels, 1u);
  EXPECT_EQ(statistics.age, absl::Seconds(3));
  EXPECT_EQ(statistics.idle, absl::ZeroDuration());
  EXPECT_TRUE(registry_->List("uid:2").empty());
  EXPECT_EQ(registry_->List("").size(), 1u);
  EXPECT_EQ(registry_->UsageOf("fake:0").used_bytes, 256u);
  EXPECT_EQ(registry_->UsageOf("fake:0").sessions, 1u);
}

TEST_F(SessionTest, NoDescriptorIsLeftBehind) {
  const auto descriptors = [] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
  };
  const size_t before = descriptors();
  for (int round = 0; round < 5; ++round) {
    auto session = Open();
    const TensorInfo tensor = New(session.get(), 32 * kMiB);
    EXPECT_TRUE(
        Run(session.get(), Store(Add(session.get(), "store", {kPointer, kValue}), tensor, 1)).status.ok());
    EXPECT_TRUE(session->ExportDescriptors({tensor.handle}).ok());
    EXPECT_TRUE(registry_->Close(session->id(), "uid:1").ok());
  }
  EXPECT_EQ(descriptors(), before);
}

}  // namespace
}  // namespace trun
