// The only place that knows what the driver's error codes mean.
#ifndef TRUN_SERVER_DEVICE_CUDA_RESULT_H_
#define TRUN_SERVER_DEVICE_CUDA_RESULT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/device/cuda/driver.h"

namespace trun::device {

// OK for CUDA_SUCCESS; else a status whose message is "WHAT: NAME (the driver's text)" and what to do where
// something can be done. Pure, thread-safe.
absl::Status ToStatus(const Driver& driver, CUresult result, absl::string_view what);

// Whether the context is of no use after this result: every later call in it fails too.
bool EndsContext(CUresult result);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_RESULT_H_
