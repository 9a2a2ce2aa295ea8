// trun-executor: owns one device context and runs the launches of one session. Started by trund:
//   trun-executor --device=emulator:0 --arch=80 [--threads=N] [--memory=BYTES]
//   trun-executor --device=cuda:0 [--libcuda=PATH]
//   trun-executor --probe [--libcuda=PATH]      prints how many GPUs there are, or on stderr why none
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/device/cuda/cuda_device.h"
#include "server/device/emulator/emulator_device.h"
#include "server/executor/runtime/executor_main.h"

namespace trun {
namespace {

int Main(int argc, char** argv) {
  std::string device;
  bool probe = false;
  device::EmulatorOptions emulator;
  device::CudaOptions cuda;
  cuda.capture_output = true;
  for (int i = 1; i < argc; ++i) {
    absl::string_view option = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&option, "--device=")) {
      device = std::string(option);
      if (absl::ConsumePrefix(&option, "cuda:")) good = absl::SimpleAtoi(option, &cuda.index);
    } else if (absl::ConsumePrefix(&option, "--libcuda=")) {
      cuda.library = std::string(option);
    } else if (option == "--probe") {
      probe = true;
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
  // Code is on the device once it is loaded, not when it is first launched.
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  if (probe) {
    const absl::StatusOr<int> count = device::CountCudaDevices(cuda.library);
    if (count.ok()) {
      std::printf("%d\n", *count);
    } else {
      std::fprintf(stderr, "%s\n", std::string(count.status().message()).c_str());
    }
    return count.ok() ? 0 : 1;
  }
  const bool is_cuda = absl::StartsWith(device, "cuda:");
  // The driver's own start takes a tenth of a second: not left until the device is asked for. What is wrong
  // with it is said then.
  if (is_cuda) device::CountCudaDevices(cuda.library).status().IgnoreError();
  DeviceRegistry devices;
  const absl::Status registered = devices.Register(device, [&] {
    return is_cuda ? device::CreateCudaDevice(cuda) : device::CreateEmulatorDevice(emulator);
  });
  if (!registered.ok()) {
    std::fprintf(stderr, "trun-executor: %s\n", registered.ToString().c_str());
    return 1;
  }
  return ExecutorMain(devices);
}

}  // namespace
}  // namespace trun

int main(int argc, char** argv) {
  const int code = trun::Main(argc, argv);
  std::fflush(nullptr);
  // Without the libraries' own ends: a driver waits there for a kernel that hangs.
  _exit(code);
}
