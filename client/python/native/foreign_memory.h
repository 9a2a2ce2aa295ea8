// What a launch in another process has to know of this one's memory and streams.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_FOREIGN_MEMORY_H_
#define TRUN_CLIENT_PYTHON_NATIVE_FOREIGN_MEMORY_H_

#include "native/python_api.h"

namespace trun::python {

// await_stream(stream) -> bool: waits until what was queued in the stream is done, with no GIL; False, and
// nothing was done, where the stream is in a capture. RuntimeError: the driver's.
PyObject* AwaitStream(PyObject* module, PyObject* arguments);

// block(address) -> (kind, base, bytes, number, device) of the allocation that holds the address: kind is
// "device", "host" or "managed", number never used for another one. None: it is no memory of the driver's.
PyObject* BlockOf(PyObject* module, PyObject* arguments);

// ipc_handle(address) -> 64 bytes by which another process opens the allocation. RuntimeError: the driver's.
PyObject* IpcHandleOf(PyObject* module, PyObject* arguments);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_FOREIGN_MEMORY_H_
