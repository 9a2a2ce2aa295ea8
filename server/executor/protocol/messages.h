// Values of the executor seam as messages and back. Decoding checks everything: the other side is not
// trusted. Pure functions. Decoders return DATA_LOSS kProtocol for a message that is not of the protocol.
#ifndef TRUN_SERVER_EXECUTOR_PROTOCOL_MESSAGES_H_
#define TRUN_SERVER_EXECUTOR_PROTOCOL_MESSAGES_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/device.h"
#include "trun/internal/v1/executor.pb.h"

namespace trun {

// Whatever changes executor.proto changes it: an executor of another release would pass over a field that it
// does not know. A test holds both together.
constexpr uint32_t kExecutorProtocolVersion = 5;

absl::Status ProtocolError(absl::string_view what);

void EncodeStatus(const absl::Status& status, internal::v1::Status* out);
// *out is what the peer said; the result says whether it said it properly.
absl::Status DecodeStatus(const internal::v1::Status& in, absl::Status* out);

void EncodeDeviceInfo(const device::DeviceInfo& info, internal::v1::HelloReply* out);
absl::StatusOr<device::DeviceInfo> DecodeDeviceInfo(const internal::v1::HelloReply& in);

void EncodeKernelAttributes(const device::KernelAttributes& attributes, internal::v1::LoadKernelReply* out);
absl::StatusOr<device::KernelAttributes> DecodeKernelAttributes(const internal::v1::LoadKernelReply& in);

void EncodeFault(const device::FaultReport& fault, internal::v1::Fault* out);
absl::StatusOr<device::FaultReport> DecodeFault(const internal::v1::Fault& in);

// The checks, with the allocations that are unwritten, and the trace of a launch.
void EncodeWatch(const device::CheckOptions& checks, absl::Span<const uint64_t> unwritten,
                 const device::TraceOptions& trace, internal::v1::LaunchRequest* out);
device::CheckOptions DecodeChecks(const internal::v1::LaunchRequest& in);
absl::StatusOr<device::TraceOptions> DecodeTrace(const internal::v1::LaunchRequest& in);

void EncodeDimensions(const device::LaunchDimensions& dimensions, internal::v1::LaunchRequest* out);
absl::StatusOr<device::LaunchDimensions> DecodeDimensions(const internal::v1::LaunchRequest& in);

void EncodeTensorMap(const device::TensorMapFields& fields, internal::v1::TensorMap* out);
// The device checks what it means.
device::TensorMapFields DecodeTensorMap(const internal::v1::TensorMap& in);

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_PROTOCOL_MESSAGES_H_
