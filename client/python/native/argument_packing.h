// Arguments of a launch as the bytes of a kernel's parameters.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_ARGUMENT_PACKING_H_
#define TRUN_CLIENT_PYTHON_NATIVE_ARGUMENT_PACKING_H_

#include <cstdint>

#include "native/cuda_abi.h"
#include "native/launch_plan.h"
#include "native/python_api.h"

namespace trun::python {

// How far a launch's arguments are packed. `position` is Triton's numbering: a tuple's members count,
// constexprs too.
struct Cursor {
  const cuda_abi::Library& cuda;
  const Plan& plan;
  unsigned char* buffer;
  int entry = 0;
  int position = 0;
  bool several_devices = false;  // memory is compared with `device`, where the launch is
  cuda_abi::Device device = 0;
};

// Packs the next argument as the plan has it. False, with an exception set, for what cannot be passed
// (launcher.h).
bool PackNext(Cursor* at, PyObject* value);

// Packs the hidden pointers. `kept` becomes what owns their memory, to be released once the launch is queued.
bool PackScratch(const Cursor& at, int64_t programs, PyObject* stream, PyObject** kept);

// Compares the kernel's own parameters with the plan's: others would read what is not there. TypeError where
// they differ.
bool CheckParameters(const cuda_abi::Library& cuda, Plan* plan, cuda_abi::Function function);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_ARGUMENT_PACKING_H_
