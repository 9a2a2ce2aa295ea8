// A session: everything one client made on one device, and the executor that runs it.
//
// Tensor memory belongs to the session and outlives its executors: when one is lost (crash, kill, hung
// kernel), the next launch gets a new one with the same memory at the same addresses. Handles ("t-…", "k-…")
// are minted here, cannot be guessed and mean nothing in another session.
#ifndef TRUN_SERVER_SESSION_SESSION_H_
#define TRUN_SERVER_SESSION_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/unique_fd.h"
#include "common/ir/kernel.h"
#include "common/ir/scalar_type.h"
#include "server/executor/control/executor_control.h"
#include "server/session/launch_types.h"

namespace trun {

struct TensorSpec {
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<uint64_t> shape;  // row-major; empty: a scalar
};

struct TensorInfo {
  std::string handle;
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<uint64_t> shape;
  uint64_t bytes = 0;
  uint64_t device_address = 0;  // the same for the tensor's whole life
};

// Shared memory of tensors, for a local client to map.
struct DescriptorExport {
  struct Tensor {
    uint32_t descriptor_index = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t descriptor_bytes = 0;
  };
  std::vector<UniqueFd> descriptors;  // duplicates, the caller's
  std::vector<Tensor> tensors;        // in the order asked for
};

// Memory of the host that a client and the session's executors share, for copies to and from a GPU.
struct StagingInfo {
  std::string handle;
  uint64_t bytes = 0;
  UniqueFd descriptor;       // a duplicate, the caller's: a sealed memfd
  std::string unregistered;  // why the driver would not register it; empty where it did
};

// Memory on the session's device that a client made in its own context. Either exported by the driver as a
// descriptor, and mapped at the client's own address; or known by a CUDA IPC handle.
struct MemoryImport {
  uint64_t bytes = 0;    // all of it
  UniqueFd descriptor;   // valid: the memory
  uint64_t address = 0;  // with a descriptor
  std::string handle;    // else
};

// A part of a staging area, and the part of a tensor that takes or gives its bytes.
struct StagingMove {
  uint64_t staging_offset = 0;
  std::string tensor;
  uint64_t tensor_offset = 0;
  uint64_t bytes = 0;
};

enum class TransferDirection { kToTensor, kFromTensor };

struct SessionStatistics {
  std::string id;
  std::string tenant;
  std::string client_name;
  std::string device;
  absl::Duration age;
  absl::Duration idle;
  uint64_t tensors = 0;
  uint64_t tensor_bytes = 0;
  uint64_t kernels = 0;
  uint64_t launches = 0;
  uint64_t executor_restarts = 0;
  int64_t executor_pid = 0;  // 0 while there is none
};

// Thread-safe. Every method of a closed session is NOT_FOUND kSessionExpired. "NOT_FOUND kHandle" is a freed,
// foreign or never-minted handle. Callbacks are called exactly once, from a thread of the executor or from
// the call itself, under no lock; they must not block and must not call Close.
class Session {
 public:
  virtual ~Session() = default;

  virtual const std::string& id() const = 0;
  virtual const std::string& tenant() const = 0;
  virtual const std::string& device() const = 0;
  virtual const device::DeviceInfo& device_info() const = 0;
  virtual absl::Duration lease() const = 0;
  virtual uint64_t memory_limit() const = 0;

  // All or none; fresh tensors are zero. INVALID_ARGUMENT kArgument: no dtype, a zero or absurd size.
  // RESOURCE_EXHAUSTED kQuota (the session's or tenant's limit), kOutOfMemory.
  virtual absl::StatusOr<std::vector<TensorInfo>> Allocate(absl::Span<const TensorSpec> specs) = 0;
  // All or none. Launches queued before still see the tensors. NOT_FOUND kHandle.
  virtual absl::Status Free(absl::Span<const std::string> tensors) = 0;
  virtual absl::StatusOr<TensorInfo> GetTensor(absl::string_view tensor) const = 0;
  virtual std::vector<TensorInfo> ListTensors() const = 0;

  // These wait for launches queued before. OUT_OF_RANGE kArgument: past the end. NOT_FOUND kHandle.
  virtual absl::Status Write(absl::string_view tensor, uint64_t offset, absl::Span<const char> data) = 0;
  virtual absl::Status Read(absl::string_view tensor, uint64_t offset, absl::Span<char> data) const = 0;
  // `bytes` 0: to the end. INVALID_ARGUMENT kArgument: a pattern not of 1, 2, 4 or 8 bytes, or that does not
  // divide `bytes`.
  virtual absl::Status Fill(absl::string_view tensor, uint64_t offset, uint64_t bytes,
                            absl::string_view pattern) = 0;
  // INVALID_ARGUMENT kArgument: overlapping ranges of one tensor.
  virtual absl::Status Copy(absl::string_view source, uint64_t source_offset, absl::string_view destination,
                            uint64_t destination_offset, uint64_t bytes) = 0;

