#include "native/foreign_memory.h"

#include <cstdint>

#include "native/cuda_library.h"

namespace trun::python {
namespace {

using cuda_abi::kSuccess;
using cuda_abi::Library;
using cuda_abi::Result;

PyObject* Failed(const Library& cuda, Result result) {
  SetCudaError(cuda, result);
  return nullptr;
}

// An event, not the stream itself: it waits, too, for what the legacy default stream has that goes before the
// stream's next operation.
Result Await(const Library& cuda, cuda_abi::Stream stream, int* capturing) {
  Result result = EnsureContext(cuda, 0);
  if (result == kSuccess) result = cuda.StreamIsCapturing(stream, capturing);
  if (result != kSuccess || *capturing != 0) return result;
  cuda_abi::Event event = nullptr;
  result = cuda.EventCreate(&event, cuda_abi::kEventWithoutTiming);
  if (result != kSuccess) return result;
  result = cuda.EventRecord(event, stream);
  if (result == kSuccess) result = cuda.EventSynchronize(event);
  cuda.EventDestroy(event);
  return result;
}

}  // namespace

PyObject* AwaitStream(PyObject*, PyObject* arguments) {
  unsigned long long stream = 0;
  if (!PyArg_ParseTuple(arguments, "K", &stream)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  if (cuda->StreamIsCapturing == nullptr || cuda->EventCreate == nullptr || cuda->EventDestroy == nullptr ||
      cuda->EventRecord == nullptr || cuda->EventSynchronize == nullptr) {
    return Failed(*cuda, cuda_abi::kNotSupported);
  }
  int capturing = 0;
  Result result = kSuccess;
  Py_BEGIN_ALLOW_THREADS;
  result = Await(*cuda, reinterpret_cast<cuda_abi::Stream>(static_cast<uintptr_t>(stream)), &capturing);
  Py_END_ALLOW_THREADS;
  if (result != kSuccess) return Failed(*cuda, result);
  return PyBool_FromLong(capturing == 0);
}

PyObject* BlockOf(PyObject*, PyObject* arguments) {
  unsigned long long address = 0;
  if (!PyArg_ParseTuple(arguments, "K", &address)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  if (cuda->MemGetAddressRange == nullptr) return Failed(*cuda, cuda_abi::kNotSupported);
  unsigned type = 0, managed = 0;
  int device = -1;
  unsigned long long number = 0;
  cuda_abi::DevicePointer base = 0;
  size_t bytes = 0;
  Result result = EnsureContext(*cuda, 0);
  if (result == kSuccess) {
    // Memory that the driver does not know is not an error here.
    if (cuda->PointerGetAttribute(&type, cuda_abi::kMemoryType, address) != kSuccess) Py_RETURN_NONE;
    result = cuda->PointerGetAttribute(&managed, cuda_abi::kIsManaged, address);
  }
  if (result == kSuccess) result = cuda->PointerGetAttribute(&device, cuda_abi::kDeviceOrdinal, address);
  if (result == kSuccess) result = cuda->PointerGetAttribute(&number, cuda_abi::kBufferId, address);
  if (result == kSuccess) result = cuda->MemGetAddressRange(&base, &bytes, address);
  if (result != kSuccess) return Failed(*cuda, result);
  const char* const kind = managed != 0 ? "managed" : type == cuda_abi::kMemoryOfHost ? "host" : "device";
  return Py_BuildValue("(sKKKi)", kind, static_cast<unsigned long long>(base),
                       static_cast<unsigned long long>(bytes), number, device);
}

PyObject* IpcHandleOf(PyObject*, PyObject* arguments) {
  unsigned long long address = 0;
  if (!PyArg_ParseTuple(arguments, "K", &address)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  cuda_abi::IpcHandle handle = {};
  Result result = cuda->IpcGetMemHandle == nullptr ? cuda_abi::kNotSupported : EnsureContext(*cuda, 0);
  if (result == kSuccess) result = cuda->IpcGetMemHandle(&handle, address);
  if (result != kSuccess) return Failed(*cuda, result);
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(handle.opaque), sizeof(handle.opaque));
}

}  // namespace trun::python
