// A driver library for tests where there is no GPU: the functions of libcuda that trun calls, with device
// memory in memfds, at its device address where the host has room there, streams on threads, and kernels that
// are known by name and run on the host (fake_kernels.h). Built as a shared object and loaded as the real one
// is, through TRUN_LIBCUDA.
//
// Environment, read at each call:
//   TRUN_FAKE_CUDA_DEVICES   how many GPUs there are (default 1)
//   TRUN_FAKE_CUDA_VERSION   what cuDriverGetVersion says (default 13000)
//   TRUN_FAKE_CUDA_CAPTURING every stream is in a capture
//   TRUN_FAKE_CUDA_DEVICE_OF_NEW_MEMORY   of which GPU cuMemCreate's memory is (default: as asked for)
//   TRUN_FAKE_CUDA_FAIL      "cuMemCreate=2,…": these functions return that CUresult
//   TRUN_FAKE_CUDA_LOG       a file to which the name of every function called is appended, a line each,
//                            and what tensor maps were asked for
#include <cuda.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/artifact/cubin_facts.h"
#include "server/device/cuda/fake_driver/fake_calls.h"
#include "server/device/cuda/fake_driver/fake_kernels.h"
#include "server/device/cuda/fake_driver/fake_program.h"
#include "server/device/cuda/fake_driver/fake_streams.h"

using trun::fake_cuda::Context;
using trun::fake_cuda::Event;
using trun::fake_cuda::FindKernel;
using trun::fake_cuda::KernelLaunch;
using trun::fake_cuda::Stream;

namespace {

constexpr size_t kGranule = size_t{2} << 20;
constexpr size_t kLeastHinted = size_t{32} << 20;  // the driver ignores the hint of a smaller reservation

struct Function {
  trun::CubinEntry entry;
};
struct Module {
  std::vector<std::unique_ptr<Function>> functions;
};
// Those that are loaded: nobody unloads what a lost context left behind. Thread-safe.
class Modules {
 public:
  static Modules& Get() {
    static auto* const modules = new Modules;
    return *modules;
  }
  void Add(std::unique_ptr<Module> module) {
    trun::MutexLock lock(&mu_);
    Module* const key = module.get();
    loaded_[key] = std::move(module);
  }
  void Remove(Module* module) {
    trun::MutexLock lock(&mu_);
    loaded_.erase(module);
  }

 private:
  trun::Mutex mu_;
  std::map<Module*, std::unique_ptr<Module>> loaded_ ABSL_GUARDED_BY(mu_);
};

struct Memory {
  int fd = -1;
  size_t bytes = 0;
  int device = 0;
};

// Memory of the fake says in its name which device it is of.
constexpr char kMemoryName[] = "fake-gpu-memory-";

// The device of memory that a descriptor names; -1: it is none of the fake's.
int DeviceOf(int fd) {
  char name[128] = {};
  if (readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof(name) - 1) < 0) return -1;
  const std::string prefix = std::string("/memfd:") + kMemoryName;
  return std::strncmp(name, prefix.c_str(), prefix.size()) == 0 ? std::atoi(name + prefix.size()) : -1;
}

int Devices() {
  const char* const count = std::getenv("TRUN_FAKE_CUDA_DEVICES");
  return count == nullptr ? 1 : std::atoi(count);
}

// The length of an ELF image, which the driver is not told: the end of what its headers point to.
size_t ImageBytes(const char* image) {
  uint64_t sections = 0, segments = 0;
  uint16_t count = 0, segment_count = 0;
  std::memcpy(&segments, image + 32, 8);
  std::memcpy(&sections, image + 40, 8);
  std::memcpy(&segment_count, image + 56, 2);
  std::memcpy(&count, image + 60, 2);
  uint64_t end = std::max(sections + 64 * count, segments + 56 * segment_count);
  for (uint16_t i = 0; i < count; ++i) {
    uint32_t type = 0;
    uint64_t offset = 0, size = 0;
    std::memcpy(&type, image + sections + 64 * i + 4, 4);
    std::memcpy(&offset, image + sections + 64 * i + 24, 8);
    std::memcpy(&size, image + sections + 64 * i + 32, 8);
    if (type != 8) end = std::max(end, offset + size);
  }
  return end;
}

Function* AsFunction(CUfunction function) { return reinterpret_cast<Function*>(function); }
Stream* AsStream(CUstream stream) { return reinterpret_cast<Stream*>(stream); }
Event* AsEvent(CUevent event) { return reinterpret_cast<Event*>(event); }

// Null: memory of the device that is not mapped.
CUresult Copy(void* to, const void* from, size_t bytes) {
  if (to == nullptr || from == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
  std::memcpy(to, from, bytes);
  return CUDA_SUCCESS;
}

}  // namespace

#define ENTER_CONTEXT() \
  ENTER();              \
  if (const CUresult sticky_ = Context::Get().error(); sticky_ != CUDA_SUCCESS) return sticky_

