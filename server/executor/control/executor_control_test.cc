// The conformance suite over every executor there is.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/emulator_device.h"
#include "server/device/fake_device.h"
#include "server/device/shared_memory.h"
#include "server/executor/control/canary/canary.h"
#include "server/executor/control/executor_control_conformance.h"
#include "server/executor/control/fake_executor.h"
#include "server/executor/control/in_process_executor.h"
#include "server/executor/control/subprocess_executor_factory.h"

namespace trun {
namespace {

constexpr char kStorePtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry store(
  .param .u64 store_param_0,
  .param .u32 store_param_1
)
.reqntid 32, 1, 1
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [store_param_0];
  ld.param.u32 %r1, [store_param_1];
  mov.u32 %r2, %ctaid.x;
  mul.wide.u32 %rd2, %r2, 4;
  add.s64 %rd3, %rd1, %rd2;
  mov.u32 %r3, %tid.x;
  setp.eq.s32 %p1, %r3, 0;
  @%p1 st.global.b32 [%rd3], %r1;
  ret;
}
)";
constexpr char kHangPtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry hang()
.reqntid 32, 1, 1
{
$L:
  bra.uni $L;
}
)";
constexpr char kUnsupportedPtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry bad()
{
  frobnicate.b32 %r1, %r2;
  ret;
}
)";

// Owns what the factory needs.
template <typename Factory, typename Needs>
std::shared_ptr<ExecutorFactory> Owning(std::shared_ptr<Needs> needs, std::unique_ptr<Factory> factory) {
  Factory* const pointer = factory.get();
  return std::shared_ptr<ExecutorFactory>(
      pointer, [needs, owned = std::shared_ptr<Factory>(std::move(factory))](ExecutorFactory*) {});
}

void Set(device::KernelAttributes* attributes, const std::string& name, std::vector<uint32_t> sizes) {
  attributes->name = name;
  for (const uint32_t bytes : sizes) {
    attributes->parameters.push_back({attributes->parameter_bytes, bytes, bytes});
    attributes->parameter_bytes += bytes;
  }
}

std::shared_ptr<ExecutorFactory> MakeFake() {
  auto fakes = std::make_shared<FakeExecutors>();
  device::KernelAttributes store, hang;
  Set(&store, "store", {8, 4});
  Set(&hang, "hang", {});
  fakes->SetKernel("store image", store, [](const ExecutorLaunch& launch, FakeExecutors* executors) {
    ExecutorLaunchResult result;
    const uint64_t base = std::get<uint64_t>(launch.arguments[0]);
    for (uint32_t i = 0; i < launch.dimensions.grid[0]; ++i) {
      const uint64_t address = base + 4 * i;
      bool live = false;
      for (const auto& [id, range] : executors->launch_allocations()) {
        live = live || (address >= range.address && address + 4 <= range.address + range.bytes);
        result.fault.nearest_allocation = id;
        result.fault.nearest_allocation_offset = static_cast<int64_t>(address - range.address);
      }
      if (!live) {
        result.status = FailedPrecondition(Reason::kIllegalAddress, "outside");
        result.fault.address = address;
        result.fault.instruction = "store";
        return result;
      }
      std::memcpy(executors->At(address, 4), std::get<std::string>(launch.arguments[1]).data(), 4);
    }
    return result;
  });
  fakes->SetKernel("hang image", hang, [](const ExecutorLaunch& launch, FakeExecutors* executors) {
    ExecutorLaunchResult result;
    result.status = executors->AwaitEnd(launch.deadline)
                        ? MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the session ended")
                        : DeadlineExceeded(Reason::kHungKernel, "hangs");
    return result;
  });
  auto factory = std::make_unique<FakeExecutorFactory>(fakes.get());
  return Owning(fakes, std::move(factory));
}

std::shared_ptr<ExecutorFactory> MakeInProcess(const std::string& device, DeviceRegistry::Factory make) {
  auto devices = std::make_shared<DeviceRegistry>();
  EXPECT_TRUE(devices->Register(device, std::move(make)).ok());
  auto factory = std::make_unique<InProcessExecutorFactory>(devices.get(), std::vector<std::string>{device},
                                                            SocketExecutorOptions(), device::kFakeScratch);
  return Owning(devices, std::move(factory));
}

std::string Binary(const std::string& name) {
  const auto tests = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return (tests.parent_path() / "bin" / name).string();
}

std::shared_ptr<ExecutorFactory> MakeSubprocess(const ExecutorCommand& command) {
  SubprocessExecutorFactoryOptions options;
  options.devices = {command};
  options.stderr_fd = 2;
  auto factory = SubprocessExecutorFactory::Create(options);
  EXPECT_TRUE(factory.ok()) << factory.status();
  return *std::move(factory);
}

