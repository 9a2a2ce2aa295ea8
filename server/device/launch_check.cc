#include "server/device/launch_check.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/ir/launch_limits.h"

namespace trun::device {

absl::Status CheckLaunch(const DeviceInfo& info, const KernelAttributes& kernel,
                         const std::array<uint32_t, 3>& required_cluster, const LaunchRequest& request) {
  const LaunchDimensions& d = request.dimensions;
  const auto shape = [&](absl::string_view what) {
    return InvalidArgument(Reason::kLaunchShape, absl::StrCat("'", kernel.name, "': ", what));
  };
  uint64_t threads = 1;
  for (size_t i = 0; i < 3; ++i) {
    if (d.grid[i] == 0) return shape("the grid has a zero");
    if (d.grid[i] > info.max_grid[i])
      return shape(absl::StrCat("the grid's ", d.grid[i], " is over ", info.max_grid[i]));
    if (d.block[i] == 0) return shape("the block has a zero");
    threads *= d.block[i];
    if (threads > info.max_threads_per_block) {
      return shape(absl::StrCat("the block has more than ", info.max_threads_per_block, " threads"));
    }
    if (d.cluster[i] == 0) return shape("the cluster has a zero");
    if (d.grid[i] % d.cluster[i] != 0) return shape("the grid is not a multiple of the cluster");
  }
  const uint64_t cluster = uint64_t{d.cluster[0]} * d.cluster[1] * d.cluster[2];
  if (cluster > 16) return shape("a cluster has at most 16 programs");
  if (cluster > 1 && info.target.arch < 90) return shape("clusters need sm_90");
  for (size_t i = 0; i < 3; ++i) {
    if (kernel.required_block[0] != 0 && d.block[i] != kernel.required_block[i]) {
      return shape(absl::StrCat("the block is ", d.block[0], " × ", d.block[1], " × ", d.block[2],
                                ", the kernel needs ", kernel.required_block[0], " × ",
                                kernel.required_block[1], " × ", kernel.required_block[2]));
    }
    if (required_cluster[0] != 0 && d.cluster[i] != required_cluster[i]) {
      return shape("the cluster is not the one that the kernel requires");
    }
  }
  if (kernel.max_block[0] != 0) {
    const uint64_t most = uint64_t{kernel.max_block[0]} * kernel.max_block[1] * kernel.max_block[2];
    if (threads > most)
      return shape(absl::StrCat("the block has ", threads, " threads, the kernel allows ", most));
  }
  const uint64_t shared = uint64_t{kernel.static_shared_bytes} + d.dynamic_shared_bytes;
  if (shared > info.max_shared_bytes) {
    return TooMuchSharedMemory(kernel.name, shared, info.name, info.max_shared_bytes);
  }
  const bool watched = request.checks.any() || request.trace.any() || request.observer != nullptr;
  if (watched && info.kind != DeviceKind::kEmulator) {
    return MakeError(
        absl::StatusCode::kUnimplemented, Reason::kArgument,
        absl::StrCat(info.name, " has no checks, traces and debugger: use the emulator for them"));
  }
  if (request.parameters.size() != kernel.parameter_bytes) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("'", kernel.name, "': ", request.parameters.size(),
                                                           " bytes of parameters were given, it takes ",
                                                           kernel.parameter_bytes));
  }
  return absl::OkStatus();
}

}  // namespace trun::device
