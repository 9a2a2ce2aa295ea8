// The process's CUDA driver library, and its errors as Python's.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_CUDA_LIBRARY_H_
#define TRUN_CLIENT_PYTHON_NATIVE_CUDA_LIBRARY_H_

#include "native/cuda_abi.h"
#include "native/python_api.h"

namespace trun::python {

// The library (TRUN_LIBCUDA, else libcuda.so.1), loaded by the first call and kept: the same one that the
// program's other CUDA libraries use, so that a launch is in their context. Null, with a RuntimeError set,
// where there is none. REQUIRES: the GIL.
const cuda_abi::Library* CudaLibrary();

// Sets RuntimeError as Triton words it: "Triton Error [CUDA]: ...". REQUIRES: the GIL.
void SetCudaError(const cuda_abi::Library& cuda, cuda_abi::Result result);

// Makes the primary context of `device` current where the thread has none.
cuda_abi::Result EnsureContext(const cuda_abi::Library& cuda, cuda_abi::Device device);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_CUDA_LIBRARY_H_
