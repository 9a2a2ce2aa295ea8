// The seam between the executor and what runs kernels: a CUDA device, or the PTX emulator.
//
// A Device is one context. Modules, arenas and streams belong to it and must be destroyed before it. Foreign
// addresses are plain 64-bit device addresses; an implementation never dereferences one that lies outside an
// arena.
#ifndef TRUN_SERVER_DEVICE_DEVICE_H_
#define TRUN_SERVER_DEVICE_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/ir/level.h"
#include "common/ir/target.h"

namespace trun::device {

enum class DeviceKind { kEmulator, kCuda };

struct DeviceInfo {
  DeviceKind kind = DeviceKind::kEmulator;
  std::string name;  // "trun PTX emulator (sm_80)", "NVIDIA H200"
  Target target;
  uint64_t memory_bytes = 0;
  uint32_t multiprocessors = 0;   // host threads of the emulator
  uint32_t max_shared_bytes = 0;  // of one block, with the opt-in
  uint32_t max_threads_per_block = 1024;
  std::array<uint32_t, 3> max_grid = {0x7fffffff, 65535, 65535};
  Level module_level = Level::kPtx;  // what LoadModule takes: kPtx on the emulator, kCubin on CUDA
  // Arenas are memory of the host: who has the descriptor of one can map it. Otherwise only the device can,
  // and others go through ReadMemory and its kin.
  bool host_memory = true;
  uint32_t clock_khz = 0;         // of the multiprocessors at most; 0 on the emulator
  uint32_t memory_clock_khz = 0;  // at most
  std::string driver;             // "CUDA 13.0 (libcuda.so.1)"; empty on the emulator
  // Why the driver registers no memory of the host, which makes copies slower; empty: it does.
  std::string pinning_refused;
};

// What a tensor map of im2col mode has beside its box: the bounding box of its spatial dimensions, which are
// all but the first (channels) and the last (images).
struct Im2colBox {
  // Of dimensions 1, 2, …: where the box begins, and where it ends, counted from the tensor's end.
  std::vector<int32_t> lower_corner, upper_corner;
  std::vector<uint32_t> element_strides;  // from pixel to pixel, of every dimension; the first is 1
};

// A tensor map (TMA descriptor) without interleave, by its fields. Dimension 0 is the innermost one.
struct TensorMapFields {
  uint64_t address = 0;   // aligned to 16
  uint8_t element = 0;    // the number of tensormap.replace's elemtype (PTX ISA): 6 f16, 7 f32, 10 bf16, …
  uint8_t swizzle = 0;    // of tensormap.replace: 0 none, 1 32 B, 2 64 B, 3 128 B
  bool nan_fill = false;  // of elements out of bounds; else zero
  std::vector<uint64_t> extents;  // elements of each dimension
  std::vector<uint64_t>
      strides;  // bytes from one element to the next of dimensions 1, 2, …: one less than extents
  std::vector<uint32_t> box;  // elements of each dimension; of im2col mode channels a pixel, pixels a column
  std::optional<Im2colBox> im2col;  // nothing: tiled mode
};
using TensorMapBytes = std::array<std::byte, 128>;

// The other half of a report that speaks of two instructions. Fields that are not known are zero or empty.
struct OtherAccess {
  std::string
      role;  // "earlier write", "earlier read", "undefined since"; empty: the report has no other half
  std::string instruction;
  uint32_t ptx_line = 0;
  std::string source_file;
  uint32_t source_line = 0;
  std::array<uint32_t, 3> program = {0, 0, 0};
  std::array<uint32_t, 3> thread = {0, 0, 0};
};

// Where and why a kernel stopped. Fields that are not known are zero or empty.
struct FaultReport {
  std::string instruction;  // "st.global.v4.b32", as the module writes it
  uint32_t ptx_line = 0;    // 1-based
  std::string source_file;  // from .loc
  uint32_t source_line = 0;
  std::array<uint32_t, 3> program = {0, 0, 0};  // CTA index
  std::array<uint32_t, 3> thread = {0, 0, 0};
  uint64_t address = 0;
  uint32_t access_bytes = 0;
  std::string space;  // "global", "shared", "local", "param"
  bool is_write = false;
  uint64_t nearest_allocation = 0;        // id given to AddAllocation; 0: none is near
  int64_t nearest_allocation_offset = 0;  // of the address from that allocation's start, in bytes
  uint64_t nearest_allocation_bytes = 0;
  std::string message;  // one sentence for a person
  OtherAccess other;    // of a race the access before it, of an uninitialised value where it came from
};

struct LaunchStatistics {
  absl::Duration device_time;      // from the first instruction to the last, as the device counts it
  uint64_t warp_instructions = 0;  // executed; 0 on a real GPU
};

// What became of one launch.
struct LaunchOutcome {
  absl::Status status;        // reasons: kIllegalAddress, kMisalignedAddress, kUseAfterFree, kDeviceAssert,
                              // kBarrierDivergence, kHungKernel, kContextLost, kOutOfMemory, kCancelled
  FaultReport fault;          // meaningful when the status is not OK
  bool context_lost = false;  // nothing more can run on this device object
  LaunchStatistics statistics;
  std::string printed;  // device printf output of this launch, in program order, at most 1 MiB
  std::string trace;    // what the launch's TraceOptions asked for
};

struct LaunchDimensions {
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::array<uint32_t, 3> block = {1, 1, 1};
  std::array<uint32_t, 3> cluster = {1, 1, 1};
  uint32_t dynamic_shared_bytes = 0;
  bool cooperative = false;
  bool programmatic_dependent_launch = false;
};

// One parameter of an entry, in declaration order, as the module declares it (PTX ISA, "Kernel Function
// Parameters"; cubin EIATTR_KPARAM_INFO).
struct ParameterLayout {
  uint32_t offset = 0;  // in the packed parameter buffer
  uint32_t bytes = 0;
  uint32_t align = 1;
};

struct KernelAttributes {
  std::string name;
  std::vector<ParameterLayout> parameters;
  uint32_t parameter_bytes = 0;  // of the whole packed buffer
  uint32_t static_shared_bytes = 0;
  std::array<uint32_t, 3> required_block = {0, 0, 0};  // .reqntid; 0 where not given
  std::array<uint32_t, 3> max_block = {0, 0, 0};       // .maxntid; 0 where not given
  uint32_t registers = 0;                              // a thread; 0 where the device has no such notion
  uint32_t local_bytes = 0;
};

// A kernel of a loaded module. Thread-safe. Owned by its module.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual const KernelAttributes& attributes() const = 0;
};

