// The suite that every Device runs: each method, each documented status.
//
// A test binary includes this header, and instantiates DeviceConformanceTest with one DeviceUnderTest for
// each device. Kernels are PTX; a device whose modules are of another level assembles them first.
#ifndef TRUN_SERVER_DEVICE_DEVICE_CONFORMANCE_H_
#define TRUN_SERVER_DEVICE_DEVICE_CONFORMANCE_H_

#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/device.h"

namespace trun::device {

struct DeviceUnderTest {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> create;
  // PTX for sm_75 to what LoadModule takes.
  std::function<absl::StatusOr<std::string>(const std::string& ptx)> assemble;
  bool checks_allocations = true;  // accesses are checked against AddAllocation
  bool cancels = true;
};

// out[thread] = thread + addend
inline constexpr char kConformancePtx[] = R"(.version 6.4
.target sm_75
.address_size 64
.visible .entry fill(.param .u64 out, .param .u32 addend)
{
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [addend];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  mul.wide.s32 %rd2, %r5, 4;
  add.s64 %rd3, %rd1, %rd2;
  add.s32 %r5, %r5, %r1;
  st.global.u32 [%rd3], %r5;
  ret;
}
.visible .entry forever(.param .u64 out)
.reqntid 32, 1, 1
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [out];
$again:
  ld.volatile.global.u32 %r1, [%rd1];
  bra $again;
}
)";

class DeviceConformanceTest : public ::testing::TestWithParam<DeviceUnderTest> {
 protected:
  static constexpr uint64_t kBase = 0x2000'0000'0000;
  static constexpr uint64_t kBytes = uint64_t{2} << 20;

  void SetUp() override {
    auto device = GetParam().create();
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = std::move(device).value();
  }

  UniqueFd Memory() {
    auto memory = device_->CreateMemory(kBytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    return memory.ok() ? std::move(memory).value() : UniqueFd();
  }

  // `count` words of the arena at `address`.
  std::vector<uint32_t> Words(uint64_t address, size_t count) {
    std::vector<uint32_t> words(count, 0xdeadbeef);
    const absl::Status read =
        device_->ReadMemory(address, absl::MakeSpan(reinterpret_cast<char*>(words.data()), 4 * count));
    EXPECT_TRUE(read.ok()) << read;
    return words;
  }

  std::unique_ptr<Module> LoadModule() {
    auto image = GetParam().assemble(kConformancePtx);
    EXPECT_TRUE(image.ok()) << image.status();
    auto module = device_->LoadModule(*image);
    EXPECT_TRUE(module.ok()) << module.status();
    return module.ok() ? std::move(module).value() : nullptr;
  }

  static std::vector<std::byte> Parameters(uint64_t out, uint32_t addend) {
    std::vector<std::byte> bytes(12);
    memcpy(bytes.data(), &out, 8);
    memcpy(bytes.data() + 8, &addend, 4);
    return bytes;
  }

  static LaunchOutcome Launch(Stream& stream, const LaunchRequest& request) {
    std::mutex mutex;
    std::condition_variable ready;
    int calls = 0;
    LaunchOutcome result;
    stream.Launch(request, [&](LaunchOutcome outcome) {
      std::lock_guard<std::mutex> lock(mutex);
      ++calls;
      result = std::move(outcome);
      ready.notify_all();
    });
    std::unique_lock<std::mutex> lock(mutex);
    ready.wait(lock, [&] { return calls > 0; });
    lock.unlock();
    stream.Synchronize();
    EXPECT_EQ(calls, 1);
    return result;
  }

  std::unique_ptr<Device> device_;
};

TEST_P(DeviceConformanceTest, AnImageThatIsNoneIsRefused) {
  for (const std::string image : {std::string(), std::string("this is no code"), std::string(64, '\0')}) {
    EXPECT_FALSE(device_->LoadModule(image).ok());
  }
}

TEST_P(DeviceConformanceTest, AnEntryThatIsNotThereIsNamedTogetherWithThoseThatAre) {
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  const auto missing = module->GetKernel("nothing");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(missing.status()), Reason::kArgument);
  EXPECT_NE(missing.status().message().find("fill"), absl::string_view::npos);
  EXPECT_EQ(module->GetKernel("").status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(module->GetKernel("fill").ok());
}

TEST_P(DeviceConformanceTest, AttributesDescribeTheParameters) {
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  const KernelAttributes& fill = (*module->GetKernel("fill"))->attributes();
  ASSERT_EQ(fill.parameters.size(), 2u);
  EXPECT_EQ(fill.parameters[0].offset, 0u);
  EXPECT_EQ(fill.parameters[0].bytes, 8u);
  EXPECT_EQ(fill.parameters[1].offset, 8u);
  EXPECT_EQ(fill.parameters[1].bytes, 4u);
  EXPECT_EQ(fill.parameter_bytes, 12u);
}

TEST_P(DeviceConformanceTest, ArenasMayNotOverlapNorBeLongerThanTheirMemory) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->address(), kBase);
  EXPECT_EQ((*arena)->bytes(), kBytes);
  EXPECT_EQ(device_->MapArena(fd, kBytes, kBase).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(device_->MapArena(fd, 2 * kBytes, kBase + 4 * kBytes).status().code(),
            absl::StatusCode::kInvalidArgument);
  arena->reset();
  EXPECT_TRUE(device_->MapArena(fd, kBytes, kBase).ok());
}