std::vector<ExecutorControlSubject> Subjects() {
  const auto on_fake_device = [](const std::string& name,
                                 std::function<std::shared_ptr<ExecutorFactory>()> make) {
    return ExecutorControlSubject{name,          std::move(make), "fake:0", "store store 8 4",
                                  "hang hang\n", "unsupported",   "broken", 1};
  };
  const auto on_emulator = [](const std::string& name,
                              std::function<std::shared_ptr<ExecutorFactory>()> make) {
    return ExecutorControlSubject{name,     std::move(make), "emulator:0",        kStorePtx,
                                  kHangPtx, kUnsupportedPtx, "this is not PTX {", 32};
  };
  return {
      {"Fake", MakeFake, "fake:0", "store image", "hang image", "", "no image", 1},
      on_fake_device("InProcess",
                     [] { return MakeInProcess("fake:0", [] { return device::CreateFakeDevice(); }); }),
      on_fake_device("Subprocess",
                     [] { return MakeSubprocess({"fake:0", {Binary("fake_device_executor")}}); }),
      on_emulator("InProcessEmulator",
                  [] {
                    return MakeInProcess("emulator:0",
                                         [] { return device::CreateEmulatorDevice({80, 2, 0}); });
                  }),
      on_emulator(
          "SubprocessEmulator",
          [] { return MakeSubprocess(EmulatorExecutorCommand(Binary("trun-executor"), 0, 80, 2, 0)); }),
  };
}

// Thread i stores to its first parameter what words i and 32 + i of its scratch memory hold, and behind that
// i.
constexpr char kScratchPtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry scratch(
  .param .u64 out,
  .param .u64 scratch
)
.reqntid 32, 1, 1
{
  .reg .b32 %r<5>;
  .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [scratch];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.u32 %r2, [%rd4];
  ld.global.u32 %r3, [%rd4+128];
  or.b32 %r2, %r2, %r3;
  add.s64 %rd4, %rd1, %rd3;
  st.global.b32 [%rd4], %r2;
  st.global.b32 [%rd4+128], %r1;
  ret;
}
)";

// What a process holds that is memory, and its descriptors.
std::multiset<std::string> Held(int64_t pid) {
  std::multiset<std::string> held;
  for (const auto& entry : std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd"))) {
    std::error_code gone;
    held.insert(std::filesystem::read_symlink(entry.path(), gone).string());
  }
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (const size_t at = line.find("/memfd:"); at != std::string::npos) held.insert(line.substr(at));
  }
  return held;
}

TEST(CanaryTest, LeavesASpareWithOneScratchMemoryHoweverOftenItRunsAndNothingThatASessionSees) {
  auto factory = MakeSubprocess(EmulatorExecutorCommand(Binary("trun-executor"), 0, 80, 2, 0));
  auto spare = factory->Create("emulator:0", "");
  ASSERT_TRUE(spare.ok()) << spare.status();
  const std::multiset<std::string> before = Held((*spare)->pid());
  ASSERT_TRUE(RunCanary(spare->get(), absl::Seconds(60)).ok());
  const std::multiset<std::string> once = Held((*spare)->pid());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(RunCanary(spare->get(), absl::Seconds(60)).ok());
  EXPECT_EQ(Held((*spare)->pid()), once);
  EXPECT_EQ(once.size(), before.size() + 3) << "a memory file, mapped for the kernel and for clearing it";
  EXPECT_EQ(once.count("/memfd:trun-arena (deleted)"), 3u);

  auto* const socket = dynamic_cast<SocketExecutor*>(spare->get());
  ASSERT_NE(socket, nullptr);
  ASSERT_TRUE(socket->Hello("emulator:0", "s-1").ok()) << "a session takes it";
  constexpr uint64_t kBytes = 2 << 20;
  const UniqueFd memory = *device::CreateSealedMemory(kBytes);
  const device::MappedMemory mapping = *device::MappedMemory::Map(memory, kBytes);
  std::memset(mapping.data(), 0xff, 256);
  ASSERT_TRUE(socket->MapArena(1, memory, kBytes, device::kFakeAddresses).ok());
  ASSERT_TRUE(socket->AddAllocation(7, device::kFakeAddresses, 256).ok());
  ASSERT_TRUE(socket->LoadKernel(1, kScratchPtx, "scratch").ok());
  ExecutorLaunch launch;
  launch.sequence = 1;
  launch.kernel = 1;
  launch.dimensions.block = {32, 1, 1};
  launch.arguments = {device::kFakeAddresses};
  launch.global_scratch_bytes = 256;
  Awaited<ExecutorLaunchResult> result;
  socket->Launch(std::move(launch), result.callback());
  const ExecutorLaunchResult done = result.Wait();
  ASSERT_TRUE(done.status.ok()) << done.status;
  for (uint32_t i = 0; i < 32; ++i) {
    uint32_t read = 1, id = 0;
    std::memcpy(&read, mapping.data() + 4 * i, 4);
    std::memcpy(&id, mapping.data() + 128 + 4 * i, 4);
    EXPECT_EQ(id, i) << "the kernel ran";
    EXPECT_EQ(read, 0u) << "what the canary had stored there";
  }
}

INSTANTIATE_TEST_SUITE_P(Executors, ExecutorControlConformance, ::testing::ValuesIn(Subjects()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trun
