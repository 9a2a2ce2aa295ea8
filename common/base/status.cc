#include "common/base/status.h"

#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace trun {
namespace {

// The payload is "REASON\0key\0value\0key\0value\0...": private to this process; common/rpc puts it on the
// wire as google.rpc.ErrorInfo.
constexpr char kPayloadUrl[] = "trun/reason";

struct NamedReason {
  Reason reason;
  absl::string_view name;
};

constexpr std::array<NamedReason, 39> kReasons = {{
    {Reason::kUnspecified, "UNSPECIFIED"},
    {Reason::kInvalidIr, "INVALID_IR"},
    {Reason::kCompileFailed, "COMPILE_FAILED"},
    {Reason::kCompileTimeout, "COMPILE_TIMEOUT"},
    {Reason::kCompileOutOfMemory, "COMPILE_OUT_OF_MEMORY"},
    {Reason::kUnknownOption, "UNKNOWN_OPTION"},
    {Reason::kUnsupportedLevel, "UNSUPPORTED_LEVEL"},
    {Reason::kUnsupportedInstruction, "UNSUPPORTED_INSTRUCTION"},
    {Reason::kUnsupportedTarget, "UNSUPPORTED_TARGET"},
    {Reason::kMetadata, "METADATA"},
    {Reason::kArgument, "ARGUMENT"},
    {Reason::kHandle, "HANDLE"},
    {Reason::kLaunchShape, "LAUNCH_SHAPE"},
    {Reason::kTooLarge, "TOO_LARGE"},
    {Reason::kQuota, "QUOTA"},
    {Reason::kOutOfMemory, "OUT_OF_MEMORY"},
    {Reason::kIllegalAddress, "ILLEGAL_ADDRESS"},
    {Reason::kMisalignedAddress, "MISALIGNED_ADDRESS"},
    {Reason::kUseAfterFree, "USE_AFTER_FREE"},
    {Reason::kUninitializedRead, "UNINITIALIZED_READ"},
    {Reason::kRace, "RACE"},
    {Reason::kDeviceAssert, "DEVICE_ASSERT"},
    {Reason::kBarrierDivergence, "BARRIER_DIVERGENCE"},
    {Reason::kHungKernel, "HUNG_KERNEL"},
    {Reason::kContextLost, "CONTEXT_LOST"},
    {Reason::kExecutorLost, "EXECUTOR_LOST"},
    {Reason::kWorkerLost, "WORKER_LOST"},
    {Reason::kToolchainNotFound, "TOOLCHAIN_NOT_FOUND"},
    {Reason::kToolchainBroken, "TOOLCHAIN_BROKEN"},
    {Reason::kSessionExpired, "SESSION_EXPIRED"},
    {Reason::kNotPermitted, "NOT_PERMITTED"},
    {Reason::kDraining, "DRAINING"},
    {Reason::kCacheLocked, "CACHE_LOCKED"},
    {Reason::kCorrupt, "CORRUPT"},
    {Reason::kProtocol, "PROTOCOL"},
    {Reason::kNumericMismatch, "NUMERIC_MISMATCH"},
    {Reason::kUnavailable, "UNAVAILABLE"},
    {Reason::kCancelled, "CANCELLED"},
    {Reason::kInternal, "INTERNAL"},
}};

void SetPayload(absl::Status& status, Reason reason, const ErrorDetails& details) {
  std::string payload(ReasonName(reason));
  payload.push_back('\0');
  for (const auto& [key, value] : details) {
    absl::StrAppend(&payload, key, absl::string_view("\0", 1), value, absl::string_view("\0", 1));
  }
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
}

void ParsePayload(const absl::Status& status, Reason* reason, ErrorDetails* details) {
  absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload) return;
  const std::string text(*payload);
  std::vector<std::string> fields;
  size_t start = 0;
  for (size_t end = text.find('\0'); end != std::string::npos; end = text.find('\0', start)) {
    fields.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  if (fields.empty()) return;
  if (reason) *reason = ReasonFromName(fields[0]);
  if (details) {
    for (size_t i = 1; i + 1 < fields.size(); i += 2) (*details)[fields[i]] = fields[i + 1];
  }
}

}  // namespace

absl::string_view ReasonName(Reason reason) {
  for (const NamedReason& named : kReasons) {
    if (named.reason == reason) return named.name;
  }
  return kReasons[0].name;
}

Reason ReasonFromName(absl::string_view name) {
  for (const NamedReason& named : kReasons) {
    if (named.name == name) return named.reason;
  }
  return Reason::kUnspecified;
}

absl::Status MakeError(absl::StatusCode code, Reason reason, absl::string_view message,
                       const ErrorDetails& details) {
  absl::Status status(code, message);
  SetPayload(status, reason, details);
  return status;
}

absl::Status InvalidArgument(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kInvalidArgument, reason, message, details);
}
absl::Status NotFound(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kNotFound, reason, message, details);
}
absl::Status FailedPrecondition(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kFailedPrecondition, reason, message, details);
}
absl::Status ResourceExhausted(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kResourceExhausted, reason, message, details);
}
absl::Status Unavailable(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kUnavailable, reason, message, details);
}
absl::Status DeadlineExceeded(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kDeadlineExceeded, reason, message, details);
}
absl::Status DataLoss(Reason reason, absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kDataLoss, reason, message, details);
}
absl::Status Internal(absl::string_view message, const ErrorDetails& details) {
  return MakeError(absl::StatusCode::kInternal, Reason::kInternal, message, details);
}
absl::Status FromErrno(int error, absl::string_view message, Reason reason) {
  return MakeError(absl::ErrnoToStatusCode(error), reason, absl::StrCat(message, ": ", std::strerror(error)));
}

Reason GetReason(const absl::Status& status) {
  Reason reason = Reason::kUnspecified;
  ParsePayload(status, &reason, nullptr);
  return reason;
}

ErrorDetails GetDetails(const absl::Status& status) {
  ErrorDetails details;
  ParsePayload(status, nullptr, &details);
  return details;
}

absl::Status WithDetails(const absl::Status& status, const ErrorDetails& details) {
  if (status.ok()) return status;
  ErrorDetails all = GetDetails(status);
  for (const auto& [key, value] : details) all[key] = value;
  absl::Status result = status;
  SetPayload(result, GetReason(status), all);
  return result;
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  absl::Status result(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload(
      [&result](absl::string_view url, const absl::Cord& payload) { result.SetPayload(url, payload); });
  return result;
}

}  // namespace trun
