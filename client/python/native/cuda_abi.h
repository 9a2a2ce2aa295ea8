// The part of the CUDA driver's ABI that a launch needs, so that the package builds where no toolkit is. The
// numbers and layouts are fixed by the driver's binary interface; the tests hold them against cuda.h, through
// a driver library that is compiled with it.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_CUDA_ABI_H_
#define TRUN_CLIENT_PYTHON_NATIVE_CUDA_ABI_H_

#include <cstddef>
#include <cstdint>

namespace trun::cuda_abi {

using Result = int;
using Device = int;
using DevicePointer = uint64_t;
using Context = void*;
using Module = void*;
using Function = void*;
using Stream = void*;
using Event = void*;

constexpr Result kSuccess = 0;
constexpr Result kInvalidValue = 1;
constexpr Result kNotSupported = 801;

enum DeviceAttribute : int {
  kWarpSize = 10,
  kMaxRegistersPerBlock = 12,
  kClockRate = 13,
  kMultiprocessors = 16,
  kMemoryClockRate = 36,
  kMemoryBusWidth = 37,
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kMaxSharedPerMultiprocessor = 81,
  kMaxSharedPerBlockOptIn = 97,
};

enum FunctionAttribute : int {
  kMaxThreadsPerBlock = 0,
  kSharedBytes = 1,
  kLocalBytes = 3,
  kRegisters = 4,
  kMaxDynamicSharedBytes = 8,
  kNonPortableClusterSizeAllowed = 14,
};

enum PointerAttribute : int {
  kMemoryType = 2,
  kDevicePointer = 3,
  kBufferId = 7,
  kIsManaged = 8,
  kDeviceOrdinal = 9,
};
constexpr unsigned kMemoryOfHost = 1;

// Physical memory and where it is mapped.
struct MemoryLocation {
  int type;
  int id;
};
struct AllocationProperties {
  int type;
  int handle_types;
  MemoryLocation location;
  void* windows_metadata;
  unsigned char flags[8];
};
static_assert(sizeof(AllocationProperties) == 32);
struct AccessDescription {
  MemoryLocation location;
  int flags;
};
static_assert(sizeof(AccessDescription) == 12);
struct IpcHandle {
  unsigned char opaque[64];
};
constexpr int kAllocationPinned = 1;
constexpr int kLocationDevice = 1;
constexpr int kHandlePosixDescriptor = 1;
constexpr int kAccessReadWrite = 3;
constexpr unsigned kEventWithoutTiming = 2;

constexpr int kCachePreferShared = 1;
constexpr int kLimitPrintfFifoSize = 1;

enum LaunchAttributeId : int {
  kCooperative = 2,
  kClusterDimension = 4,
  kClusterSchedulingPolicy = 5,
  kProgrammaticStreamSerialization = 6,
};
constexpr int kClusterSchedulingSpread = 1;

union LaunchAttributeValue {
  char pad[64];
  int number;
  struct {
    unsigned x, y, z;
  } cluster;
};
struct LaunchAttribute {
  int id;
  char pad[4];
  LaunchAttributeValue value;
};
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchAttribute, value) == 8);

struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32);

struct alignas(64) TensorMap {
  unsigned char opaque[128];
};