// Loaded code. Thread-safe.
class Module {
 public:
  virtual ~Module() = default;
  // NOT_FOUND (kArgument) that lists the entries. With an empty name: the only entry, INVALID_ARGUMENT when
  // there are several. The kernel lives as long as the module.
  virtual absl::StatusOr<const Kernel*> GetKernel(absl::string_view name) const = 0;
};

// Memory of a session mapped at its fixed device address. Destroying it unmaps. Thread-safe.
class Arena {
 public:
  virtual ~Arena() = default;
  virtual uint64_t address() const = 0;
  virtual uint64_t bytes() const = 0;
};

// Checks beyond the ones that are always on; only the emulator has them. A launch with one runs on one host
// thread and is tens of times slower.
struct CheckOptions {
  bool uninitialized = false;  // a value that nothing wrote decides a branch, is an address, or is stored
  bool races = false;          // two accesses to one place that nothing orders
  bool late_async = false;     // asynchronous copies and wgmma end as late as their waits allow

  bool any() const { return uninitialized || races || late_async; }
};

// What to write down of a launch while it runs; only the emulator can. Text, bounded by kMaxTraceBytes.
struct TraceOptions {
  bool lines = false;      // each source line that the thread comes to
  bool registers = false;  // each register that it writes
  std::array<uint32_t, 3> program = {0, 0, 0};
  std::array<uint32_t, 3> thread = {0, 0, 0};

  bool any() const { return lines || registers; }
};
inline constexpr size_t kMaxTraceBytes = size_t{1} << 20;

// What looks on while a launch runs, on the launch's own thread. What it can see depends on the device
// (emulator/debug/debugger.h).
class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
};

struct LaunchRequest {
  const Kernel* kernel = nullptr;
  LaunchDimensions dimensions;
  // Packed as attributes().parameters says; exactly attributes().parameter_bytes long. Copied by Launch.
  absl::Span<const std::byte> parameters;
  absl::Duration deadline = absl::Seconds(30);
  bool own_time = false;  // nothing may overlap it: its time is to be its own (see LaunchStatistics)
  CheckOptions checks;    // besides the device's own (SetChecks)
  // With checks.uninitialized: ids of live allocations that nobody but launches and the device's own writes
  // can have written since they were added. Every other allocation counts as written. Copied by Launch.
  absl::Span<const uint64_t> unwritten;
  TraceOptions trace;
  std::shared_ptr<LaunchObserver> observer;  // null: none; of the device's own kind
};

// An ordered queue of launches. Thread-safe; launches of one stream run in the order of the calls.
class Stream {
 public:
  using Done = std::function<void(LaunchOutcome)>;

  // Waits for the launches given to it.
  virtual ~Stream() = default;

  // Checks the request and queues it. `done` is called exactly once, from a thread of the device or from this
  // call, and must not block or call the stream. Errors of the request are reported through `done` too:
  // INVALID_ARGUMENT kLaunchShape (zero grid, block over the limits or not .reqntid, too much shared memory),
  // INVALID_ARGUMENT kArgument (parameter buffer of the wrong size).
  virtual void Launch(const LaunchRequest& request, Done done) = 0;

