#ifndef TRUN_SERVER_DEVICE_TENSOR_MAP_CHECK_H_
#define TRUN_SERVER_DEVICE_TENSOR_MAP_CHECK_H_

#include "absl/status/status.h"
#include "server/device/device.h"

namespace trun::device {

// Whether these are the fields of a tensor map, by the rules that the CUDA driver API documents for
// cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col: what any device refuses. INVALID_ARGUMENT kArgument
// that names the field, what it is and what it may be. A pure function, thread-safe.
absl::Status CheckTensorMap(const TensorMapFields& fields);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_TENSOR_MAP_CHECK_H_
