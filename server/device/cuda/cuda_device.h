// A GPU as a Device, through the CUDA driver. docs/adr/0010-cuda-device.md.
#ifndef TRUN_SERVER_DEVICE_CUDA_CUDA_DEVICE_H_
#define TRUN_SERVER_DEVICE_CUDA_CUDA_DEVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/device/device.h"

namespace trun::device {

struct CudaOptions {
  int index = 0;        // as the driver counts
  std::string library;  // of the driver; empty: TRUN_LIBCUDA, else libcuda.so.1
  // Take this process's standard output and error for what kernels print. At most one such device at a time.
  bool capture_output = false;
};

// FAILED_PRECONDITION kUnavailable where no driver or no GPU can be used, and why; NOT_FOUND: no such number.
// A device whose kernel hangs or faulted leaves everything to the end of its process: its destructor and
// those of its parts touch the driver no more. Thread-safe.
absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(const CudaOptions& options);

// How many GPUs the driver shows; the same errors.
absl::StatusOr<int> CountCudaDevices(const std::string& library);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_CUDA_DEVICE_H_
