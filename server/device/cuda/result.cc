#include "server/device/cuda/result.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

struct Meaning {
  absl::StatusCode code = absl::StatusCode::kInternal;
  Reason reason = Reason::kInternal;
  const char* advice = "";
};

Meaning MeaningOf(CUresult result) {
  using Code = absl::StatusCode;
  switch (result) {
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
      return {Code::kInvalidArgument, Reason::kArgument, ""};
    case CUDA_ERROR_OUT_OF_MEMORY:
      return {Code::kResourceExhausted, Reason::kOutOfMemory, ": free tensors, or use a smaller grid"};
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
      return {Code::kFailedPrecondition, Reason::kIllegalAddress,
              ": the kernel touched memory that it may not; the emulator names the access"};
    case CUDA_ERROR_MISALIGNED_ADDRESS:
      return {Code::kFailedPrecondition, Reason::kMisalignedAddress,
              ": the kernel accessed an address that its width does not divide"};
    case CUDA_ERROR_ASSERT:
      return {Code::kFailedPrecondition, Reason::kDeviceAssert, ": an assert of the kernel failed"};
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_LAUNCH_FAILED:
      // A trap instruction ends as LAUNCH_FAILED, as do some accesses that the unit reports late.
      return {Code::kFailedPrecondition, Reason::kDeviceAssert,
              ": the kernel stopped with a trap or a fault that the device does not tell apart"};
    case CUDA_ERROR_LAUNCH_TIMEOUT:
      return {Code::kDeadlineExceeded, Reason::kHungKernel, ": the driver's own watchdog ended the kernel"};
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
      return {Code::kFailedPrecondition, Reason::kUnsupportedTarget,
              ": the code is for another architecture; compile it for this device"};
    case CUDA_ERROR_INVALID_IMAGE:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_INVALID_SOURCE:
      return {Code::kInvalidArgument, Reason::kInvalidIr, ": the code could not be loaded"};
    case CUDA_ERROR_NOT_FOUND:
      return {Code::kNotFound, Reason::kArgument, ""};
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
    case CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
    case CUDA_ERROR_INVALID_CLUSTER_SIZE:
      return {Code::kInvalidArgument, Reason::kLaunchShape,
              ": the launch does not fit the device; use a smaller grid or block"};
    case CUDA_ERROR_NO_DEVICE:
      return {Code::kFailedPrecondition, Reason::kUnavailable,
              ": the driver finds no GPU; is one visible (CUDA_VISIBLE_DEVICES, the container's devices)?"};
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_OPERATING_SYSTEM:
      return {Code::kFailedPrecondition, Reason::kNotPermitted,
              ": may this user open /dev/nvidia*, and is the kernel module loaded?"};
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
    case CUDA_ERROR_SYSTEM_NOT_READY:
      return {Code::kFailedPrecondition, Reason::kUnavailable,
              ": library and kernel module of the driver do not fit; reinstall it or restart the machine"};
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_DEVICE_NOT_LICENSED:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
      return {Code::kUnavailable, Reason::kUnavailable, ": the GPU itself cannot be used now"};
    case CUDA_ERROR_NOT_SUPPORTED:
      return {Code::kUnimplemented, Reason::kUnsupportedTarget, ": this device or driver cannot do that"};
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_DEINITIALIZED:
      return {Code::kAborted, Reason::kContextLost, ""};
    default:
      return {};
  }
}

}  // namespace

absl::Status ToStatus(const Driver& driver, CUresult result, absl::string_view what) {
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  const char* name = nullptr;
  const char* text = nullptr;
  // Both leave a null for a code that the driver does not know.
  driver.cuGetErrorName(result, &name);
  driver.cuGetErrorString(result, &text);
  const Meaning meaning = MeaningOf(result);
  return MakeError(
      meaning.code, meaning.reason,
      absl::StrCat(what, ": ",
                   name != nullptr ? name : absl::StrCat("driver error ", static_cast<int>(result)),
                   text != nullptr ? absl::StrCat(" (", text, ")") : std::string(), meaning.advice),
      {{"cuda_error", name != nullptr ? name : absl::StrCat(static_cast<int>(result))}});
}

bool EndsContext(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_UNKNOWN:
      return true;
    default:
      return false;
  }
}

}  // namespace trun::device
