// Launches of one specialisation of a kernel in the caller's context and stream.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_LAUNCHER_H_
#define TRUN_CLIENT_PYTHON_NATIVE_LAUNCHER_H_

#include "native/python_api.h"

namespace trun::python {

// launcher(types, threads, cluster, shared, cooperative, dependent, hidden, scratch) -> callable
//
// types: one entry for each argument that a launch is called with: "*fp32" (a pointer), "i32", "u8", "fp32",
// …,
//   "tensormap" (128 bytes, or an object with tma_desc_cpu_ptr()), "constexpr" (not passed), or a tuple of
//   entries.
// threads: of a CTA. cluster: CTAs of a cluster by axis, by which the grid is multiplied; (1, 1, 1): no
// cluster. shared: bytes of dynamic shared memory. cooperative, dependent: launch attributes (the last:
// programmatic stream
//   serialisation). hidden: how many pointers follow the arguments (global and profile scratch).
// scratch: None, or called with the number of programs and the stream; gives a tuple of `hidden` objects with
//   data_ptr(), addresses or None, which live until the launch is queued.
//
// The callable takes what Triton gives its launchers: grid x, y, z, stream, function, packed metadata, launch
// metadata, enter hook, exit hook, arguments. It raises TypeError for a wrong number or kind of arguments,
// ValueError for memory that the GPU cannot reach, OverflowError for a number that does not fit, RuntimeError
// for the driver's errors.
PyObject* MakeLauncher(PyObject* module, PyObject* arguments);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_LAUNCHER_H_
