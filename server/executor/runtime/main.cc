// trun-executor: owns one device context and runs the launches of one session. Started by trund:
//   trun-executor --device=emulator:0 --arch=80 [--threads=N] [--memory=BYTES]
#include <cstdio>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/device/emulator/emulator_device.h"
#include "server/executor/runtime/executor_main.h"

namespace trun {
namespace {

int Main(int argc, char** argv) {
  std::string device;
  device::EmulatorOptions emulator;
  for (int i = 1; i < argc; ++i) {
    absl::string_view option = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&option, "--device=")) {
      device = std::string(option);
    } else if (absl::ConsumePrefix(&option, "--arch=")) {
      good = absl::SimpleAtoi(option, &emulator.arch);
    } else if (absl::ConsumePrefix(&option, "--threads=")) {
      good = absl::SimpleAtoi(option, &emulator.threads);
    } else if (absl::ConsumePrefix(&option, "--memory=")) {
      good = absl::SimpleAtoi(option, &emulator.memory_bytes);
    } else {
      good = false;
    }
    if (!good) {
      std::fprintf(stderr, "trun-executor: bad option %s\n", argv[i]);
      return 2;
    }
  }
  DeviceRegistry devices;
  const absl::Status registered =
      devices.Register(device, [&emulator] { return device::CreateEmulatorDevice(emulator); });
  if (!registered.ok()) {
    std::fprintf(stderr, "trun-executor: %s\n", registered.ToString().c_str());
    return 1;
  }
  return ExecutorMain(devices);
}

}  // namespace
}  // namespace trun

int main(int argc, char** argv) { return trun::Main(argc, argv); }