  // Returns when everything queued before it has called its `done`.
  virtual void Synchronize() = 0;

  // Ends the running launch and all queued ones with CANCELLED kCancelled as soon as the device can. A CUDA
  // device cannot: it returns UNIMPLEMENTED and its process has to be ended.
  virtual absl::Status Cancel() = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;

  // `image` is PTX text on the emulator, a cubin on CUDA. All of the module is checked here: an instruction
  // that cannot be executed is UNIMPLEMENTED kUnsupportedInstruction (details: line, instruction), text that
  // does not parse INVALID_ARGUMENT kInvalidIr (details: line, column), a module for a newer target than the
  // device's FAILED_PRECONDITION kUnsupportedTarget, a cubin on the emulator FAILED_PRECONDITION
  // kUnsupportedLevel.
  virtual absl::StatusOr<std::unique_ptr<Module>> LoadModule(absl::string_view image) = 0;

  // Fresh memory that MapArena takes, here and in any later device of the same kind and number: a sealed
  // memfd, or a handle exported by the CUDA driver. It lives as long as a descriptor or a mapping of it.
  // Zero. `bytes` is a multiple of 2 MiB. RESOURCE_EXHAUSTED kOutOfMemory.
  virtual absl::StatusOr<UniqueFd> CreateMemory(uint64_t bytes) = 0;

  // Maps `bytes` of the shared memory `fd` (a sealed memfd; an exported cuMem handle on CUDA) at exactly
  // `address`. The descriptor may be closed afterwards. ALREADY_EXISTS when something is mapped there,
  // RESOURCE_EXHAUSTED kOutOfMemory, INVALID_ARGUMENT when the descriptor is shorter than `bytes` or not
  // sealed against shrinking.
  virtual absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd& fd, uint64_t bytes,
                                                          uint64_t address) = 0;

  // Maps memory that another process made with this device's driver and named by `handle` (CUDA: the 64 bytes
  // of cuIpcGetMemHandle), wherever there is room. It stays there until the arena is destroyed, also when its
  // owner frees it or ends. INVALID_ARGUMENT kArgument: no such memory, less than `bytes`, or another
  // device's. UNIMPLEMENTED kUnsupportedTarget where there is no such thing.
  virtual absl::StatusOr<std::unique_ptr<Arena>> MapForeign(absl::string_view /*handle*/,
                                                            uint64_t /*bytes*/) {
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                     "memory of another process is imported on a GPU only");
  }

  // Tells which ranges may be touched; the emulator checks every access against them. Ids are the caller's,
  // never reused, and come back in a FaultReport. A range must lie in one arena and overlap no live one:
  // INVALID_ARGUMENT. Takes effect for launches that are queued after the call.
  virtual absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) = 0;
  // NOT_FOUND for an id that is not live. Freed ranges are remembered for a while to name a use after free.
  virtual absl::Status RemoveAllocation(uint64_t id) = 0;

  // These move bytes of arenas and return when it is done. They are not ordered with launches: what a launch
  // writes is there once its `done` was called. OUT_OF_RANGE kArgument: not all in one arena. The device's
  // errors.
  virtual absl::Status WriteMemory(uint64_t address, absl::Span<const char> from) = 0;
  virtual absl::Status ReadMemory(uint64_t address, absl::Span<char> to) = 0;
  // `pattern` has 1 to 8 bytes and divides `bytes`: INVALID_ARGUMENT kArgument.
  virtual absl::Status FillMemory(uint64_t address, uint64_t bytes, absl::string_view pattern) = 0;
  // The ranges do not overlap: INVALID_ARGUMENT kArgument.
  virtual absl::Status CopyMemory(uint64_t to, uint64_t from, uint64_t bytes) = 0;
  // Makes WriteMemory and ReadMemory from and to this memory of the caller faster. It stays registered until
  // UnpinMemory, and must be there until then. The driver may refuse: then everything works, slower.
  virtual absl::Status PinMemory(absl::Span<char> memory) = 0;
  virtual void UnpinMemory(absl::Span<char> memory) = 0;

  // The 128 bytes that a kernel takes as a parameter for this tensor map. INVALID_ARGUMENT kArgument names
  // what the device refuses; UNIMPLEMENTED kUnsupportedTarget where there are none (below sm_90).
  virtual absl::StatusOr<TensorMapBytes> EncodeTensorMap(const TensorMapFields& fields) const = 0;

  virtual absl::StatusOr<std::unique_ptr<Stream>> CreateStream() = 0;

  // Checks of every launch from now on. UNIMPLEMENTED where one is asked for that the device does not have;
  // a launch that asks for such a one, a trace or an observer ends so, too.
  virtual absl::Status SetChecks(const CheckOptions& checks) = 0;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_DEVICE_H_
