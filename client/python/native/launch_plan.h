// What a launch of one specialisation of a kernel needs to know, made once.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_LAUNCH_PLAN_H_
#define TRUN_CLIENT_PYTHON_NATIVE_LAUNCH_PLAN_H_

#include <cstddef>
#include <cstdint>

#include "native/cuda_abi.h"
#include "native/python_api.h"

namespace trun::python {

constexpr int kMaxHidden = 2;  // global and profile scratch

enum class Kind : uint8_t {
  kConstexpr,
  kTuple,
  kPointer,
  kTensorMap,
  kSigned,
  kUnsigned,
  kHalf,
  kBfloat,
  kFloat,
  kDouble
};

// An argument of a launch as it is called. Those of a tuple follow it.
struct Entry {
  Kind kind;
  uint8_t bytes;
  uint32_t offset;  // in the parameter buffer
  int children;     // of a tuple
};

// Immutable but for `checked`, which the GIL guards. Owns its arrays and `scratch`; plain memory, so that the
// module needs no C++ library.
struct Plan {
  Entry* entries = nullptr;
  int entry_count = 0;
  int top_level = 0;            // how many entries are not in a tuple
  uint32_t* offsets = nullptr;  // of the parameters, the hidden ones last
  uint8_t* sizes = nullptr;
  int parameter_count = 0;  // with the hidden ones
  size_t parameter_bytes = 0;
  int hidden = 0;
  unsigned threads = 0;
  unsigned cluster[3] = {1, 1, 1};
  unsigned shared = 0;
  bool cooperative = false;
  bool dependent = false;
  PyObject* scratch = nullptr;
  cuda_abi::Function checked = nullptr;  // its parameters were compared with these
};

// Null, with MemoryError set.
Plan* NewPlan();
void DeletePlan(Plan* plan);

// Lays the parameters out as the types of the arguments say (launcher.h) and the hidden ones behind them.
// False, with an exception set, for types that no kernel has. REQUIRES: `types` is a tuple, plan->hidden is
// set.
bool LayOut(Plan* plan, PyObject* types);

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_LAUNCH_PLAN_H_
