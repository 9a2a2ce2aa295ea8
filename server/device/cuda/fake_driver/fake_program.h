// The fake driver's side of a program that launches in its own process: what its launcher calls beyond what
// an executor does, and what the last launch was.
#ifndef TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_PROGRAM_H_
#define TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_PROGRAM_H_

#include <cuda.h>

#include <string>

#include "server/device/cuda/fake_driver/fake_kernels.h"

namespace trun::fake_cuda {

// Remembers a launch for trunFakeCudaLastLaunch(), as JSON. Thread-safe.
void NoteLaunch(const std::string& kernel, const CUlaunchConfig& config, const KernelLaunch& launch);

}  // namespace trun::fake_cuda

extern "C" {
// The last launch: {"kernel", "grid", "block", "shared", "stream", "attributes": {id: value}, "parameters":
// hexadecimal}. Valid until the next launch.
__attribute__((visibility("default"))) const char* trunFakeCudaLastLaunch();
}

#endif  // TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_PROGRAM_H_