extern "C" {

CUresult cuInit(unsigned) {
  ENTER();
  return Devices() > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}
CUresult cuDriverGetVersion(int* version) {
  ENTER();
  const char* const given = std::getenv("TRUN_FAKE_CUDA_VERSION");
  *version = given == nullptr ? 13000 : std::atoi(given);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char** text) {
  *text = error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OF_THE_FAKE";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = "as the fake driver was told to say";
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
  ENTER();
  *count = Devices();
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int index) {
  ENTER();
  *device = index;
  return index >= 0 && index < Devices() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char* name, int bytes, CUdevice device) {
  ENTER();
  snprintf(name, static_cast<size_t>(bytes), "fake GPU %d", device);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  ENTER();
  *bytes = size_t{8} << 30;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  ENTER();
  static const std::map<CUdevice_attribute, int> values = {
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 4},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
      {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 3201000},
  };
  const auto it = values.find(attribute);
  if (it == values.end()) return CUDA_ERROR_INVALID_VALUE;
  *value = it->second;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  ENTER();
  Context::Get().Retain();
  *context = reinterpret_cast<CUcontext>(&Context::Get());
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  ENTER();
  Context::Get().Release();
  return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
  ENTER();
  return Context::Get().Synchronize();
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  ENTER_CONTEXT();
  const char* const bytes = static_cast<const char*>(image);
  // A real driver would compile PTX here: nobody may give it any.
  if (std::strncmp(bytes, "\177ELF", 4) != 0) return CUDA_ERROR_INVALID_IMAGE;
  const auto facts = trun::ReadCubinFacts(absl::string_view(bytes, ImageBytes(bytes)));
  if (!facts.ok()) return CUDA_ERROR_INVALID_IMAGE;
  auto made = std::make_unique<Module>();
  for (const trun::CubinEntry& entry : facts->entries) {
    made->functions.push_back(std::make_unique<Function>(Function{entry}));
  }
  *module = reinterpret_cast<CUmodule>(made.get());
  Modules::Get().Add(std::move(made));
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  ENTER_CONTEXT();
  Modules::Get().Remove(reinterpret_cast<Module*>(module));
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  ENTER_CONTEXT();
  for (const auto& candidate : reinterpret_cast<Module*>(module)->functions) {
    if (candidate->entry.name != name) continue;
    *function = reinterpret_cast<CUfunction>(candidate.get());
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction) {
  ENTER_CONTEXT();
  *value = attribute == CU_FUNC_ATTRIBUTE_NUM_REGS                ? 16
           : attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
                                                                  : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  ENTER_CONTEXT();
  return CUDA_SUCCESS;
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  ENTER_CONTEXT();
  const auto& parameters = AsFunction(function)->entry.parameters;
  if (index >= parameters.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = parameters[index].offset;
  *bytes = parameters[index].bytes;
  return CUDA_SUCCESS;
}
CUresult cuFuncLoad(CUfunction) {
  ENTER_CONTEXT();
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t* bytes, const CUmemAllocationProp*,
                                       CUmemAllocationGranularity_flags) {
  ENTER_CONTEXT();
  *bytes = kGranule;
  return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                     const CUmemAllocationProp* properties, unsigned long long) {
  ENTER_CONTEXT();
  if (bytes == 0 || bytes % kGranule != 0 ||
      properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (bytes > size_t{8} << 30) return CUDA_ERROR_OUT_OF_MEMORY;
  const char* const elsewhere = std::getenv("TRUN_FAKE_CUDA_DEVICE_OF_NEW_MEMORY");
  const int device = elsewhere == nullptr ? properties->location.id : std::atoi(elsewhere);
  const int fd = memfd_create((kMemoryName + std::to_string(device)).c_str(), MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = reinterpret_cast<CUmemGenericAllocationHandle>(new Memory{fd, bytes, device});
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  ENTER_CONTEXT();
  auto* const memory = reinterpret_cast<Memory*>(handle);
  close(memory->fd);
  delete memory;
  return CUDA_SUCCESS;
}
CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType, unsigned long long) {
  ENTER_CONTEXT();
  const int fd = fcntl(reinterpret_cast<Memory*>(handle)->fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shared,
                                        CUmemAllocationHandleType) {
  ENTER_CONTEXT();
  const int fd = fcntl(static_cast<int>(reinterpret_cast<intptr_t>(shared)), F_DUPFD_CLOEXEC, 0);
  struct stat facts{};
  const int device = fd < 0 ? -1 : DeviceOf(fd);
  if (device < 0 || fstat(fd, &facts) != 0) {
    if (fd >= 0) close(fd);
    return CUDA_ERROR_UNKNOWN;  // as driver 580.159.04 says
  }
  *handle = reinterpret_cast<CUmemGenericAllocationHandle>(
      new Memory{fd, static_cast<size_t>(facts.st_size), device});
  return CUDA_SUCCESS;
}
CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* properties,
                                                CUmemGenericAllocationHandle handle) {
  ENTER_CONTEXT();
  *properties = {};
  properties->type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties->location.id = reinterpret_cast<Memory*>(handle)->device;
  return CUDA_SUCCESS;
}
CUresult cuMemAddressReserve(CUdeviceptr* address, size_t bytes, size_t, CUdeviceptr hint,
                             unsigned long long) {
  ENTER_CONTEXT();
  *address = Context::Get().Reserve(bytes, bytes < kLeastHinted ? 0 : hint);
  return *address == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr address, size_t) {
  ENTER_CONTEXT();
  Context::Get().FreeReservation(address);
  return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t, CUmemGenericAllocationHandle handle,
                  unsigned long long) {
  ENTER_CONTEXT();
  const Memory& memory = *reinterpret_cast<Memory*>(handle);
  if (bytes != memory.bytes) return CUDA_ERROR_NOT_SUPPORTED;  // as driver 580.159.04 says
  return Context::Get().Map(address, bytes, memory.fd) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemUnmap(CUdeviceptr address, size_t) {
  ENTER_CONTEXT();
  return Context::Get().Unmap(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemSetAccess(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t) {
  ENTER_CONTEXT();
  return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  ENTER_CONTEXT();
  *memory = std::calloc(1, bytes);
  return *memory != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void* memory) {
  ENTER_CONTEXT();
  std::free(memory);
  return CUDA_SUCCESS;
}
CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* memory, unsigned) {
  ENTER_CONTEXT();
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return CUDA_SUCCESS;
}
CUresult cuMemHostRegister(void*, size_t, unsigned) {
  ENTER_CONTEXT();
  return CUDA_SUCCESS;
}
CUresult cuMemHostUnregister(void*) {
  ENTER_CONTEXT();
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT();
  return AsStream(stream)->Push([=] { return Copy(Context::Get().Host(to, bytes), from, bytes); });
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT();
  return AsStream(stream)->Push([=] { return Copy(to, Context::Get().Host(from, bytes), bytes); });
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT();
  return AsStream(stream)->Push(
      [=] { return Copy(Context::Get().Host(to, bytes), Context::Get().Host(from, bytes), bytes); });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  ENTER_CONTEXT();
  return AsStream(stream)->Push([=] {
    char* const host = Context::Get().Host(to, bytes);
    if (host == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
    std::memset(host, value, bytes);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  ENTER_CONTEXT();
  *stream = reinterpret_cast<CUstream>(Stream::Create());
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  ENTER_CONTEXT();
  AsStream(stream)->Destroy();
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
  ENTER_CONTEXT();
  return AsStream(stream)->Synchronize();
}
CUresult cuStreamWriteValue64(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned) {
  ENTER_CONTEXT();
  return AsStream(stream)->Push([=] {
    __atomic_store_n(reinterpret_cast<uint64_t*>(address), value, __ATOMIC_RELEASE);
    return CUDA_SUCCESS;
  });
}
CUresult cuEventCreate(CUevent* event, unsigned) {
  ENTER_CONTEXT();
  *event = reinterpret_cast<CUevent>(new Event);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
  ENTER_CONTEXT();
  delete AsEvent(event);
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER_CONTEXT();
  if (stream == nullptr) {  // nothing is ever queued there
    AsEvent(event)->Happen();
    return CUDA_SUCCESS;
  }
  return AsStream(stream)->Record(AsEvent(event));
}
CUresult cuEventSynchronize(CUevent event) {
  ENTER_CONTEXT();
  while (!AsEvent(event)->done()) sched_yield();
  return Context::Get().error();
}
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
  ENTER_CONTEXT();
  *status = std::getenv("TRUN_FAKE_CUDA_CAPTURING") == nullptr ? CU_STREAM_CAPTURE_STATUS_NONE
                                                               : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
  ENTER_CONTEXT();
  return AsEvent(event)->done() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  ENTER_CONTEXT();
  *milliseconds = static_cast<float>(AsEvent(end)->milliseconds() - AsEvent(begin)->milliseconds());
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) {
  ENTER_CONTEXT();
  const Function& kernel = *AsFunction(function);
  KernelLaunch launch;
  launch.grid = {config->gridDimX, config->gridDimY, config->gridDimZ};
  launch.block = {config->blockDimX, config->blockDimY, config->blockDimZ};
  if (extra != nullptr) {
    const char* const bytes = static_cast<const char*>(extra[1]);
    launch.parameters.assign(bytes, bytes + *static_cast<const size_t*>(extra[3]));
  } else if (parameters != nullptr) {
    launch.parameters.resize(kernel.entry.parameter_bytes);
    for (size_t i = 0; i < kernel.entry.parameters.size(); ++i) {
      const trun::CubinParameter& parameter = kernel.entry.parameters[i];
      std::memcpy(launch.parameters.data() + parameter.offset, parameters[i], parameter.bytes);
    }
  }
  trun::fake_cuda::NoteLaunch(kernel.entry.name, *config, launch);
  const auto run = FindKernel(kernel.entry.name);
  if (run == nullptr) return CUDA_ERROR_NOT_FOUND;
  if (config->hStream == nullptr) return run(launch);
  return AsStream(config->hStream)->Push([run, launch = std::move(launch)] {
    Context::Get().AwaitRelease();
    return run(launch);
  });
}
// Of the fake alone.
void trunFakeCudaReset() { Context::Get().Reset(); }
void trunFakeCudaHold(int held) { Context::Get().Hold(held != 0); }

}  // extern "C"
