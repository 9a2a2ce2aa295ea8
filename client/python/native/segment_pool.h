// Memory for an allocator of the program's (torch's CUDAPluggableAllocator) that the daemon's executor can
// map: made by the driver in this process, exported as a descriptor, and at an address that an executor can
// give it, too, so that addresses stored in memory mean the same on both sides.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_SEGMENT_POOL_H_
#define TRUN_CLIENT_PYTHON_NATIVE_SEGMENT_POOL_H_

#include <cstddef>

#include "native/python_api.h"

// What torch calls, with its own locks held: neither takes the GIL nor calls Python. Thread-safe. Null: no
// memory, no room, or a device that was not opened.
extern "C" {
__attribute__((visibility("default"))) void* trun_segment_allocate(size_t bytes, int device, void* stream);
__attribute__((visibility("default"))) void trun_segment_free(void* address, size_t bytes, int device,
                                                              void* stream);
}

namespace trun::python {

// open_segments(device): reserves addresses for the device's segments; once in a process, another device is a
// ValueError. RuntimeError: the driver's.
PyObject* OpenSegments(PyObject* module, PyObject* arguments);

// segment_changes() -> (addresses of segments that are gone, [(address, bytes, descriptor), ...] of new
// ones), since the last call; the gone ones come before the new. The descriptors are the caller's.
PyObject* SegmentChanges(PyObject* module, PyObject* none);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_SEGMENT_POOL_H_
