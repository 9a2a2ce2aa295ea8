// What every function of the fake driver begins with.
#ifndef TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_CALLS_H_
#define TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_CALLS_H_

#include <cuda.h>

#include <string>

namespace trun::fake_cuda {

// Appends a line to the file that TRUN_FAKE_CUDA_LOG names, if any.
void Log(const std::string& line);
// Logs the call; what TRUN_FAKE_CUDA_FAIL says of it.
CUresult Enter(const char* function);

}  // namespace trun::fake_cuda

#define ENTER()                                                  \
  do {                                                           \
    const CUresult injected_ = trun::fake_cuda::Enter(__func__); \
    if (injected_ != CUDA_SUCCESS) return injected_;             \
  } while (false)

#endif  // TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_CALLS_H_
