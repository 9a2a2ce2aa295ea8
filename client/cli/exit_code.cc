#include "client/cli/exit_code.h"

#include "common/base/status.h"

namespace trun::cli {
namespace {

ExitCode ByCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
      return kExitBadInput;
    case absl::StatusCode::kResourceExhausted:
      return kExitLimit;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return kExitUnavailable;
    default:
      return kExitInternal;
  }
}

}  // namespace

ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  switch (GetReason(status)) {
    case Reason::kNumericMismatch:
      return kExitMismatch;
    case Reason::kCompileFailed:
    case Reason::kCompileTimeout:
    case Reason::kCompileOutOfMemory:
    case Reason::kUnsupportedTarget:
    case Reason::kToolchainBroken:
      return kExitCompileFailed;
    case Reason::kIllegalAddress:
    case Reason::kMisalignedAddress:
    case Reason::kUseAfterFree:
    case Reason::kUninitializedRead:
    case Reason::kRace:
    case Reason::kDeviceAssert:
    case Reason::kBarrierDivergence:
    case Reason::kHungKernel:
    case Reason::kContextLost:
      return kExitKernelFault;
    case Reason::kExecutorLost:
    case Reason::kWorkerLost:
    case Reason::kDraining:
    case Reason::kCacheLocked:
    case Reason::kUnavailable:
    case Reason::kProtocol:
    case Reason::kCancelled:
      return kExitUnavailable;
    case Reason::kTooLarge:
    case Reason::kQuota:
    case Reason::kOutOfMemory:
      return kExitLimit;
    case Reason::kInvalidIr:
    case Reason::kUnknownOption:
    case Reason::kUnsupportedLevel:
    case Reason::kUnsupportedInstruction:
    case Reason::kMetadata:
    case Reason::kArgument:
    case Reason::kHandle:
    case Reason::kLaunchShape:
    case Reason::kToolchainNotFound:
    case Reason::kSessionExpired:
    case Reason::kNotPermitted:
    case Reason::kCorrupt:
      return kExitBadInput;
    case Reason::kInternal:
      return kExitInternal;
    case Reason::kUnspecified:
      break;
  }
  return ByCode(status.code());
}

absl::string_view ExitCodeHelp() {
  return "Exit codes:\n"
         "  0   ok\n"
         "  1   the numbers differ from the expected ones\n"
         "  2   the command line is wrong\n"
         "  3   bad input: a file, an argument, a name\n"
         "  4   the compile failed\n"
         "  5   the kernel stopped: illegal address, assert, hang\n"
         "  6   no daemon, or one of its processes ended\n"
         "  7   a limit: quota, size, memory\n"
         "  70  a bug in trun\n";
}

}  // namespace trun::cli
