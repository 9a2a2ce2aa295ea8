#ifndef TRUN_SERVER_DEVICE_LAUNCH_CHECK_H_
#define TRUN_SERVER_DEVICE_LAUNCH_CHECK_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "server/device/device.h"

namespace trun::device {

// What Stream::Launch refuses: INVALID_ARGUMENT kLaunchShape or kArgument, as said there. `required_cluster`
// has zeros where the kernel requires none. Pure, thread-safe.
absl::Status CheckLaunch(const DeviceInfo& device, const KernelAttributes& kernel,
                         const std::array<uint32_t, 3>& required_cluster, const LaunchRequest& request);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_LAUNCH_CHECK_H_
