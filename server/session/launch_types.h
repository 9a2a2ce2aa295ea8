// What a client asks of a launch, and what became of it. Plain value types.
#ifndef TRUN_SERVER_SESSION_LAUNCH_TYPES_H_
#define TRUN_SERVER_SESSION_LAUNCH_TYPES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/device/device.h"

namespace trun {

// A place in a tensor of the session.
struct TensorReference {
  std::string tensor;   // handle
  uint64_t offset = 0;  // bytes
};

// What a descriptor of im2col mode has beside its block (Triton's TensorDescriptorIm2Col). In the order of
// the shape.
struct Im2colDescriptor {
  std::vector<int32_t> lower_corner, upper_corner;  // of each spatial dimension
  std::vector<uint32_t> element_strides;            // of each dimension; empty: 1
};

// A host-made tensor descriptor, by its fields (Triton's TensorDescriptor).
struct TensorDescriptor {
  TensorReference base;
  std::vector<uint64_t> shape;
  std::vector<int64_t> strides;  // elements; the last is 1
  std::vector<uint32_t> block_shape;
  bool padding_nan = false;
  std::optional<Im2colDescriptor> im2col;  // nothing: tiled mode
  bool round_f32_to_tf32 = false;
};

struct NullPointer {};

// int64_t and uint64_t for integer types and i1, double for float types. std::monostate: none was given, an
// error.
using LaunchArgument =
    std::variant<std::monostate, TensorReference, int64_t, uint64_t, double, TensorDescriptor, NullPointer>;

struct SessionLaunch {
  std::string kernel;          // handle
  std::vector<uint32_t> grid;  // one to three; programs, clusters not multiplied in
  std::vector<LaunchArgument> arguments;
  absl::Duration deadline = absl::ZeroDuration();  // zero: 30 s; at most 1 h
  uint32_t repetitions = 1;
  device::CheckOptions checks;
  std::vector<std::string> unwritten;  // handles of tensors that the caller vouches it has not written
  device::TraceOptions trace;
  // The caller looks at the result: its fault and printed text are not kept for the next Synchronize.
  bool observed = false;
};

// device::FaultReport in the session's own names.
struct LaunchFault {
  uint64_t sequence = 0;
  std::string kernel_name;
  device::FaultReport report;
  std::string nearest_tensor;  // handle of report.nearest_allocation, also of one freed lately; empty: none
};

struct LaunchResult {
  uint64_t sequence = 0;
  // OK; the device's own status (device::LaunchOutcome); UNAVAILABLE kExecutorLost; ABORTED kContextLost (an
  // earlier launch ended the executor, details: sequence; this one did not run); CANCELLED kCancelled
  // (session closed).
  absl::Status status;
  LaunchFault fault;  // meaningful when the status is not OK
  std::vector<absl::Duration> device_times;
  uint64_t warp_instructions = 0;  // of one repetition
  std::string printed;
  std::string trace;
};

struct SynchronizeResult {
  // OK, or the first fault since the last Synchronize, whose launch is fault.sequence.
  absl::Status status;
  LaunchFault fault;
  uint64_t last_sequence = 0;
  std::string printed;  // device printf since the last Synchronize, at most 1 MiB
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_LAUNCH_TYPES_H_
