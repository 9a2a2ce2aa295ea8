// Statuses with a documented reason: what every fallible function of trun returns.
//
// An absl::Status made here carries, beside its code and message, a Reason (the machine-readable cause, sent
// to clients as google.rpc.ErrorInfo) and any number of named details ("line", "argument", "limit", ...). The
// message says what was wrong, where, and what to do next. All functions are thread-safe.
#ifndef TRUN_COMMON_BASE_STATUS_H_
#define TRUN_COMMON_BASE_STATUS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// Why a call failed. Names and meanings are those of trun.v1.ErrorReason (proto/trun/v1/error.proto); a test
// holds the two together. Never renumber.
enum class Reason : int {
  kUnspecified = 0,
  kInvalidIr = 1,               // the file does not parse or verify; details: line, column where known
  kCompileFailed = 2,           // the toolchain refused or died; the message ends with its log's tail
  kCompileTimeout = 3,          // the compile passed its deadline and its worker was ended
  kCompileOutOfMemory = 4,      // the compile passed its memory limit and its worker was ended
  kUnknownOption = 5,           // details: option; the message lists the known ones
  kUnsupportedLevel = 6,        // no way from this level to that one, or a cubin on the emulator
  kUnsupportedInstruction = 7,  // details: line, instruction
  kUnsupportedTarget = 8,       // the toolchain or device cannot do this architecture
  kMetadata = 9,                // metadata missing a key, or contradicting the artifact; details: key
  kArgument = 10,               // count, kind or dtype of a kernel argument; details: argument (position)
  kHandle = 11,                 // freed, foreign or never-minted handle
  kLaunchShape = 12,            // a zero or oversized grid, block or shared memory
  kTooLarge = 13,               // a file or message over a limit; details: limit
  kQuota = 14,                  // the tenant's or session's quota; details: limit
  kOutOfMemory = 15,            // the device or host has no memory left
  kIllegalAddress = 16,         // a kernel touched memory outside every live allocation
  kMisalignedAddress = 17,
  kUseAfterFree = 18,
  kUninitializedRead = 19,
  kRace = 20,
  kDeviceAssert = 21,       // assert or trap in the kernel
  kBarrierDivergence = 22,  // a barrier that not all threads reach
  kHungKernel = 23,         // the launch passed its deadline, or no warp could progress
  kContextLost = 24,        // an earlier fault ended this device context; a new executor follows
  kExecutorLost = 25,       // the executor process ended in the middle of the call
  kWorkerLost = 26,         // a compile worker or front end ended in the middle of the call
  kToolchainNotFound = 27,  // details: toolchain; the message names the command that installs it
  kToolchainBroken = 28,
  kSessionExpired = 29,  // closed, or its lease ran out
  kNotPermitted = 30,
  kDraining = 31,         // the daemon is ending; retry against the next one
  kCacheLocked = 32,      // another daemon holds the cache folder
  kCorrupt = 33,          // stored or transmitted data failed its checksum
  kProtocol = 34,         // a peer sent a frame that is not of the protocol
  kNumericMismatch = 35,  // a result differs from the expected one (clients only)
  kUnavailable = 36,      // the daemon or a process it needs cannot be reached or started
  kCancelled = 37,
  kInternal = 38,  // a bug in trun: please report it
};

// "COMPILE_FAILED" for kCompileFailed: the name in trun.v1.ErrorReason without its prefix.
absl::string_view ReasonName(Reason reason);
// kUnspecified for a name that is none.
Reason ReasonFromName(absl::string_view name);

using ErrorDetails = std::map<std::string, std::string>;

// A non-OK status with a reason. REQUIRES: code != kOk.
absl::Status MakeError(absl::StatusCode code, Reason reason, absl::string_view message,
                       const ErrorDetails& details = {});

// Shorthands for the commonest codes.
absl::Status InvalidArgument(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status NotFound(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status FailedPrecondition(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status ResourceExhausted(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status Unavailable(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status DeadlineExceeded(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status DataLoss(Reason reason, absl::string_view message, const ErrorDetails& details = {});
absl::Status Internal(absl::string_view message, const ErrorDetails& details = {});
// For errno: "MESSAGE: strerror(error)", the code absl chooses for that errno, kInternal as the reason unless
// given.
absl::Status FromErrno(int error, absl::string_view message, Reason reason = Reason::kInternal);

// kUnspecified where the status has none (and for OK).
Reason GetReason(const absl::Status& status);
// Empty where the status has none.
ErrorDetails GetDetails(const absl::Status& status);
// The same status with details added (a name already there is overwritten). OK stays OK.
absl::Status WithDetails(const absl::Status& status, const ErrorDetails& details);
// The same status, reason and details with "PREFIX: " before its message. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace trun

#define TRUN_CONCAT_INNER_(a, b) a##b
#define TRUN_CONCAT_(a, b) TRUN_CONCAT_INNER_(a, b)

// Returns from the calling function when `expr` (an absl::Status) is not OK.
#define TRUN_RETURN_IF_ERROR(expr)               \
  do {                                           \
    absl::Status trun_status_ = (expr);          \
    if (!trun_status_.ok()) return trun_status_; \
  } while (false)

// TRUN_ASSIGN_OR_RETURN(auto x, MakeX()): assigns the value, or returns the status.
#define TRUN_ASSIGN_OR_RETURN(lhs, expr) \
  TRUN_ASSIGN_OR_RETURN_IMPL_(TRUN_CONCAT_(trun_statusor_, __LINE__), lhs, expr)
#define TRUN_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                                \
  if (!statusor.ok()) return statusor.status();          \
  lhs = std::move(statusor).value()

#endif  // TRUN_COMMON_BASE_STATUS_H_
