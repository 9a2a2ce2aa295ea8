// The kernels that the fake driver knows by name; what they do is what testdata/*.ptx does on a GPU.
#ifndef TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_KERNELS_H_
#define TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_KERNELS_H_

#include <cuda.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace trun::fake_cuda {

struct KernelLaunch {
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::array<uint32_t, 3> block = {1, 1, 1};
  std::vector<char> parameters;
};
using KernelFunction = CUresult (*)(const KernelLaunch&);

// Null for a name that is none. Thread-safe.
KernelFunction FindKernel(const std::string& name);

}  // namespace trun::fake_cuda

#endif  // TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_KERNELS_H_
