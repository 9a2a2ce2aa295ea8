// trun.triton._native: kernels loaded and launched in the caller's own CUDA context, with no compiler on the
// machine; and what the daemon's executor has to know of that context to launch there.
#include <cstdint>

#include "native/cuda_library.h"
#include "native/foreign_memory.h"
#include "native/launcher.h"
#include "native/python_api.h"
#include "native/segment_pool.h"

namespace trun::python {
namespace {

using cuda_abi::kSuccess;
using cuda_abi::Library;
using cuda_abi::Result;

constexpr int kDefaultSharedBytes = 48 << 10;
constexpr int kMaxRank = 5;

PyObject* Failed(const Library& cuda, Result result) {
  SetCudaError(cuda, result);
  return nullptr;
}

struct Loaded {
  cuda_abi::Module module = nullptr;
  cuda_abi::Function function = nullptr;
  int registers = 0, local_bytes = 0, max_threads = 0;
};

Result AllowShared(const Library& cuda, cuda_abi::Function function, int shared, cuda_abi::Device device) {
  int most = 0, fixed = 0;
  Result result = cuda.DeviceGetAttribute(&most, cuda_abi::kMaxSharedPerBlockOptIn, device);
  if (result != kSuccess || shared <= kDefaultSharedBytes || most <= kDefaultSharedBytes) return result;
  result = cuda.FuncSetCacheConfig(function, cuda_abi::kCachePreferShared);
  if (result == kSuccess) result = cuda.FuncGetAttribute(&fixed, cuda_abi::kSharedBytes, function);
  if (result != kSuccess) return result;
  return cuda.FuncSetAttribute(function, cuda_abi::kMaxDynamicSharedBytes, most - fixed);
}

Result Load(const Library& cuda, const char* name, const char* image, int shared, cuda_abi::Device device,
            Loaded* out) {
  Result result = EnsureContext(cuda, device);
  if (result != kSuccess) return result;
  result = cuda.ModuleLoadData(&out->module, image);
  if (result != kSuccess) return result;
  result = cuda.ModuleGetFunction(&out->function, out->module, name);
  if (result == kSuccess)
    result = cuda.FuncGetAttribute(&out->registers, cuda_abi::kRegisters, out->function);
  if (result == kSuccess)
    result = cuda.FuncGetAttribute(&out->local_bytes, cuda_abi::kLocalBytes, out->function);
  if (result == kSuccess)
    result = cuda.FuncGetAttribute(&out->max_threads, cuda_abi::kMaxThreadsPerBlock, out->function);
  if (result == kSuccess) result = AllowShared(cuda, out->function, shared, device);
  if (result != kSuccess) cuda.ModuleUnload(out->module);
  return result;
}

// load(name, cubin, shared, device) -> (module, function, registers, spills, most threads of a CTA)
PyObject* LoadBinary(PyObject*, PyObject* arguments) {
  const char* name = nullptr;
  const char* image = nullptr;
  Py_ssize_t bytes = 0;
  int shared = 0, device = 0;
  if (!PyArg_ParseTuple(arguments, "sy#ii", &name, &image, &bytes, &shared, &device)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  Loaded loaded;
  Result result = kSuccess;
  Py_BEGIN_ALLOW_THREADS;
  result = Load(*cuda, name, image, shared, device, &loaded);
  Py_END_ALLOW_THREADS;
  if (result != kSuccess) return Failed(*cuda, result);
  return Py_BuildValue("(KKiii)", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(loaded.module)),
                       static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(loaded.function)),
                       loaded.registers, loaded.local_bytes / 4, loaded.max_threads);
}

PyObject* UnloadModule(PyObject*, PyObject* arguments) {
  unsigned long long module = 0;
  if (!PyArg_ParseTuple(arguments, "K", &module)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  Result result = kSuccess;
  Py_BEGIN_ALLOW_THREADS;
  result = cuda->ModuleUnload(reinterpret_cast<cuda_abi::Module>(static_cast<uintptr_t>(module)));
  Py_END_ALLOW_THREADS;
  if (result != kSuccess) return Failed(*cuda, result);
  Py_RETURN_NONE;
}

PyObject* DeviceProperties(PyObject*, PyObject* arguments) {
  int index = 0;
  if (!PyArg_ParseTuple(arguments, "i", &index)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  cuda_abi::Device device = 0;
  Result result = cuda->DeviceGet(&device, index);
  constexpr int kWanted[] = {cuda_abi::kMaxSharedPerBlockOptIn,
                             cuda_abi::kMaxRegistersPerBlock,
                             cuda_abi::kMultiprocessors,
                             cuda_abi::kWarpSize,
                             cuda_abi::kClockRate,
                             cuda_abi::kMemoryClockRate,
                             cuda_abi::kMemoryBusWidth};
  int values[sizeof(kWanted) / sizeof(kWanted[0])] = {};
  for (size_t i = 0; i < sizeof(kWanted) / sizeof(kWanted[0]) && result == kSuccess; ++i) {
    result = cuda->DeviceGetAttribute(&values[i], kWanted[i], device);
  }
  if (result != kSuccess) return Failed(*cuda, result);
  return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "max_shared_mem", values[0], "max_num_regs",
                       values[1], "multiprocessor_count", values[2], "warpSize", values[3], "sm_clock_rate",
                       values[4], "mem_clock_rate", values[5], "mem_bus_width", values[6]);
}

PyObject* DeviceCapability(PyObject*, PyObject* arguments) {
  int index = 0, major = 0, minor = 0;
  if (!PyArg_ParseTuple(arguments, "i", &index)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  cuda_abi::Device device = 0;
  Result result = cuda->DeviceGet(&device, index);
  if (result == kSuccess)
    result = cuda->DeviceGetAttribute(&major, cuda_abi::kComputeCapabilityMajor, device);
  if (result == kSuccess)
    result = cuda->DeviceGetAttribute(&minor, cuda_abi::kComputeCapabilityMinor, device);
  if (result != kSuccess) return Failed(*cuda, result);
  return Py_BuildValue("(ii)", major, minor);
}

PyObject* DeviceCount(PyObject*, PyObject*) {
  const Library* const cuda = CudaLibrary();
  return cuda == nullptr ? nullptr : PyLong_FromLong(cuda->devices);
}

PyObject* CurrentDevice(PyObject*, PyObject*) {
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  cuda_abi::Device device = 0;
  Result result = EnsureContext(*cuda, 0);
  if (result == kSuccess) result = cuda->CtxGetDevice(&device);
  if (result != kSuccess) return Failed(*cuda, result);
  return PyLong_FromLong(device);
}

PyObject* SetCurrentDevice(PyObject*, PyObject* arguments) {
  int index = 0;
  if (!PyArg_ParseTuple(arguments, "i", &index)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  cuda_abi::Device device = 0;
  cuda_abi::Context context = nullptr;
  Result result = cuda->DeviceGet(&device, index);
  if (result == kSuccess) result = cuda->DevicePrimaryCtxRetain(&context, device);
  if (result == kSuccess) result = cuda->CtxSetCurrent(context);
  if (result != kSuccess) return Failed(*cuda, result);
  Py_RETURN_NONE;
}

PyObject* MaxActiveClusters(PyObject*, PyObject* arguments) {
  unsigned long long function_number = 0;
  int shared = 0, cluster = 0, clusters = 0;
  if (!PyArg_ParseTuple(arguments, "Kii", &function_number, &shared, &cluster)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  if (cuda->OccupancyMaxActiveClusters == nullptr) return Failed(*cuda, cuda_abi::kNotSupported);
  auto* const function = reinterpret_cast<cuda_abi::Function>(static_cast<uintptr_t>(function_number));
  cuda_abi::LaunchAttribute attribute = {};
  attribute.id = cuda_abi::kClusterDimension;
  attribute.value.cluster = {static_cast<unsigned>(cluster), 1, 1};
  const cuda_abi::LaunchConfig config = {{static_cast<unsigned>(cluster), 1, 1},
                                         {128, 1, 1},
                                         static_cast<unsigned>(shared),
                                         nullptr,
                                         &attribute,
                                         1};
  Result result = cuda->FuncSetAttribute(function, cuda_abi::kMaxDynamicSharedBytes, shared);
  if (result == kSuccess)
    result = cuda->FuncSetAttribute(function, cuda_abi::kNonPortableClusterSizeAllowed, 1);
  if (result == kSuccess) result = cuda->OccupancyMaxActiveClusters(&clusters, function, &config);
  if (result != kSuccess) return Failed(*cuda, result);
  return PyLong_FromLong(clusters);
}

PyObject* SetPrintfFifoSize(PyObject*, PyObject* arguments) {
  Py_ssize_t bytes = 0;
  if (!PyArg_ParseTuple(arguments, "n", &bytes)) return nullptr;
  if (bytes < 0) {
    PyErr_SetString(PyExc_ValueError, "fifo size must be non-negative");
    return nullptr;
  }
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  // The driver takes no new size, not even the old one again, once a kernel has printed.
  size_t before = 0;
  Result result = EnsureContext(*cuda, 0);
  if (result == kSuccess) result = cuda->CtxGetLimit(&before, cuda_abi::kLimitPrintfFifoSize);
  if (result == kSuccess && before != static_cast<size_t>(bytes)) {
    result = cuda->CtxSetLimit(cuda_abi::kLimitPrintfFifoSize, static_cast<size_t>(bytes));
  }
  if (result != kSuccess) return Failed(*cuda, result);
  Py_RETURN_NONE;
}

// The sequence's integers, last first: CUDA's innermost dimension is Triton's last. Its length, -1 with an
// exception.
int Reversed(PyObject* sequence, const char* what, uint64_t (&out)[kMaxRank]) {
  const Py_ssize_t size = PySequence_Size(sequence);
  if (size < 0) return -1;
  if (size < 1 || size > kMaxRank) {
    PyErr_Format(PyExc_ValueError, "the %s of a tensor descriptor has 1 to 5 dimensions, not %zd", what,
                 size);
    return -1;
  }
  for (Py_ssize_t i = 0; i < size; ++i) {
    PyObject* const item = PySequence_GetItem(sequence, i);
    if (item == nullptr) return -1;
    out[size - 1 - i] = PyLong_AsUnsignedLongLong(item);
    Py_DECREF(item);
    if (PyErr_Occurred() != nullptr) return -1;
  }
  return static_cast<int>(size);
}

// tensor_map(address, swizzle, element bytes, element type, block, shape, strides, nan) -> 128 bytes
PyObject* EncodeTensorMap(PyObject*, PyObject* arguments) {
  unsigned long long address = 0;
  int swizzle = 0, element_bytes = 0, element_type = 0, nan = 0;
  PyObject *block_object = nullptr, *shape_object = nullptr, *strides_object = nullptr;
  if (!PyArg_ParseTuple(arguments, "KiiiOOOp", &address, &swizzle, &element_bytes, &element_type,
                        &block_object, &shape_object, &strides_object, &nan)) {
    return nullptr;
  }
  uint64_t block[kMaxRank] = {}, shape[kMaxRank] = {}, strides[kMaxRank] = {};
  const int rank = Reversed(block_object, "block", block);
  const int shape_rank = rank < 0 ? -1 : Reversed(shape_object, "shape", shape);
  const int stride_rank = shape_rank < 0 ? -1 : Reversed(strides_object, "strides", strides);
  if (stride_rank < 0) return nullptr;
  if (rank != shape_rank || rank != stride_rank) {
    PyErr_SetString(PyExc_ValueError, "a tensor descriptor's block, shape and strides have the same rank");
    return nullptr;
  }
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  if (cuda->TensorMapEncodeTiled == nullptr) return Failed(*cuda, cuda_abi::kNotSupported);
  uint64_t byte_strides[kMaxRank] = {};
  uint32_t box[kMaxRank] = {}, steps[kMaxRank] = {};
  for (int i = 0; i < rank; ++i) {
    if (i > 0) byte_strides[i - 1] = strides[i] * static_cast<uint64_t>(element_bytes);
    box[i] = static_cast<uint32_t>(block[i]);
    steps[i] = 1;
  }
  constexpr int kInterleaveNone = 0, kPromote128Bytes = 2;
  cuda_abi::TensorMap map;
  const Result result = cuda->TensorMapEncodeTiled(&map, element_type, static_cast<uint32_t>(rank),
                                                   reinterpret_cast<void*>(static_cast<uintptr_t>(address)),
                                                   shape, byte_strides, box, steps, kInterleaveNone, swizzle,
                                                   kPromote128Bytes, nan != 0 ? 1 : 0);
  if (result != kSuccess) return Failed(*cuda, result);
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(map.opaque), sizeof(map.opaque));
}

PyMethodDef g_methods[] = {
    {"launcher", MakeLauncher, METH_VARARGS,
     "launcher(types, threads, cluster, shared, cooperative, dependent, hidden, scratch)"},
    {"load", LoadBinary, METH_VARARGS,
     "load(name, cubin, shared, device) -> (module, function, registers, spills, threads)"},
    {"unload", UnloadModule, METH_VARARGS, "unload(module)"},
    {"device_properties", DeviceProperties, METH_VARARGS, "device_properties(device)"},
    {"device_capability", DeviceCapability, METH_VARARGS, "device_capability(device) -> (major, minor)"},
    {"device_count", DeviceCount, METH_NOARGS, "device_count()"},
    {"current_device", CurrentDevice, METH_NOARGS, "current_device(): that of the thread's context"},
    {"set_current_device", SetCurrentDevice, METH_VARARGS,
     "set_current_device(device): its primary context is the thread's"},
    {"max_active_clusters", MaxActiveClusters, METH_VARARGS,
     "max_active_clusters(function, shared, cluster)"},
    {"set_printf_fifo_size", SetPrintfFifoSize, METH_VARARGS, "set_printf_fifo_size(bytes)"},
    {"tensor_map", EncodeTensorMap, METH_VARARGS,
     "tensor_map(address, swizzle, element bytes, element type, block, shape, strides, nan) -> bytes"},
    {"open_segments", OpenSegments, METH_VARARGS, "open_segments(device)"},
    {"segment_changes", SegmentChanges, METH_NOARGS,
     "segment_changes() -> (addresses that are gone, [(address, bytes, descriptor), ...])"},
    {"await_stream", AwaitStream, METH_VARARGS, "await_stream(stream) -> whether it is not in a capture"},
    {"block", BlockOf, METH_VARARGS, "block(address) -> (kind, base, bytes, number, device) or None"},
    {"ipc_handle", IpcHandleOf, METH_VARARGS, "ipc_handle(address) -> bytes"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef g_module = {PyModuleDef_HEAD_INIT,
                        "trun.triton._native",
                        "Kernels loaded and launched in the caller's own CUDA context.",
                        0,
                        g_methods,
                        nullptr,
                        nullptr,
                        nullptr,
                        nullptr};

}  // namespace
}  // namespace trun::python

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&trun::python::g_module); }
