// An executor whose only device is the fake one: for tests of trund's side with real processes.
#include "server/device/fake_device.h"
#include "server/executor/runtime/executor_main.h"

int main() {
  trun::DeviceRegistry devices;
  const absl::Status registered = devices.Register("fake:0", [] { return trun::device::CreateFakeDevice(); });
  trun::ExecutorLoopOptions options;
  options.scratch_address = trun::device::kFakeScratch;
  return registered.ok() ? trun::ExecutorMain(devices, options) : 1;
}