// X(name, symbol, parameters)
#define TRUN_CUDA_ABI_FUNCTIONS(X)                                              \
  X(Init, "cuInit", (unsigned))                                                 \
  X(GetErrorString, "cuGetErrorString", (Result, const char**))                 \
  X(DeviceGetCount, "cuDeviceGetCount", (int*))                                 \
  X(DeviceGet, "cuDeviceGet", (Device*, int))                                   \
  X(DeviceGetAttribute, "cuDeviceGetAttribute", (int*, int, Device))            \
  X(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (Context*, Device))     \
  X(CtxGetCurrent, "cuCtxGetCurrent", (Context*))                               \
  X(CtxSetCurrent, "cuCtxSetCurrent", (Context))                                \
  X(CtxGetDevice, "cuCtxGetDevice", (Device*))                                  \
  X(CtxGetLimit, "cuCtxGetLimit", (size_t*, int))                               \
  X(CtxSetLimit, "cuCtxSetLimit", (int, size_t))                                \
  X(DeviceCanAccessPeer, "cuDeviceCanAccessPeer", (int*, Device, Device))       \
  X(ModuleLoadData, "cuModuleLoadData", (Module*, const void*))                 \
  X(ModuleUnload, "cuModuleUnload", (Module))                                   \
  X(ModuleGetFunction, "cuModuleGetFunction", (Function*, Module, const char*)) \
  X(FuncGetAttribute, "cuFuncGetAttribute", (int*, int, Function))              \
  X(FuncSetAttribute, "cuFuncSetAttribute", (Function, int, int))               \
  X(FuncSetCacheConfig, "cuFuncSetCacheConfig", (Function, int))                \
  X(PointerGetAttribute, "cuPointerGetAttribute", (void*, int, DevicePointer))  \
  X(LaunchKernelEx, "cuLaunchKernelEx", (const LaunchConfig*, Function, void**, void**))

// Newer than the oldest driver that is taken: null where the library has it not.
#define TRUN_CUDA_ABI_OPTIONAL_FUNCTIONS(X)                                                                \
  X(CtxSynchronize, "cuCtxSynchronize", ())                                                                \
  X(MemCreate, "cuMemCreate", (uint64_t*, size_t, const AllocationProperties*, unsigned long long))        \
  X(MemRelease, "cuMemRelease", (uint64_t))                                                                \
  X(MemExport, "cuMemExportToShareableHandle", (void*, uint64_t, int, unsigned long long))                 \
  X(MemAddressReserve, "cuMemAddressReserve",                                                              \
    (DevicePointer*, size_t, size_t, DevicePointer, unsigned long long))                                   \
  X(MemAddressFree, "cuMemAddressFree", (DevicePointer, size_t))                                           \
  X(MemMap, "cuMemMap", (DevicePointer, size_t, size_t, uint64_t, unsigned long long))                     \
  X(MemUnmap, "cuMemUnmap", (DevicePointer, size_t))                                                       \
  X(MemSetAccess, "cuMemSetAccess", (DevicePointer, size_t, const AccessDescription*, size_t))             \
  X(MemGetAddressRange, "cuMemGetAddressRange_v2", (DevicePointer*, size_t*, DevicePointer))               \
  X(IpcGetMemHandle, "cuIpcGetMemHandle", (IpcHandle*, DevicePointer))                                     \
  X(StreamIsCapturing, "cuStreamIsCapturing", (Stream, int*))                                              \
  X(EventCreate, "cuEventCreate", (Event*, unsigned))                                                      \
  X(EventDestroy, "cuEventDestroy_v2", (Event))                                                            \
  X(EventRecord, "cuEventRecord", (Event, Stream))                                                         \
  X(EventSynchronize, "cuEventSynchronize", (Event))                                                       \
  X(FuncGetParamInfo, "cuFuncGetParamInfo", (Function, size_t, size_t*, size_t*))                          \
  X(OccupancyMaxActiveClusters, "cuOccupancyMaxActiveClusters", (int*, Function, const LaunchConfig*))     \
  X(TensorMapEncodeTiled, "cuTensorMapEncodeTiled",                                                        \
    (TensorMap*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*, const uint32_t*, \
     int, int, int, int))

// The driver's functions. Immutable once loaded.
struct Library {
#define TRUN_CUDA_ABI_MEMBER(name, symbol, parameters) Result(*name) parameters = nullptr;
  TRUN_CUDA_ABI_FUNCTIONS(TRUN_CUDA_ABI_MEMBER)
  TRUN_CUDA_ABI_OPTIONAL_FUNCTIONS(TRUN_CUDA_ABI_MEMBER)
#undef TRUN_CUDA_ABI_MEMBER
  int devices = 0;
};

}  // namespace trun::cuda_abi

#endif  // TRUN_CLIENT_PYTHON_NATIVE_CUDA_ABI_H_
