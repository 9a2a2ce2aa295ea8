// Kernel arguments as a client gives them, checked against the signature and turned into what an executor
// takes.
#ifndef TRUN_SERVER_SESSION_ARGUMENT_ENCODER_H_
#define TRUN_SERVER_SESSION_ARGUMENT_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ir/kernel.h"
#include "server/executor/control/executor_control.h"
#include "server/session/launch_types.h"

namespace trun {

struct ResolvedTensor {
  uint64_t address = 0;
  uint64_t bytes = 0;
  ScalarType dtype = ScalarType::kUnspecified;
};
// NOT_FOUND kHandle for a handle that is none of the session's.
using TensorResolver = absl::FunctionRef<absl::StatusOr<ResolvedTensor>(absl::string_view handle)>;

// What an entry of the metadata's tensordesc_meta says of a tensor descriptor that is passed by value, as a
// tensor map.
struct TensorMapMetadata {
  uint8_t element = 0;  // of device::TensorMapFields
  uint8_t swizzle = 0;
  uint32_t element_bytes = 0;
  std::vector<uint32_t> box;  // outermost dimension first, as Triton writes it
  bool fp4_padded = false;    // the last extent counts twice
  bool im2col = false;        // the box is pixels a column, channels a pixel
};

// How Triton passes host-made tensor descriptors of one kernel (docs/formats/executor.md).
struct DescriptorPassing {
  // By descriptor, in the order of the arguments; nothing: as its fields. Descriptors past the end too.
  std::vector<std::optional<TensorMapMetadata>> by_value;
  bool with_padding = false;       // an i1 between the 64-bit and the 32-bit fields: Triton 3.5 on
  bool passes_fp4_extent = false;  // a doubled extent is passed to the kernel too: 3.5 and 3.6
};
// INVALID_ARGUMENT kMetadata: raw_json is no JSON object, or has a tensordesc_meta that is none.
absl::StatusOr<DescriptorPassing> DescriptorPassingOf(const KernelMetadata& metadata);

// The kernel parameters that argument number `position` of the signature takes: sizes in order. A descriptor
// takes several. INVALID_ARGUMENT kMetadata: a descriptor type that is none.
absl::StatusOr<std::vector<uint32_t>> ParameterSizes(const KernelSignature& signature, size_t position,
                                                     const DescriptorPassing& passing);

// Appends the encoded arguments to `out`. Errors name the argument by its position, and by name where the
// file has one (details: argument, name): INVALID_ARGUMENT kArgument for a wrong count, kind, dtype, range or
// divisibility; NOT_FOUND kHandle.
absl::Status EncodeArguments(const KernelSignature& signature, const DescriptorPassing& passing,
                             absl::Span<const LaunchArgument> arguments, TensorResolver resolve,
                             std::vector<ExecutorArgument>* out);

// The little-endian bytes of `value` rounded to nearest even in `type`. REQUIRES: a float type of at least 16
// bits.
std::string EncodeFloat(double value, ScalarType type);

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_ARGUMENT_ENCODER_H_
