#include "server/session/launch_shape.h"

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/ir/launch_limits.h"

namespace trun {
namespace {

// Minor of "3.X.Y"; the newest where the version is not known.
int TritonMinor(const std::string& version) {
  const std::vector<std::string> parts = absl::StrSplit(version, '.');
  int minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[1], &minor)) return 99;
  return minor;
}

absl::Status BadShape(const std::string& what) { return InvalidArgument(Reason::kLaunchShape, what); }

// False when the product does not fit.
bool Multiply(uint64_t by, uint64_t* value) { return !__builtin_mul_overflow(*value, by, value); }

}  // namespace

absl::StatusOr<LaunchShape> MakeLaunchShape(const KernelMetadata& metadata,
                                            const device::KernelAttributes& attributes,
                                            const device::DeviceInfo& device,
                                            absl::Span<const uint32_t> grid) {
  LaunchShape shape;
  device::LaunchDimensions& dimensions = shape.dimensions;
  if (grid.empty() || grid.size() > 3) {
    return BadShape(absl::StrCat("a grid has one to three dimensions; ", grid.size(), " were given"));
  }
  for (size_t i = 0; i < grid.size(); ++i) {
    if (grid[i] == 0) {
      return BadShape(absl::StrCat("the grid (", absl::StrJoin(grid, ", "),
                                   ") has no programs: every dimension must be "
                                   "at least 1"));
    }
    dimensions.grid[i] = grid[i];
  }
  uint64_t programs = 1;
  const bool counted = Multiply(dimensions.grid[0], &programs) && Multiply(dimensions.grid[1], &programs) &&
                       Multiply(dimensions.grid[2], &programs);

  const int minor = TritonMinor(metadata.triton_version);
  const bool cluster_given = metadata.cluster[0] != 1 || metadata.cluster[1] != 1 || metadata.cluster[2] != 1;
  if (metadata.num_ctas != 1) {
    // Up to 3.5 cluster_dims; from 3.6 on num_ctas in x.
    const bool in_x = minor >= 6 && !(minor == 99 && cluster_given);
    for (int i = 0; i < 3; ++i) {
      const int extent = in_x ? (i == 0 ? metadata.num_ctas : 1) : metadata.cluster[i];
      if (extent < 1 || extent > 16) {
        return InvalidArgument(Reason::kMetadata, absl::StrCat("a cluster of ", extent, " blocks"),
                               {{"key", "num_ctas"}});
      }
      dimensions.cluster[i] = static_cast<uint32_t>(extent);
    }
  }
  for (int i = 0; i < 3; ++i) {
    const uint64_t blocks = uint64_t{dimensions.grid[i]} * dimensions.cluster[i];
    if (blocks > device.max_grid[i]) {
      return BadShape(absl::StrCat("the grid's ",
                                   i == 0   ? "x"
                                   : i == 1 ? "y"
                                            : "z",
                                   " dimension is ", blocks, " blocks; the device's limit is ",
                                   device.max_grid[i]));
    }
    dimensions.grid[i] = static_cast<uint32_t>(blocks);
  }

  if (metadata.num_warps < 0 || metadata.num_warps > 64) {
    return InvalidArgument(Reason::kMetadata, absl::StrCat("num_warps is ", metadata.num_warps),
                           {{"key", "num_warps"}});
  }
  uint64_t threads = static_cast<uint64_t>(metadata.num_warps) * 32;
  const std::array<uint32_t, 3>& required = attributes.required_block;
  if (threads == 0) threads = required[0];
  if (threads == 0) {
    return InvalidArgument(
        Reason::kMetadata,
        "the number of warps is not known: give the metadata's num_warps, the file does not say",
        {{"key", "num_warps"}});
  }
  if (required[0] != 0 && (required[0] != threads || required[1] > 1 || required[2] > 1)) {
    return BadShape(absl::StrCat("the metadata's num_warps (", metadata.num_warps, ") makes blocks of ",
                                 threads, " threads; the kernel is built for (",
                                 absl::StrJoin(required, ", "), ")"));
  }
  if (attributes.max_block[0] != 0 && threads > attributes.max_block[0]) {
    return BadShape(absl::StrCat("the metadata's num_warps (", metadata.num_warps, ") makes blocks of ",
                                 threads, " threads; the kernel is built for at most ",
                                 attributes.max_block[0]));
  }
  if (threads > device.max_threads_per_block) {
    return BadShape(absl::StrCat("a block of ", threads, " threads; the device's limit is ",
                                 device.max_threads_per_block));
  }
  dimensions.block[0] = static_cast<uint32_t>(threads);

  const uint64_t shared = uint64_t{metadata.shared_bytes} + attributes.static_shared_bytes;
  if (shared > device.max_shared_bytes) {
    return TooMuchSharedMemory(metadata.name, shared, device.name, device.max_shared_bytes);
  }
  dimensions.dynamic_shared_bytes = metadata.shared_bytes;
  dimensions.cooperative = metadata.cooperative_grid;
  dimensions.programmatic_dependent_launch = metadata.programmatic_dependent_launch;

  // 3.3 does not multiply by num_ctas.
  const uint64_t ctas = minor == 3 ? 1 : static_cast<uint64_t>(metadata.num_ctas < 1 ? 1 : metadata.num_ctas);
  shape.global_scratch_bytes = metadata.global_scratch_bytes;
  shape.profile_scratch_bytes = metadata.profile_scratch_bytes;
  for (uint64_t* const bytes : {&shape.global_scratch_bytes, &shape.profile_scratch_bytes}) {
    if (*bytes == 0) continue;
    if (!counted || !Multiply(programs, bytes) || !Multiply(ctas, bytes)) {
      return BadShape("the scratch memory of this grid does not fit into 64 bits");
    }
  }
  return shape;
}

}  // namespace trun