TEST_P(DeviceConformanceTest, BytesOutsideEveryArenaAreNotMoved) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::vector<char> bytes(64, 'x');
  for (const uint64_t address : {uint64_t{0x1000}, kBase - 32, kBase + kBytes - 32}) {
    EXPECT_EQ(device_->WriteMemory(address, bytes).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(device_->ReadMemory(address, absl::MakeSpan(bytes)).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(device_->FillMemory(address, 64, "ab").code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(device_->CopyMemory(kBase + 65536, address, 64).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(device_->CopyMemory(address, kBase + 65536, 64).code(), absl::StatusCode::kOutOfRange);
  }
  EXPECT_EQ(GetReason(device_->FillMemory(kBase, 64, "abc")), Reason::kArgument);
  EXPECT_EQ(GetReason(device_->FillMemory(kBase, 64, "")), Reason::kArgument);
  EXPECT_EQ(GetReason(device_->CopyMemory(kBase, kBase + 32, 64)), Reason::kArgument);
  EXPECT_EQ(Words(kBase, 16), std::vector<uint32_t>(16, 0)) << "fresh memory is zero";
}

TEST_P(DeviceConformanceTest, BytesWrittenFilledAndCopiedAreReadBackAlsoThroughAnotherMapping) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::vector<char> pinned(4096);
  for (size_t i = 0; i < pinned.size(); ++i) pinned[i] = static_cast<char>(i * 7);
  EXPECT_TRUE(device_->PinMemory(absl::MakeSpan(pinned)).ok());
  ASSERT_TRUE(device_->WriteMemory(kBase + 3, pinned).ok());
  device_->UnpinMemory(absl::MakeSpan(pinned));
  ASSERT_TRUE(device_->FillMemory(kBase + 8192, 24000, "abcdefgh").ok());
  ASSERT_TRUE(device_->FillMemory(kBase + 40961, 30, "xyz").ok());
  ASSERT_TRUE(device_->CopyMemory(kBase + (1 << 20), kBase, 65536).ok());
  arena->reset();
  arena = device_->MapArena(fd, kBytes, kBase + 4 * kBytes);
  ASSERT_TRUE(arena.ok()) << arena.status();
  for (const uint64_t base : {kBase + 4 * kBytes, kBase + 4 * kBytes + (1 << 20)}) {
    std::vector<char> back(4096);
    ASSERT_TRUE(device_->ReadMemory(base + 3, absl::MakeSpan(back)).ok());
    EXPECT_EQ(back, pinned);
    std::string filled(24000, '?');
    ASSERT_TRUE(device_->ReadMemory(base + 8192, absl::MakeSpan(filled)).ok());
    for (size_t i = 0; i < filled.size(); ++i) ASSERT_EQ(filled[i], "abcdefgh"[i % 8]) << i;
    std::string odd(32, '?');
    ASSERT_TRUE(device_->ReadMemory(base + 40960, absl::MakeSpan(odd)).ok());
    EXPECT_EQ(odd, std::string("\0xyzxyzxyzxyzxyzxyzxyzxyzxyzxyz\0", 32));
  }
}

TEST_P(DeviceConformanceTest, TensorMapsAreMadeOrRefusedWithTheReason) {
  TensorMapFields fields;
  fields.address = kBase;
  fields.element = 6;
  fields.swizzle = 3;
  fields.extents = {64, 64};
  fields.strides = {128};
  fields.box = {64, 32};
  const auto map = device_->EncodeTensorMap(fields);
  if (device_->info().target.arch < 90) {
    EXPECT_EQ(GetReason(map.status()), Reason::kUnsupportedTarget);
    return;
  }
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_NE(*map, TensorMapBytes());
  TensorMapFields odd = fields;
  odd.address += 8;
  EXPECT_EQ(GetReason(device_->EncodeTensorMap(odd).status()), Reason::kArgument);
  odd = fields;
  odd.box.pop_back();
  EXPECT_EQ(GetReason(device_->EncodeTensorMap(odd).status()), Reason::kArgument);
}

TEST_P(DeviceConformanceTest, AllocationsLieInOneArenaAndDoNotOverlap) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_TRUE(device_->AddAllocation(1, kBase, 256).ok());
  EXPECT_EQ(device_->AddAllocation(2, kBase + 128, 256).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(device_->AddAllocation(3, kBase + kBytes - 16, 32).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(device_->AddAllocation(4, 0x1000, 32).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(device_->AddAllocation(5, kBase + 256, 256).ok());
  EXPECT_TRUE(device_->RemoveAllocation(1).ok());
  EXPECT_EQ(device_->RemoveAllocation(1).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(device_->RemoveAllocation(99).code(), absl::StatusCode::kNotFound);
}

TEST_P(DeviceConformanceTest, RequestsThatDoNotFitAreRefusedThroughDone) {
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  const Kernel* fill = *module->GetKernel("fill");
  const Kernel* forever = *module->GetKernel("forever");
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  const std::vector<std::byte> parameters = Parameters(kBase, 0);
  const auto refused = [&](LaunchRequest request, Reason reason) {
    const LaunchOutcome outcome = Launch(**stream, request);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument) << outcome.status;
    EXPECT_EQ(GetReason(outcome.status), reason) << outcome.status;
    EXPECT_FALSE(outcome.context_lost);
  };
  LaunchRequest good;
  good.kernel = fill;
  good.parameters = parameters;
  LaunchRequest request = good;
  request.dimensions.grid = {0, 1, 1};
  refused(request, Reason::kLaunchShape);
  request = good;
  request.dimensions.grid = {1, 70000, 1};
  refused(request, Reason::kLaunchShape);
  request = good;
  request.dimensions.block = {2048, 1, 1};
  refused(request, Reason::kLaunchShape);
  request = good;
  request.dimensions.dynamic_shared_bytes = 1 << 20;
  refused(request, Reason::kLaunchShape);
  request = good;
  request.parameters = absl::MakeConstSpan(parameters).first(8);
  refused(request, Reason::kArgument);
  request = good;
  request.kernel = forever;
  request.dimensions.block = {64, 1, 1};
  request.parameters = absl::MakeConstSpan(parameters).first(8);
  refused(request, Reason::kLaunchShape);
}

TEST_P(DeviceConformanceTest, LaunchesOfAStreamRunInOrderAndWriteTheArena) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_TRUE(device_->AddAllocation(1, kBase, 1024).ok());
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  LaunchRequest request;
  request.kernel = *module->GetKernel("fill");
  request.dimensions.grid = {4, 1, 1};
  request.dimensions.block = {64, 1, 1};
  std::vector<uint32_t> order;
  for (uint32_t addend = 0; addend < 10; ++addend) {
    const std::vector<std::byte> parameters = Parameters(kBase, addend);
    request.parameters = parameters;  // copied by Launch
    (*stream)->Launch(request, [&order, addend](LaunchOutcome outcome) {
      EXPECT_TRUE(outcome.status.ok()) << outcome.status;
      order.push_back(addend);
    });
  }
  (*stream)->Synchronize();
  EXPECT_EQ(order, std::vector<uint32_t>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  LaunchRequest last = request;
  const std::vector<std::byte> parameters = Parameters(kBase, 100);
  last.parameters = parameters;
  EXPECT_TRUE(Launch(**stream, last).status.ok());
  const std::vector<uint32_t> result = Words(kBase, 256);
  for (uint32_t i = 0; i < 256; ++i) EXPECT_EQ(result[i], i + 100);
}

TEST_P(DeviceConformanceTest, AStorePastTheAllocationIsReportedAndTheRestOfTheArenaIsUntouched) {
  if (!GetParam().checks_allocations) GTEST_SKIP() << "the device does not check allocations";
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok());
  ASSERT_TRUE(device_->AddAllocation(7, kBase, 63 * 4).ok());
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  LaunchRequest request;
  request.kernel = *module->GetKernel("fill");
  request.dimensions.block = {64, 1, 1};
  const std::vector<std::byte> parameters = Parameters(kBase, 0);
  request.parameters = parameters;
  const LaunchOutcome outcome = Launch(**stream, request);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(outcome.fault.address, kBase + 63 * 4);
  EXPECT_EQ(outcome.fault.thread[0], 63u);
  EXPECT_EQ(outcome.fault.nearest_allocation, 7u);
  EXPECT_EQ(outcome.fault.nearest_allocation_offset, 63 * 4);
  EXPECT_EQ(outcome.fault.nearest_allocation_bytes, 63u * 4);
  EXPECT_TRUE(outcome.fault.is_write);
  EXPECT_EQ(Words(kBase + 63 * 4, 1)[0], 0u);
}

TEST_P(DeviceConformanceTest, AnEndlessKernelEndsAtItsDeadline) {
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok());
  ASSERT_TRUE(device_->AddAllocation(1, kBase, 1024).ok());
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  LaunchRequest request;
  request.kernel = *module->GetKernel("forever");
  request.dimensions.block = {32, 1, 1};
  std::vector<std::byte> parameters(8);
  memcpy(parameters.data(), &kBase, 8);
  request.parameters = parameters;
  request.deadline = absl::Milliseconds(50);
  const LaunchOutcome outcome = Launch(**stream, request);
  EXPECT_EQ(GetReason(outcome.status), Reason::kHungKernel) << outcome.status;
}

TEST_P(DeviceConformanceTest, CancelEndsWhatRunsAndWhatWaits) {
  if (!GetParam().cancels) {
    auto stream = device_->CreateStream();
    ASSERT_TRUE(stream.ok());
    EXPECT_EQ((*stream)->Cancel().code(), absl::StatusCode::kUnimplemented);
    return;
  }
  const UniqueFd fd = Memory();
  auto arena = device_->MapArena(fd, kBytes, kBase);
  ASSERT_TRUE(arena.ok());
  ASSERT_TRUE(device_->AddAllocation(1, kBase, 1024).ok());
  auto module = LoadModule();
  ASSERT_NE(module, nullptr);
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  LaunchRequest request;
  request.kernel = *module->GetKernel("forever");
  request.dimensions.block = {32, 1, 1};
  std::vector<std::byte> parameters(8);
  memcpy(parameters.data(), &kBase, 8);
  request.parameters = parameters;
  int cancelled = 0;
  for (int i = 0; i < 3; ++i) {
    (*stream)->Launch(request, [&](LaunchOutcome outcome) {
      cancelled += GetReason(outcome.status) == Reason::kCancelled;
    });
  }
  EXPECT_TRUE((*stream)->Cancel().ok());
  (*stream)->Synchronize();
  EXPECT_EQ(cancelled, 3);
  // The stream goes on.
  LaunchRequest fill;
  fill.kernel = *module->GetKernel("fill");
  fill.dimensions.block = {64, 1, 1};
  const std::vector<std::byte> fill_parameters = Parameters(kBase, 0);
  fill.parameters = fill_parameters;
  EXPECT_TRUE(Launch(**stream, fill).status.ok());
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceConformanceTest);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_DEVICE_CONFORMANCE_H_
