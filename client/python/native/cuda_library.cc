#include "native/cuda_library.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

namespace trun::python {
namespace {

using cuda_abi::Library;
using cuda_abi::Result;

template <typename F>
bool Find(void* library, const char* symbol, F* function) {
  *function = reinterpret_cast<F>(dlsym(library, symbol));
  return *function != nullptr;
}

bool Open(Library* cuda) {
  const char* const given = std::getenv("TRUN_LIBCUDA");
  const char* const path = given != nullptr && *given != '\0' ? given : "libcuda.so.1";
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    PyErr_Format(PyExc_RuntimeError,
                 "the CUDA driver could not be loaded (%s): install NVIDIA's driver, or name the library in "
                 "TRUN_LIBCUDA",
                 dlerror());
    return false;
  }
#define TRUN_FIND(name, symbol, parameters)                                                              \
  if (!Find(library, symbol, &cuda->name)) {                                                             \
    PyErr_Format(PyExc_RuntimeError, "%s lacks %s: the driver is older than CUDA 12.0, update it", path, \
                 symbol);                                                                                \
    return false;                                                                                        \
  }
  TRUN_CUDA_ABI_FUNCTIONS(TRUN_FIND)
#undef TRUN_FIND
#define TRUN_FIND_OPTIONAL(name, symbol, parameters) Find(library, symbol, &cuda->name);
  TRUN_CUDA_ABI_OPTIONAL_FUNCTIONS(TRUN_FIND_OPTIONAL)
#undef TRUN_FIND_OPTIONAL
  Result result = cuda->Init(0);
  if (result == cuda_abi::kSuccess) result = cuda->DeviceGetCount(&cuda->devices);
  if (result != cuda_abi::kSuccess) {
    SetCudaError(*cuda, result);
    return false;
  }
  return true;
}

}  // namespace

const Library* CudaLibrary() {
  static Library cuda;
  static bool opened = false;  // the GIL guards both
  if (!opened) opened = Open(&cuda);
  return opened ? &cuda : nullptr;
}

void SetCudaError(const Library& cuda, Result result) {
  const char* text = nullptr;
  if (cuda.GetErrorString(result, &text) != cuda_abi::kSuccess || text == nullptr) text = "unknown error";
  PyErr_Format(PyExc_RuntimeError, "Triton Error [CUDA]: %s", text);
}

Result EnsureContext(const Library& cuda, cuda_abi::Device device) {
  cuda_abi::Context current = nullptr;
  Result result = cuda.CtxGetCurrent(&current);
  if (result != cuda_abi::kSuccess || current != nullptr) return result;
  result = cuda.DevicePrimaryCtxRetain(&current, device);
  return result == cuda_abi::kSuccess ? cuda.CtxSetCurrent(current) : result;
}

}  // namespace trun::python
