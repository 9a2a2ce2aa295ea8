// The seam between sessions and executors: trund's side of the process that owns a device context.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"
#include "server/device/device.h"

namespace trun {

// What the launch loop needs of a kernel argument: an address resolved from a handle, or the scalar's
// little-endian bytes, exactly as long as the parameter, or the fields of a tensor map that is passed by
// value.
using ExecutorArgument = std::variant<uint64_t, std::string, device::TensorMapFields>;

struct ExecutorLaunch {
  uint64_t sequence = 0;  // of the session; strictly increasing
  uint64_t kernel = 0;    // number given to LoadKernel
  device::LaunchDimensions dimensions;
  std::vector<ExecutorArgument> arguments;
  // Of the whole grid; hidden trailing parameters are filled with scratch the executor allocates.
  uint64_t global_scratch_bytes = 0;
  uint32_t global_scratch_align = 1;
  uint64_t profile_scratch_bytes = 0;
  uint32_t profile_scratch_align = 1;
  absl::Duration deadline = absl::Seconds(30);
  uint32_t repetitions = 1;  // more than one: a benchmark, one device time each
  // UNIMPLEMENTED kArgument on a device that has none.
  device::CheckOptions checks;
  std::vector<uint64_t> unwritten;  // allocations (device::LaunchRequest)
  device::TraceOptions trace;
};

// A part of a staging area.
struct StagingRange {
  uint64_t area = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct ExecutorLaunchResult {
  // OK, the device's own status (see device::LaunchOutcome), or UNAVAILABLE kExecutorLost, ABORTED
  // kContextLost.
  absl::Status status;
  device::FaultReport fault;
  std::vector<absl::Duration> device_times;
  uint64_t warp_instructions = 0;
  std::string printed;
  std::string trace;
};

// One executor: a context on one device for one session. Thread-safe. Every callback is called exactly once,
// also when the process dies (UNAVAILABLE kExecutorLost) or the object is destroyed (CANCELLED), never under
// a lock of the implementation, and must not block.
class ExecutorControl {
 public:
  virtual ~ExecutorControl() = default;

  virtual const device::DeviceInfo& device_info() const = 0;
  virtual int64_t pid() const = 0;  // 0 for an executor in this process
  // OK, or why nothing more can run here: kExecutorLost, kContextLost. Never OK again after that.
  virtual absl::Status health() const = 0;
  // Called once, when health stops being OK; at once (from a thread of the implementation) when it already
  // has.
  virtual void OnLost(std::function<void(absl::Status)> callback) = 0;

  // As device::Device; they block for one round trip. UNAVAILABLE kExecutorLost.
  virtual absl::Status MapArena(uint64_t arena, const UniqueFd& fd, uint64_t bytes, uint64_t address) = 0;
  virtual absl::Status UnmapArena(uint64_t arena) = 0;
  // Device::CreateMemory and MapArena in one; the memory, for MapArena of a later executor, comes back.
  virtual absl::StatusOr<UniqueFd> CreateArena(uint64_t arena, uint64_t bytes, uint64_t address) = 0;
  // Device::MapForeign: the address that it got here, which another executor does not give it again.
  virtual absl::StatusOr<uint64_t> MapForeign(uint64_t /*arena*/, absl::string_view /*handle*/,
                                              uint64_t /*bytes*/) {
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                     "memory of another process is imported on a GPU only");
  }
  virtual absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) = 0;
  virtual absl::Status RemoveAllocation(uint64_t id) = 0;
  virtual absl::StatusOr<device::KernelAttributes> LoadKernel(uint64_t kernel, absl::string_view image,
                                                              absl::string_view name) = 0;
  virtual absl::Status UnloadKernel(uint64_t kernel) = 0;

  // Gives the executor memory of the host, a sealed memfd, through which Transfer moves bytes; returns at
  // once. `area` is the caller's number for it. `done` gets why the driver would not register it, empty where
  // it did: transfers work either way, faster where it did.
  virtual void MapStaging(uint64_t area, const UniqueFd& fd, uint64_t bytes,
                          std::function<void(absl::StatusOr<std::string>)> done) = 0;
  // Lets go of it once the transfers before are done; returns at once. NOT_FOUND kHandle.
  virtual void UnmapStaging(uint64_t area, std::function<void(absl::Status)> done) = 0;
  // Moves bytes from a staging area to the device, or the other way; returns at once. Not ordered with
  // launches, nor with other transfers. `done` gets the device's status.
  // REQUIRES: the area is mapped and has the range.
  virtual void Transfer(const StagingRange& range, uint64_t address, bool to_device,
                        std::function<void(absl::Status)> done) = 0;
  // As device::Device; they block until it is done.
  virtual absl::Status Fill(uint64_t address, uint64_t bytes, absl::string_view pattern) = 0;
  virtual absl::Status Copy(uint64_t to, uint64_t from, uint64_t bytes) = 0;

  // Queues a launch; returns at once. Launches run in the order of the calls.
  virtual void Launch(ExecutorLaunch launch, std::function<void(ExecutorLaunchResult)> done) = 0;
  // Calls `done` when everything queued before has called its own.
  virtual void Synchronize(std::function<void(absl::Status)> done) = 0;
};

// Makes executors; holds the warm spares. Thread-safe.
class ExecutorFactory {
 public:
  virtual ~ExecutorFactory() = default;
  // An executor for a session on `device` ("emulator:0"). NOT_FOUND: no such device. UNAVAILABLE
  // kUnavailable: the process could not be started or did not answer in time.
  virtual absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view device,
                                                                  absl::string_view session) = 0;
  // Another executor for the device will be asked for as soon as one has ended: what can be done before that
  // is begun now. Only a hint.
  virtual void Expect(absl::string_view /*device*/) {}
  struct DeviceDescription {
    std::string device;  // "emulator:0"
    device::DeviceInfo info;
    absl::Status usable;
  };
  virtual std::vector<DeviceDescription> Devices() const = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_EXECUTOR_CONTROL_H_
