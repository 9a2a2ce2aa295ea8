#ifndef TRUN_SERVER_DEVICE_CUDA_TENSOR_MAP_H_
#define TRUN_SERVER_DEVICE_CUDA_TENSOR_MAP_H_

#include "absl/status/statusor.h"
#include "server/device/cuda/driver.h"
#include "server/device/device.h"

namespace trun::device {

// As Device::EncodeTensorMap, by the driver. Needs no context. Thread-safe.
absl::StatusOr<TensorMapBytes> EncodeCudaTensorMap(const Driver& driver, const TensorMapFields& fields);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_TENSOR_MAP_H_
