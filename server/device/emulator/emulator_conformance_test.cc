#include <sys/mman.h>
#include <unistd.h>

#include "server/device/device_conformance.h"
#include "server/device/emulator/emulator_device.h"

namespace trun::device {
namespace {

DeviceUnderTest Emulator(int arch) {
  DeviceUnderTest device;
  device.name = "Sm" + std::to_string(arch);
  device.create = [arch] {
    EmulatorOptions options;
    options.arch = arch;
    return CreateEmulatorDevice(options);
  };
  device.assemble = [](const std::string& ptx) { return absl::StatusOr<std::string>(ptx); };
  return device;
}

INSTANTIATE_TEST_SUITE_P(Emulator, DeviceConformanceTest,
                         ::testing::Values(Emulator(75), Emulator(80), Emulator(90), Emulator(120)),
                         [](const auto& info) { return info.param.name; });

TEST(EmulatorDeviceTest, AnArchitectureThatItDoesNotHaveIsRefused) {
  EmulatorOptions options;
  options.arch = 70;
  const auto device = CreateEmulatorDevice(options);
  EXPECT_EQ(GetReason(device.status()), Reason::kUnsupportedTarget);
}

TEST(EmulatorDeviceTest, MemoryThatCouldShrinkIsRefused) {
  auto device = CreateEmulatorDevice(EmulatorOptions());
  ASSERT_TRUE(device.ok());
  UniqueFd fd(memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
  const auto arena = (*device)->MapArena(fd, 4096, 0x2000'0000'0000);
  EXPECT_EQ(arena.status().code(), absl::StatusCode::kInvalidArgument) << arena.status();
}

}  // namespace
}  // namespace trun::device
