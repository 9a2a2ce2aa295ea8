#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_PARAMETER_PACKING_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_PARAMETER_PACKING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/device/device.h"
#include "trun/internal/v1/executor.pb.h"

namespace trun {

// How many trailing parameters are the executor's to fill: 0 (Triton 3.0–3.2), 1 (3.3, 3.4: global scratch)
// or 2 (3.5 on: global and profile scratch). INVALID_ARGUMENT kArgument: `arguments` do not fit the kernel.
absl::StatusOr<int> HiddenParameters(const device::KernelAttributes& attributes, int arguments);

// The parameter buffer: each argument at its parameter's offset, then the scratch addresses in the hidden
// ones. Tensor maps are encoded by `device`. INVALID_ARGUMENT kArgument (details: argument): one that is not
// exactly as long as its parameter, or a tensor map that the device refuses; Device::EncodeTensorMap's other
// errors.
absl::StatusOr<std::vector<std::byte>> PackParameters(
    const device::Device& device, const device::KernelAttributes& attributes,
    const google::protobuf::RepeatedPtrField<internal::v1::Argument>& arguments, uint64_t global_scratch,
    uint64_t profile_scratch);

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_PARAMETER_PACKING_H_
