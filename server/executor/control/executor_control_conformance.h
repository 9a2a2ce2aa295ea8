// What every ExecutorControl has to do: a case for each method, documented status and REQUIRES. An
// implementation's test instantiates the suite with a way to make one (INSTANTIATE_TEST_SUITE_P(...,
// ExecutorControlConformance, ...)).
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_CONFORMANCE_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "server/device/fake_device.h"
#include "server/device/shared_memory.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/executor_control.h"

namespace trun {

struct ExecutorControlSubject {
  std::string name;
  std::function<std::shared_ptr<ExecutorFactory>()> make;
  std::string device;
  // Modules with one kernel each, in what the device loads.
  std::string store;        // "store"(ptr, u32 value): value at ptr + 4·i for program i, by one thread
  std::string hang;         // "hang"(): never ends
  std::string unsupported;  // UNIMPLEMENTED kUnsupportedInstruction; empty: the device has none
  std::string malformed;    // INVALID_ARGUMENT kInvalidIr
  uint32_t block = 1;       // threads of "store" and "hang"
};

inline std::ostream& operator<<(std::ostream& out, const ExecutorControlSubject& subject) {
  return out << subject.name;
}

class ExecutorControlConformance : public ::testing::TestWithParam<ExecutorControlSubject> {
 protected:
  static constexpr uint64_t kArenaBytes = 4 << 20;

  void SetUp() override {
    factory_ = GetParam().make();
    auto executor = factory_->Create(GetParam().device, "s-conformance");
    ASSERT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
    memory_ = *device::CreateSealedMemory(kArenaBytes);
    mapping_ = *device::MappedMemory::Map(memory_, kArenaBytes);
    static uint64_t next = device::kFakeAddresses;
    address_ = next;
    next += 2 * kArenaBytes;
  }

  // An arena with one allocation of 1 KiB at 4 KiB.
  void Map() {
    ASSERT_TRUE(executor_->MapArena(1, memory_, kArenaBytes, address_).ok());
    ASSERT_TRUE(executor_->AddAllocation(7, address_ + 4096, 1024).ok());
  }
  ExecutorLaunch Store(uint64_t sequence, uint64_t address, uint32_t value, uint32_t programs = 1) {
    ExecutorLaunch launch = Plain(sequence, 1);
    launch.dimensions.grid = {programs, 1, 1};
    launch.arguments = {address, std::string(reinterpret_cast<const char*>(&value), 4)};
    return launch;
  }
  ExecutorLaunch Plain(uint64_t sequence, uint64_t kernel) {
    ExecutorLaunch launch;
    launch.sequence = sequence;
    launch.kernel = kernel;
    launch.dimensions.block = {GetParam().block, 1, 1};
    return launch;
  }
  uint32_t Word(uint64_t offset) const {
    uint32_t word = 0;
    std::memcpy(&word, mapping_.data() + offset, 4);
    return word;
  }
  ExecutorLaunchResult Run(ExecutorLaunch launch) {
    Awaited<ExecutorLaunchResult> result;
    executor_->Launch(std::move(launch), result.callback());
    return result.Wait();
  }

