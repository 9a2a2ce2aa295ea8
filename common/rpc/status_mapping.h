// absl::Status ⇄ grpc::Status, with reason, details and fault kept.
//
// On the wire: google.rpc.Status in the binary details, holding one google.rpc.ErrorInfo (domain "trun",
// reason the name of a trun.v1.ErrorReason without its prefix, metadata the named details) and, for a launch
// that faulted, one trun.v1.FaultReport. All functions are thread-safe.
#ifndef TRUN_COMMON_RPC_STATUS_MAPPING_H_
#define TRUN_COMMON_RPC_STATUS_MAPPING_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"
#include "grpcpp/support/status.h"
#include "trun/v1/error.pb.h"

namespace trun {

constexpr absl::string_view kErrorDomain = "trun";

// The same status with `fault` attached; replaces one that was there. OK stays OK.
absl::Status WithFault(const absl::Status& status, const v1::FaultReport& fault);
// What WithFault attached, or what came over the wire.
std::optional<v1::FaultReport> GetFault(const absl::Status& status);

// Never fails: text that is not UTF-8 is made so, and a message or details too long for HTTP/2 trailers are
// cut in the middle, so that the end (of a compiler's log) is kept.
grpc::Status ToGrpcStatus(const absl::Status& status);
// What ToGrpcStatus sent. A status of gRPC itself (no details) gets the reason that fits its code:
// UNAVAILABLE kUnavailable, CANCELLED kCancelled, RESOURCE_EXHAUSTED kTooLarge, UNIMPLEMENTED kProtocol,
// INTERNAL kProtocol. Details that do not parse are dropped. Codes that absl does not know become kUnknown.
absl::Status FromGrpcStatus(const grpc::Status& status);

// `text` with every byte that is not part of valid UTF-8 replaced by '?', cut in the middle to at most
// `limit` bytes.
std::string WireText(absl::string_view text, size_t limit);

}  // namespace trun

#endif  // TRUN_COMMON_RPC_STATUS_MAPPING_H_
