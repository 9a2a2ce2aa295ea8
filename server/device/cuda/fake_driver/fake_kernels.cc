#include "server/device/cuda/fake_driver/fake_kernels.h"

#include <unistd.h>

#include <cstring>
#include <map>

#include "server/device/cuda/fake_driver/fake_program.h"
#include "server/device/cuda/fake_driver/fake_streams.h"

namespace trun::fake_cuda {
namespace {

template <typename T>
T Parameter(const KernelLaunch& launch, size_t offset) {
  T value{};
  if (launch.parameters.size() >= offset + sizeof(T)) {
    std::memcpy(&value, launch.parameters.data() + offset, sizeof(T));
  }
  return value;
}

bool Store(uint64_t address, uint32_t value) {
  char* const host = Context::Get().Host(address, 4);
  if (host == nullptr) return false;
  std::memcpy(host, &value, 4);
  return true;
}

// out[thread] = thread + addend
CUresult Fill(const KernelLaunch& launch) {
  const auto out = Parameter<uint64_t>(launch, 0);
  const auto addend = Parameter<uint32_t>(launch, 8);
  const uint32_t threads = launch.grid[0] * launch.block[0];
  for (uint32_t i = 0; i < threads; ++i) {
    if (!Store(out + 4 * uint64_t{i}, i + addend)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  return CUDA_SUCCESS;
}

CUresult Forever(const KernelLaunch&) {
  while (true) pause();
}

CUresult Illegal(const KernelLaunch&) { return CUDA_ERROR_ILLEGAL_ADDRESS; }
CUresult Misaligned(const KernelLaunch&) { return CUDA_ERROR_MISALIGNED_ADDRESS; }
CUresult Trap(const KernelLaunch&) { return CUDA_ERROR_LAUNCH_FAILED; }
CUresult Assert(const KernelLaunch&) {
  Context::Get().Print("kernel.py:7: pick: block: [0,0,0], thread: [0,0,0] Assertion `index < 4` failed.\n");
  return CUDA_ERROR_ASSERT;
}
CUresult Print(const KernelLaunch& launch) {
  Context::Get().Print("value " + std::to_string(Parameter<uint32_t>(launch, 0)) + "\n");
  return CUDA_SUCCESS;
}

// *(*cell) += 1: a pointer that lies in memory.
CUresult Chase(const KernelLaunch& launch) {
  const auto cell = Parameter<uint64_t>(launch, 0);
  const char* const cell_host = Context::Get().Host(cell, 8);
  if (cell_host == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
  uint64_t target = 0;
  std::memcpy(&target, cell_host, 8);
  const char* const target_host = Context::Get().Host(target, 4);
  if (target_host == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
  uint32_t value = 0;
  std::memcpy(&value, target_host, 4);
  return Store(target, value + 1) ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
}

// Takes any parameters and does nothing: trunFakeCudaLastLaunch() tells how it was launched.
CUresult Note(const KernelLaunch&) { return CUDA_SUCCESS; }

CUresult Canary(const KernelLaunch& launch) {
  const auto scratch = Parameter<uint64_t>(launch, 8);
  for (uint32_t i = 0; i < 32; ++i) {
    if (!Store(scratch + 4 * uint64_t{i}, i)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  return CUDA_SUCCESS;
}

// Prints what the driver was told of the last launch, which is this one where nothing else is queued.
CUresult Told(const KernelLaunch&) {
  Context::Get().Print(std::string(trunFakeCudaLastLaunch()) + "\n");
  return CUDA_SUCCESS;
}

}  // namespace

KernelFunction FindKernel(const std::string& name) {
  static const auto* const kernels = new std::map<std::string, KernelFunction>{
      {"fill", Fill},   {"forever", Forever}, {"illegal", Illegal}, {"misaligned", Misaligned},
      {"trap", Trap},   {"assert", Assert},   {"print", Print},     {"canary", Canary},
      {"chase", Chase}, {"note", Note},       {"told", Told},
  };
  const auto it = kernels->find(name);
  return it == kernels->end() ? nullptr : it->second;
}

}  // namespace trun::fake_cuda
