// The PTX emulator as a Device: runs Triton's PTX on the host's cores, and checks every access.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_DEVICE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/device/device.h"

namespace trun::device {

struct EmulatorOptions {
  int arch = 80;              // 75, 80, 86, 89, 90 or 120
  int threads = 0;            // host threads for CTAs; 0: one per core this process may use
  uint64_t memory_bytes = 0;  // reported as the device's memory; 0: half of the host's
};

// INVALID_ARGUMENT kUnsupportedTarget for an architecture it does not have. Thread-safe.
absl::StatusOr<std::unique_ptr<Device>> CreateEmulatorDevice(const EmulatorOptions& options);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_DEVICE_H_
