#include "native/segment_pool.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "native/cuda_library.h"

namespace trun::python {
namespace {

using cuda_abi::DevicePointer;
using cuda_abi::kSuccess;
using cuda_abi::Library;
using cuda_abi::Result;

// Where the daemon takes imports (TensorService.Import); an executor reserves whole windows.
constexpr DevicePointer kBegin = 0x5000'0000'0000;
constexpr DevicePointer kEnd = 0x6000'0000'0000;
constexpr size_t kWindowBytes = size_t{1} << 40;
constexpr size_t kGranule = size_t{2} << 20;

struct Segment {
  DevicePointer address = 0;
  size_t bytes = 0;
  int descriptor = -1;  // -1: the program has it
  Segment* next = nullptr;
};

struct Gone {
  DevicePointer address = 0;
  Gone* next = nullptr;
};

struct Pool {
  pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
  const Library* cuda = nullptr;  // set once
  int device = -1;
  DevicePointer window = 0;
  DevicePointer search_from = 0;  // freed addresses are used again as late as possible
  Segment* segments = nullptr;    // by address
  Gone* gone = nullptr;
};
Pool g_pool;

class Lock {
 public:
  Lock() { pthread_mutex_lock(&g_pool.mu); }
  ~Lock() { pthread_mutex_unlock(&g_pool.mu); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// The link behind which a segment of `bytes` from `from` on fits, and its address; null: there is no room.
Segment** FindRoom(DevicePointer from, size_t bytes, DevicePointer* address) {
  DevicePointer at = from;
  Segment** link = &g_pool.segments;
  for (; *link != nullptr; link = &(*link)->next) {
    if ((*link)->address + (*link)->bytes <= at) continue;
    if ((*link)->address >= at + bytes) break;
    at = (*link)->address + (*link)->bytes;
  }
  if (at + bytes > g_pool.window + kWindowBytes) return nullptr;
  *address = at;
  return link;
}

// Memory at `address`, exported.
Result Make(DevicePointer address, size_t bytes, int* descriptor) {
  const Library& cuda = *g_pool.cuda;
  cuda_abi::AllocationProperties properties = {};
  properties.type = cuda_abi::kAllocationPinned;
  properties.handle_types = cuda_abi::kHandlePosixDescriptor;
  properties.location = {cuda_abi::kLocationDevice, g_pool.device};
  uint64_t memory = 0;
  Result result = cuda.MemCreate(&memory, bytes, &properties, 0);
  if (result != kSuccess) return result;
  result = cuda.MemExport(descriptor, memory, cuda_abi::kHandlePosixDescriptor, 0);
  bool mapped = false;
  if (result == kSuccess) {
    result = cuda.MemMap(address, bytes, 0, memory, 0);
    mapped = result == kSuccess;
  }
  if (mapped) {
    const cuda_abi::AccessDescription access = {properties.location, cuda_abi::kAccessReadWrite};
    result = cuda.MemSetAccess(address, bytes, &access, 1);
  }
  cuda.MemRelease(memory);  // the mapping keeps it
  if (result == kSuccess) return result;
  if (mapped) cuda.MemUnmap(address, bytes);
  if (*descriptor >= 0) close(*descriptor);
  return result;
}

void* Allocate(size_t bytes, int device) {
  const Lock lock;
  if (g_pool.cuda == nullptr || device != g_pool.device || bytes == 0 || bytes > kWindowBytes) return nullptr;
  bytes = (bytes + kGranule - 1) / kGranule * kGranule;
  if (EnsureContext(*g_pool.cuda, device) != kSuccess) return nullptr;
  DevicePointer address = 0;
  Segment** link = FindRoom(g_pool.search_from, bytes, &address);
  if (link == nullptr) link = FindRoom(g_pool.window, bytes, &address);
  auto* const segment = link == nullptr ? nullptr : static_cast<Segment*>(std::malloc(sizeof(Segment)));
  if (segment == nullptr) return nullptr;
  int descriptor = -1;
  if (Make(address, bytes, &descriptor) != kSuccess) {
    std::free(segment);
    return nullptr;
  }
  *segment = {address, bytes, descriptor, *link};
  *link = segment;
  g_pool.search_from = address + bytes;
  return reinterpret_cast<void*>(address);
}

void Free(DevicePointer address) {
  const Lock lock;
  Segment** link = &g_pool.segments;
  while (*link != nullptr && (*link)->address != address) link = &(*link)->next;
  Segment* const segment = *link;
  if (segment == nullptr) return;
  // As cudaFree: what is queued may still use it. A driver that has been shut down, or a context that is
  // lost, takes nothing back, and the process is about to end.
  if (EnsureContext(*g_pool.cuda, g_pool.device) != kSuccess || g_pool.cuda->CtxSynchronize() != kSuccess ||
      g_pool.cuda->MemUnmap(address, segment->bytes) != kSuccess) {
    return;
  }
  *link = segment->next;
  if (segment->descriptor >= 0) {
    close(segment->descriptor);
  } else if (auto* const gone = static_cast<Gone*>(std::malloc(sizeof(Gone))); gone != nullptr) {
    *gone = {address, g_pool.gone};
    g_pool.gone = gone;
  }
  std::free(segment);
}

Result ReserveWindow(const Library& cuda, DevicePointer* window) {
  Result result = cuda_abi::kNotSupported;
  for (DevicePointer wanted = kBegin; wanted < kEnd; wanted += kWindowBytes) {
    DevicePointer given = 0;
    result = cuda.MemAddressReserve(&given, kWindowBytes, 0, wanted, 0);
    if (result != kSuccess) return result;
    if (given == wanted) {
      *window = given;
      return kSuccess;
    }
    cuda.MemAddressFree(given, kWindowBytes);
  }
  return cuda_abi::kNotSupported;
}

bool HasSegments(const Library& cuda) {
  return cuda.CtxSynchronize != nullptr && cuda.MemCreate != nullptr && cuda.MemRelease != nullptr &&
         cuda.MemExport != nullptr && cuda.MemAddressReserve != nullptr && cuda.MemAddressFree != nullptr &&
         cuda.MemMap != nullptr && cuda.MemUnmap != nullptr && cuda.MemSetAccess != nullptr;
}

struct Changes {
  Gone* gone = nullptr;
  Segment* made = nullptr;  // an array
  size_t count = 0;
};

// Nothing of Python is touched under the lock: a collection of garbage could free a tensor, and torch holds
// locks of its own when it comes here.
Changes TakeChanges() {
  const Lock lock;
  Changes changes;
  size_t wanted = 0;
  for (const Segment* segment = g_pool.segments; segment != nullptr; segment = segment->next) {
    if (segment->descriptor >= 0) ++wanted;
  }
  if (wanted > 0) changes.made = static_cast<Segment*>(std::malloc(wanted * sizeof(Segment)));
  if (wanted > 0 && changes.made == nullptr) return changes;  // they are told of the next time
  changes.gone = std::exchange(g_pool.gone, nullptr);
  if (wanted == 0) return changes;
  for (Segment* segment = g_pool.segments; segment != nullptr; segment = segment->next) {
    if (segment->descriptor < 0) continue;
    changes.made[changes.count++] = *segment;
    segment->descriptor = -1;
  }
  return changes;
}

}  // namespace

PyObject* OpenSegments(PyObject*, PyObject* arguments) {
  int device = 0;
  if (!PyArg_ParseTuple(arguments, "i", &device)) return nullptr;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return nullptr;
  const Lock lock;
  if (g_pool.cuda != nullptr) {
    if (g_pool.device == device) Py_RETURN_NONE;
    PyErr_Format(PyExc_ValueError, "the segments of this process are memory of GPU %d", g_pool.device);
    return nullptr;
  }
  Result result = HasSegments(*cuda) ? EnsureContext(*cuda, device) : cuda_abi::kNotSupported;
  if (result == kSuccess) result = ReserveWindow(*cuda, &g_pool.window);
  if (result != kSuccess) {
    SetCudaError(*cuda, result);
    return nullptr;
  }
  g_pool.search_from = g_pool.window;
  g_pool.device = device;
  g_pool.cuda = cuda;
  Py_RETURN_NONE;
}

PyObject* SegmentChanges(PyObject*, PyObject*) {
  Changes changes = TakeChanges();
  PyObject* const gone = PyList_New(0);
  PyObject* const made = PyList_New(0);
  bool ok = gone != nullptr && made != nullptr;
  const auto append = [&ok](PyObject* list, PyObject* item) {
    if (item == nullptr || PyList_Append(list, item) != 0) ok = false;
    Py_XDECREF(item);
  };
  for (Gone* next = changes.gone; next != nullptr && ok; next = next->next) {
    append(gone, PyLong_FromUnsignedLongLong(next->address));
  }
  for (size_t i = 0; i < changes.count; ++i) {
    const Segment& segment = changes.made[i];
    if (ok) {
      append(made, Py_BuildValue("(KKi)", static_cast<unsigned long long>(segment.address),
                                 static_cast<unsigned long long>(segment.bytes), segment.descriptor));
    }
    if (!ok) close(segment.descriptor);
  }
  while (changes.gone != nullptr) std::free(std::exchange(changes.gone, changes.gone->next));
  std::free(changes.made);
  PyObject* const result = ok ? PyTuple_Pack(2, gone, made) : nullptr;
  Py_XDECREF(gone);
  Py_XDECREF(made);
  return result;
}

}  // namespace trun::python

void* trun_segment_allocate(size_t bytes, int device, void*) { return trun::python::Allocate(bytes, device); }

void trun_segment_free(void* address, size_t, int, void*) {
  trun::python::Free(reinterpret_cast<trun::cuda_abi::DevicePointer>(address));
}