  std::shared_ptr<ExecutorFactory> factory_;
  std::unique_ptr<ExecutorControl> executor_;
  UniqueFd memory_;
  device::MappedMemory mapping_;
  uint64_t address_ = 0;
};

TEST_P(ExecutorControlConformance, ADeviceThatIsNoneIsNotFound) {
  EXPECT_EQ(factory_->Create("nothing:9", "s").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(ExecutorControlConformance, TheFactoryListsItsDevice) {
  const auto devices = factory_->Devices();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_EQ(devices[0].device, GetParam().device);
  EXPECT_TRUE(devices[0].usable.ok()) << devices[0].usable;
  EXPECT_EQ(devices[0].info.name, executor_->device_info().name);
}

TEST_P(ExecutorControlConformance, ThingsThatAreNotThereAreNotFound) {
  EXPECT_EQ(executor_->UnmapArena(9).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(executor_->RemoveAllocation(9).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(executor_->UnloadKernel(9).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(Run(Plain(1, 9)).status), Reason::kHandle);
  EXPECT_TRUE(executor_->health().ok());
}

TEST_P(ExecutorControlConformance, WhatIsThereAlreadyIsRefused) {
  Map();
  EXPECT_EQ(executor_->MapArena(1, memory_, kArenaBytes, address_).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(executor_->MapArena(2, memory_, kArenaBytes, address_).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(executor_->AddAllocation(8, address_ + 4096 + 512, 16).code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  EXPECT_EQ(executor_->LoadKernel(1, GetParam().store, "store").status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_P(ExecutorControlConformance, AnArenaThatItMakesHoldsItsBytesForTheNextExecutorToo) {
  const UniqueFd staging = *device::CreateSealedMemory(8192);
  const device::MappedMemory ours = *device::MappedMemory::Map(staging, 8192);
  const auto move = [&](ExecutorControl* executor, uint64_t address, uint64_t bytes, bool to_device) {
    Awaited<absl::Status> done;
    executor->Transfer({3, 0, bytes}, address, to_device, done.callback());
    return done.Wait();
  };
  const auto map_staging = [&](ExecutorControl* executor) {
    Awaited<absl::StatusOr<std::string>> done;
    executor->MapStaging(3, staging, 8192, done.callback());
    return done.Wait();
  };
  const auto unmap_staging = [&](ExecutorControl* executor, uint64_t area) {
    Awaited<absl::Status> done;
    executor->UnmapStaging(area, done.callback());
    return done.Wait();
  };
  auto memory = executor_->CreateArena(1, kArenaBytes, address_);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE(memory->valid());
  EXPECT_EQ(executor_->CreateArena(2, kArenaBytes, address_).status().code(),
            absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(map_staging(executor_.get()).ok());
  std::memset(ours.data(), 'a', 100);
  EXPECT_TRUE(move(executor_.get(), address_ + 4096, 100, true).ok());
  EXPECT_TRUE(executor_->Fill(address_ + 4096, 10, "xy").ok());
  EXPECT_TRUE(executor_->Copy(address_ + 8192, address_ + 4096, 100).ok());
  EXPECT_EQ(move(executor_.get(), address_ + kArenaBytes - 50, 100, true).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(executor_->Fill(0x1000, 8, "x").code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(executor_->Copy(0x1000, address_, 8).code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(executor_->health().ok());
  executor_ = *factory_->Create(GetParam().device, "s-next");
  ASSERT_TRUE(executor_->MapArena(1, *memory, kArenaBytes, address_).ok());
  ASSERT_TRUE(map_staging(executor_.get()).ok());
  ASSERT_TRUE(move(executor_.get(), address_ + 8192, 100, false).ok());
  EXPECT_EQ(std::string(ours.data(), 100), "xyxyxyxyxy" + std::string(90, 'a'));
  EXPECT_EQ(unmap_staging(executor_.get(), 4).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(unmap_staging(executor_.get(), 3).ok());
  EXPECT_TRUE(map_staging(executor_.get()).ok()) << "its number is free again";
}

TEST_P(ExecutorControlConformance, AnExecutorThatWasExpectedIsAsGoodAsAnyOther) {
  factory_->Expect("no such device");
  for (int round = 0; round < 3; ++round) {
    factory_->Expect(GetParam().device);
    factory_->Expect(GetParam().device);
    executor_.reset();
    auto next = factory_->Create(GetParam().device, "s-next");
    ASSERT_TRUE(next.ok()) << next.status();
    executor_ = *std::move(next);
    EXPECT_TRUE(executor_->health().ok());
    EXPECT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  }
}

TEST_P(ExecutorControlConformance, AModuleThatDoesNotParseIsInvalidIr) {
  const absl::Status status = executor_->LoadKernel(1, GetParam().malformed, "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
  EXPECT_TRUE(executor_->health().ok());
}

TEST_P(ExecutorControlConformance, AnUnknownInstructionIsUnsupported) {
  if (GetParam().unsupported.empty()) GTEST_SKIP();
  const absl::Status status = executor_->LoadKernel(1, GetParam().unsupported, "").status();
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedInstruction);
  EXPECT_EQ(GetDetails(status).count("line"), 1u);
}

TEST_P(ExecutorControlConformance, AKernelThatIsNotInTheModuleIsNotFound) {
  EXPECT_EQ(executor_->LoadKernel(1, GetParam().store, "other").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(ExecutorControlConformance, ALoadedKernelTellsItsParameters) {
  const auto attributes = executor_->LoadKernel(1, GetParam().store, "store");
  ASSERT_TRUE(attributes.ok()) << attributes.status();
  ASSERT_EQ(attributes->parameters.size(), 2u);
  EXPECT_EQ(attributes->parameters[0].bytes, 8u);
  EXPECT_EQ(attributes->parameters[1].bytes, 4u);
  EXPECT_EQ(attributes->parameters[1].offset, 8u);
  EXPECT_EQ(attributes->name, "store");
}

TEST_P(ExecutorControlConformance, ALaunchWritesIntoTheArenaItsCallerMapsToo) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  const ExecutorLaunchResult result = Run(Store(1, address_ + 4096, 0xabcd, 3));
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.device_times.size(), 1u);
  EXPECT_EQ(Word(4096), 0xabcdu);
  EXPECT_EQ(Word(4096 + 8), 0xabcdu);
  EXPECT_EQ(Word(4096 + 12), 0u);
}

TEST_P(ExecutorControlConformance, EachRepetitionHasItsTime) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  ExecutorLaunch launch = Store(1, address_ + 4096, 5);
  launch.repetitions = 4;
  const ExecutorLaunchResult result = Run(std::move(launch));
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.device_times.size(), 4u);
}

TEST_P(ExecutorControlConformance, LaunchesRunInTheOrderOfTheCalls) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  std::vector<Awaited<ExecutorLaunchResult>> results(50);
  Awaited<absl::Status> synchronized;
  for (uint32_t i = 0; i < 50; ++i)
    executor_->Launch(Store(i + 1, address_ + 4096, i), results[i].callback());
  executor_->Synchronize(synchronized.callback());
  EXPECT_TRUE(synchronized.Wait().ok());
  EXPECT_EQ(Word(4096), 49u);
  for (auto& result : results) {
    EXPECT_EQ(result.calls(), 1) << "Synchronize came before a launch it waits for";
    EXPECT_TRUE(result.Wait().status.ok());
  }
}

TEST_P(ExecutorControlConformance,
       AStoreOutsideTheAllocationsIsAFaultThatNamesTheNearestAndCostsNothingElse) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  const ExecutorLaunchResult result = Run(Store(1, address_ + 4096 + 1024, 1));
  EXPECT_EQ(GetReason(result.status), Reason::kIllegalAddress) << result.status;
  EXPECT_EQ(result.fault.address, address_ + 4096 + 1024);
  EXPECT_EQ(result.fault.nearest_allocation, 7u);
  EXPECT_EQ(result.fault.nearest_allocation_offset, 1024);
  EXPECT_FALSE(result.fault.instruction.empty());
  EXPECT_TRUE(executor_->health().ok());
  EXPECT_TRUE(Run(Store(2, address_ + 4096, 2)).status.ok());
  EXPECT_EQ(Word(4096), 2u);
}

TEST_P(ExecutorControlConformance, ARemovedAllocationIsSeenByTheNextLaunchOnly) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  Awaited<ExecutorLaunchResult> before, after;
  executor_->Launch(Store(1, address_ + 4096, 1), before.callback());
  ASSERT_TRUE(executor_->RemoveAllocation(7).ok());
  executor_->Launch(Store(2, address_ + 4096, 2), after.callback());
  EXPECT_TRUE(before.Wait().status.ok());
  EXPECT_FALSE(after.Wait().status.ok());
  EXPECT_EQ(Word(4096), 1u);
}

TEST_P(ExecutorControlConformance, AHungKernelEndsTheExecutorAndWhatIsQueuedBehindItIsToldWhichLaunchDidIt) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  ASSERT_TRUE(executor_->LoadKernel(2, GetParam().hang, "hang").ok());
  Awaited<absl::Status> lost;
  executor_->OnLost(lost.callback());
  ExecutorLaunch hang = Plain(1, 2);
  hang.deadline = absl::Milliseconds(50);
  Awaited<ExecutorLaunchResult> hung, behind;
  executor_->Launch(std::move(hang), hung.callback());
  executor_->Launch(Store(2, address_ + 4096, 9), behind.callback());
  EXPECT_EQ(GetReason(hung.Wait().status), Reason::kHungKernel);
  const absl::Status status = behind.Wait().status;
  EXPECT_EQ(GetReason(status), Reason::kContextLost) << status;
  EXPECT_EQ(GetDetails(status)["sequence"], "1");
  EXPECT_EQ(Word(4096), 0u);
  EXPECT_FALSE(lost.Wait().ok());
  EXPECT_FALSE(executor_->health().ok());
  EXPECT_FALSE(Run(Store(3, address_ + 4096, 9)).status.ok());
}

TEST_P(ExecutorControlConformance, DestroyingItCancelsWhatIsQueued) {
  ASSERT_TRUE(executor_->LoadKernel(2, GetParam().hang, "hang").ok());
  Awaited<ExecutorLaunchResult> running, queued;
  Awaited<absl::Status> synchronized;
  executor_->Launch(Plain(1, 2), running.callback());
  executor_->Launch(Plain(2, 2), queued.callback());
  executor_->Synchronize(synchronized.callback());
  executor_.reset();
  EXPECT_EQ(running.calls(), 1);
  EXPECT_EQ(queued.Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(synchronized.Wait().code(), absl::StatusCode::kCancelled);
}

TEST_P(ExecutorControlConformance, AnUnmappedArenaCanBeMappedAgain) {
  Map();
  ASSERT_TRUE(executor_->RemoveAllocation(7).ok());
  ASSERT_TRUE(executor_->UnmapArena(1).ok());
  EXPECT_TRUE(executor_->MapArena(1, memory_, kArenaBytes, address_).ok());
}

TEST_P(ExecutorControlConformance, ForeignMemoryThatIsNoneIsRefusedAndCostsNothing) {
  Map();
  const absl::Status status = executor_->MapForeign(2, std::string(64, 'x'), kArenaBytes).status();
  EXPECT_TRUE(absl::IsUnimplemented(status) || absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(executor_->UnmapArena(2).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(executor_->health().ok());
}

TEST_P(ExecutorControlConformance, AKernelUnloadedBehindItsLaunchStillRuns) {
  Map();
  ASSERT_TRUE(executor_->LoadKernel(1, GetParam().store, "store").ok());
  Awaited<ExecutorLaunchResult> result;
  executor_->Launch(Store(1, address_ + 4096, 3), result.callback());
  ASSERT_TRUE(executor_->UnloadKernel(1).ok());
  EXPECT_TRUE(result.Wait().status.ok());
  EXPECT_EQ(Word(4096), 3u);
  EXPECT_EQ(executor_->UnloadKernel(1).code(), absl::StatusCode::kNotFound);
}

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_CONFORMANCE_H_