  // The client's memory as a tensor of bytes, charged like any other, until it is freed. With a descriptor it
  // lies at the client's address in every executor of the session. With a handle it lies somewhere, is no
  // range for Write, Read, Fill, Copy and Transfer (FAILED_PRECONDITION kUnsupportedTarget), and is gone with
  // its executor: launches are NOT_FOUND kHandle then, and it is to be imported again. Waits for launches
  // queued before. Ordered with nothing else: the client's own work on it is done before a launch is asked
  // for. INVALID_ARGUMENT kArgument: not memory of this device, less of it, or an address that may not be
  // (granules of 2 MiB in AddressSpace::kImportBegin and kImportEnd, no other import there).
  // FAILED_PRECONDITION kUnsupportedTarget: no GPU. RESOURCE_EXHAUSTED kQuota (bytes, or too many imports).
  virtual absl::StatusOr<TensorInfo> Import(MemoryImport memory) = 0;

  // Memory of the tensors as descriptors. Not ordered with launches: Synchronize first.
  virtual absl::StatusOr<DescriptorExport> ExportDescriptors(absl::Span<const std::string> tensors) const = 0;

  // A staging area of at least `bytes`, zero, registered with the driver where that takes it; charged like
  // tensors. Blocks meanwhile. FAILED_PRECONDITION kUnsupportedTarget: tensors of the device are shared
  // memory themselves. INVALID_ARGUMENT kArgument: no bytes or too many. RESOURCE_EXHAUSTED kQuota,
  // kOutOfMemory.
  virtual absl::StatusOr<StagingInfo> CreateStaging(uint64_t bytes) = 0;
  // Copies under way end first. NOT_FOUND kHandle.
  virtual absl::Status FreeStaging(absl::string_view staging) = 0;
  // Copies between a staging area and tensors; returns when it is done. Waits for launches queued before, and
  // holds up none that come after. When it fails some of the bytes may have been moved. NOT_FOUND kHandle.
  // OUT_OF_RANGE kArgument: past an end. The executor's errors.
  virtual absl::Status Transfer(absl::string_view staging, absl::Span<const StagingMove> moves,
                                TransferDirection direction) = 0;

  // A handle for the kernel; two adds give two handles. Nothing is loaded yet. A kernel without an artifact
  // of the device's level is taken too (a compile that stops earlier): only PrepareKernel and Launch refuse
  // it, with FAILED_PRECONDITION kUnsupportedLevel. RESOURCE_EXHAUSTED kQuota: too many kernels.
  virtual absl::StatusOr<std::string> AddKernel(std::shared_ptr<const CompiledKernel> kernel) = 0;
  virtual absl::StatusOr<std::shared_ptr<const CompiledKernel>> FindKernel(
      absl::string_view kernel) const = 0;
  // Forgets the handle; queued launches of it still run.
  virtual absl::Status ReleaseKernel(absl::string_view kernel) = 0;
  // Loads it into the executor now instead of at its first launch, and returns what the device says of it.
  // Blocks. The device's errors (device::Device::LoadModule); INVALID_ARGUMENT kMetadata where artifact and
  // metadata differ.
  virtual absl::StatusOr<device::KernelAttributes> PrepareKernel(absl::string_view kernel) = 0;

  // Checks everything, queues the launch and returns its sequence number (1, 2, …); `done` gets the result.
  // When this is not OK nothing was queued, no number was used and `done` is not called. INVALID_ARGUMENT
  // kArgument (details: argument = position, name), kLaunchShape, kMetadata; NOT_FOUND kHandle;
  // RESOURCE_EXHAUSTED kQuota (too many queued: WaitForRoom); UNAVAILABLE kDraining, kExecutorLost,
  // kUnavailable. Blocks only while an executor is started or the kernel is loaded.
  virtual absl::StatusOr<uint64_t> Launch(const SessionLaunch& launch,
                                          std::function<void(LaunchResult)> done) = 0;
  // As Launch; `warmup` runs first, then launch.repetitions measured ones; `done` gets the measured result,
  // or the warm-up's when that failed. INVALID_ARGUMENT kArgument: repetitions not in 1..10000, warmup over
  // 10000.
  virtual absl::StatusOr<uint64_t> Benchmark(const SessionLaunch& launch, uint32_t warmup,
                                             std::function<void(LaunchResult)> done) = 0;
  // `done` is called when every launch queued before is done.
  virtual void Synchronize(std::function<void(SynchronizeResult)> done) = 0;
  // Blocks until every launch queued before is done. DEADLINE_EXCEEDED kUnavailable after `timeout`.
  virtual absl::Status WaitForLaunches(absl::Duration timeout) const = 0;
  // Blocks until another launch may be queued. DEADLINE_EXCEEDED kUnavailable after `timeout`.
  virtual absl::Status WaitForRoom(absl::Duration timeout) const = 0;

  virtual SessionStatistics statistics() const = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_SESSION_H_
