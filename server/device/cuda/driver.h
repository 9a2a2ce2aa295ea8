// The CUDA driver library, by dlopen: a table of its functions. Nothing of trun links libcuda, so that every
// binary starts on a machine without one.
#ifndef TRUN_SERVER_DEVICE_CUDA_DRIVER_H_
#define TRUN_SERVER_DEVICE_CUDA_DRIVER_H_

#include <cuda.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun::device {

// Every function that is called. cuda.h's macros turn some names into their versioned symbols
// (cuMemHostRegister into cuMemHostRegister_v2) here and at the calls alike.
#define TRUN_CUDA_FUNCTIONS(X)              \
  X(cuInit)                                 \
  X(cuDriverGetVersion)                     \
  X(cuGetErrorName)                         \
  X(cuGetErrorString)                       \
  X(cuDeviceGetCount)                       \
  X(cuDeviceGet)                            \
  X(cuDeviceGetName)                        \
  X(cuDeviceTotalMem)                       \
  X(cuDeviceGetAttribute)                   \
  X(cuDevicePrimaryCtxRetain)               \
  X(cuDevicePrimaryCtxRelease)              \
  X(cuCtxSetCurrent)                        \
  X(cuCtxSynchronize)                       \
  X(cuModuleLoadData)                       \
  X(cuModuleUnload)                         \
  X(cuModuleGetFunction)                    \
  X(cuFuncGetAttribute)                     \
  X(cuFuncSetAttribute)                     \
  X(cuMemGetAllocationGranularity)          \
  X(cuMemCreate)                            \
  X(cuMemRelease)                           \
  X(cuMemExportToShareableHandle)           \
  X(cuMemImportFromShareableHandle)         \
  X(cuMemGetAllocationPropertiesFromHandle) \
  X(cuMemGetAddressRange)                   \
  X(cuPointerGetAttribute)                  \
  X(cuIpcOpenMemHandle)                     \
  X(cuIpcCloseMemHandle)                    \
  X(cuMemAddressReserve)                    \
  X(cuMemAddressFree)                       \
  X(cuMemMap)                               \
  X(cuMemUnmap)                             \
  X(cuMemSetAccess)                         \
  X(cuMemHostAlloc)                         \
  X(cuMemFreeHost)                          \
  X(cuMemHostGetDevicePointer)              \
  X(cuMemHostRegister)                      \
  X(cuMemHostUnregister)                    \
  X(cuMemcpyHtoDAsync)                      \
  X(cuMemcpyDtoHAsync)                      \
  X(cuMemcpyDtoDAsync)                      \
  X(cuMemsetD8Async)                        \
  X(cuStreamCreate)                         \
  X(cuStreamDestroy)                        \
  X(cuStreamSynchronize)                    \
  X(cuStreamWriteValue64)                   \
  X(cuEventCreate)                          \
  X(cuEventDestroy)                         \
  X(cuEventRecord)                          \
  X(cuEventQuery)                           \
  X(cuEventElapsedTime)                     \
  X(cuLaunchKernelEx)

// Null where the driver is older: cuFuncGetParamInfo and cuFuncLoad came with 12.4, tensor maps with 12.0.
#define TRUN_CUDA_OPTIONAL_FUNCTIONS(X) \
  X(cuFuncGetParamInfo)                 \
  X(cuFuncLoad)                         \
  X(cuTensorMapEncodeIm2col)            \
  X(cuTensorMapEncodeTiled)

// Immutable once loaded; the functions are thread-safe as the CUDA Driver API says.
struct Driver {
#define TRUN_CUDA_MEMBER(name) decltype(&::name) name = nullptr;
  TRUN_CUDA_FUNCTIONS(TRUN_CUDA_MEMBER)
  TRUN_CUDA_OPTIONAL_FUNCTIONS(TRUN_CUDA_MEMBER)
#undef TRUN_CUDA_MEMBER
  int version = 0;  // 13000 for CUDA 13.0, the newest that it runs
  std::string path;
};

// The library named by `path`; empty: by the variable TRUN_LIBCUDA, else libcuda.so.1. It is loaded and
// initialised once and stays for the life of the process. FAILED_PRECONDITION kUnavailable: there is none, it
// is too old, or it finds no device; the message says what to do. Thread-safe.
absl::StatusOr<const Driver*> LoadDriver(absl::string_view path = "");

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_DRIVER_H_
