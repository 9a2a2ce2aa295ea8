#ifndef TRUN_SERVER_SESSION_LAUNCH_SHAPE_H_
#define TRUN_SERVER_SESSION_LAUNCH_SHAPE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ir/kernel.h"
#include "server/device/device.h"

namespace trun {

// How a kernel is launched: Triton's driver.c of each version, from the metadata and the grid of programs.
struct LaunchShape {
  device::LaunchDimensions dimensions;
  uint64_t global_scratch_bytes = 0;  // of the whole grid
  uint64_t profile_scratch_bytes = 0;
};

// INVALID_ARGUMENT kLaunchShape: a grid that is empty, zero or over the device's limits, a block that the
// device or the kernel (.reqntid, .maxntid) does not allow, more shared memory than a block has.
// INVALID_ARGUMENT kMetadata (details: key): num_warps is not known, or contradicts the kernel.
absl::StatusOr<LaunchShape> MakeLaunchShape(const KernelMetadata& metadata,
                                            const device::KernelAttributes& attributes,
                                            const device::DeviceInfo& device,
                                            absl::Span<const uint32_t> grid);

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_LAUNCH_SHAPE_H_
