// The fake's cuMemAlloc: memory in a memfd, so that another process opens it by its IPC handle, as it opens a
// real one: at another address, and also after its owner has freed it.
//
// Environment, read at each call:
//   TRUN_FAKE_CUDA_OWNER    the device that all memory is said to be of (default 0)
//   TRUN_FAKE_CUDA_MEMORY   "host" or "managed": what all memory is said to be
#include <cuda.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "common/base/mutex.h"
#include "server/device/cuda/fake_driver/fake_calls.h"
#include "server/device/cuda/fake_driver/fake_streams.h"

using trun::fake_cuda::Context;

namespace {

constexpr char kMagic[8] = {'f', 'a', 'k', 'e', 'i', 'p', 'c', '1'};

struct WireHandle {
  char magic[8];
  int64_t process;
  int64_t descriptor;
};
static_assert(sizeof(WireHandle) <= sizeof(CUipcMemHandle));

struct Block {
  size_t bytes = 0;
  int fd = -1;          // -1: another process is the owner
  uint64_t number = 0;  // CU_POINTER_ATTRIBUTE_BUFFER_ID
};

// What cuMemAlloc and cuIpcOpenMemHandle made, by address. Thread-safe.
struct Blocks {
  trun::Mutex mu;
  std::map<CUdeviceptr, Block> at ABSL_GUARDED_BY(mu);
  uint64_t made ABSL_GUARDED_BY(mu) = 0;

  static Blocks& Get() {
    static auto* const blocks = new Blocks;
    return *blocks;
  }
  std::map<CUdeviceptr, Block>::iterator Find(CUdeviceptr address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    auto it = at.upper_bound(address);
    if (it == at.begin()) return at.end();
    --it;
    return address - it->first < it->second.bytes ? it : at.end();
  }
};

CUresult MapShared(int fd, size_t bytes, CUdeviceptr* address) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = reinterpret_cast<CUdeviceptr>(memory);
  Context::Get().AddMapping(*address, bytes, static_cast<char*>(memory));
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  ENTER();
  const int fd = memfd_create("fake-gpu-block", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = MapShared(fd, bytes, address);
  if (result != CUDA_SUCCESS) return result;
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  blocks.at[*address] = {bytes, fd, ++blocks.made};
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  ENTER();
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  const auto it = blocks.at.find(address);
  if (it == blocks.at.end()) return CUDA_ERROR_INVALID_VALUE;
  Context::Get().RemoveMapping(address);
  munmap(reinterpret_cast<void*>(address), it->second.bytes);
  close(it->second.fd);
  blocks.at.erase(it);
  return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  ENTER();
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  const auto it = blocks.Find(address);
  if (it == blocks.at.end()) return CUDA_ERROR_NOT_FOUND;
  *base = it->first;
  *bytes = it->second.bytes;
  return CUDA_SUCCESS;
}
CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  ENTER();
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  const auto it = blocks.Find(address);
  if (it == blocks.at.end() || it->second.fd < 0) return CUDA_ERROR_INVALID_VALUE;
  WireHandle wire = {{}, getpid(), it->second.fd};
  std::memcpy(wire.magic, kMagic, sizeof(kMagic));
  std::memset(handle, 0, sizeof(*handle));
  std::memcpy(handle, &wire, sizeof(wire));
  return CUDA_SUCCESS;
}
CUresult cuIpcOpenMemHandle(CUdeviceptr* address, CUipcMemHandle handle, unsigned) {
  ENTER();
  WireHandle wire;
  std::memcpy(&wire, &handle, sizeof(wire));
  if (std::memcmp(wire.magic, kMagic, sizeof(kMagic)) != 0) return CUDA_ERROR_INVALID_VALUE;
  const std::string path = "/proc/" + std::to_string(wire.process) + "/fd/" + std::to_string(wire.descriptor);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat facts{};
  if (fd < 0 || fstat(fd, &facts) != 0) return CUDA_ERROR_INVALID_VALUE;
  const auto bytes = static_cast<size_t>(facts.st_size);
  const CUresult result = MapShared(fd, bytes, address);
  close(fd);
  if (result != CUDA_SUCCESS) return result;
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  blocks.at[*address] = {bytes, -1, ++blocks.made};
  return CUDA_SUCCESS;
}
CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  ENTER();
  Blocks& blocks = Blocks::Get();
  trun::MutexLock lock(&blocks.mu);
  const auto it = blocks.at.find(address);
  if (it == blocks.at.end() || it->second.fd >= 0) return CUDA_ERROR_INVALID_VALUE;
  Context::Get().RemoveMapping(address);
  munmap(reinterpret_cast<void*>(address), it->second.bytes);
  blocks.at.erase(it);
  return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  ENTER();
  if (Context::Get().Host(address, 1) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const char* const said = std::getenv("TRUN_FAKE_CUDA_MEMORY");
  const char* const owner = std::getenv("TRUN_FAKE_CUDA_OWNER");
  const auto give = [value](auto given) {
    std::memcpy(value, &given, sizeof(given));
    return CUDA_SUCCESS;
  };
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return give(address);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give(owner == nullptr ? 0 : std::atoi(owner));
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give(said != nullptr && std::string(said) == "host" ? 1u : 2u);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return give(said != nullptr && std::string(said) == "managed" ? 1u : 0u);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: {
      Blocks& blocks = Blocks::Get();
      trun::MutexLock lock(&blocks.mu);
      const auto it = blocks.Find(address);
      return it == blocks.at.end() ? CUDA_ERROR_INVALID_VALUE
                                   : give(static_cast<unsigned long long>(it->second.number));
    }
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // extern "C"
