#include "server/device/cuda/driver_under_test.h"
#include "server/device/device_conformance.h"

namespace trun::device {
namespace {

DeviceUnderTest Cuda() {
  DeviceUnderTest device;
  device.name = OnARealGpu() ? "RealDriver" : "FakeDriver";
  device.create = [] { return CreateDeviceUnderTest(); };
  device.assemble = [](const std::string& ptx) -> absl::StatusOr<std::string> {
    if (ptx != TestData("conformance.ptx")) {
      return absl::InternalError("testdata/conformance.ptx is of another suite: run testdata/assemble.py");
    }
    return TestData("conformance.sm_90.cubin");
  };
  device.checks_allocations = false;
  device.cancels = false;
  return device;
}

INSTANTIATE_TEST_SUITE_P(Cuda, DeviceConformanceTest, ::testing::Values(Cuda()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trun::device
