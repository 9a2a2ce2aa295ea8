#include "native/launcher.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "native/argument_packing.h"
#include "native/cuda_library.h"
#include "native/launch_plan.h"

namespace trun::python {
namespace {

using cuda_abi::kSuccess;
using cuda_abi::Library;
using cuda_abi::Result;

constexpr size_t kBufferBytes = 4096;        // more is taken from the heap
constexpr Py_ssize_t kLeadingArguments = 9;  // what Triton gives before the kernel's own
constexpr char kCapsule[] = "trun.triton._native.launcher";

Plan* PlanOf(PyObject* capsule) { return static_cast<Plan*>(PyCapsule_GetPointer(capsule, kCapsule)); }

void DestroyPlan(PyObject* capsule) {
  if (Plan* const plan = PlanOf(capsule); plan != nullptr) DeletePlan(plan);
}

Result Enqueue(const Library& cuda, const Plan& plan, const unsigned (&grid)[3], cuda_abi::Stream stream,
               cuda_abi::Function function, unsigned char* buffer, void** parameters) {
  cuda_abi::LaunchAttribute attributes[4];
  unsigned count = 0;
  const auto add = [&](int id) -> cuda_abi::LaunchAttributeValue& {
    std::memset(&attributes[count], 0, sizeof(attributes[count]));
    attributes[count].id = id;
    return attributes[count++].value;
  };
  if (plan.dependent) add(cuda_abi::kProgrammaticStreamSerialization).number = 1;
  if (plan.cooperative) add(cuda_abi::kCooperative).number = 1;
  const unsigned ctas = plan.cluster[0] * plan.cluster[1] * plan.cluster[2];
  if (ctas != 1) {
    add(cuda_abi::kClusterDimension).cluster = {plan.cluster[0], plan.cluster[1], plan.cluster[2]};
    add(cuda_abi::kClusterSchedulingPolicy).number = cuda_abi::kClusterSchedulingSpread;
    if (ctas > 8) {
      const Result result = cuda.FuncSetAttribute(function, cuda_abi::kNonPortableClusterSizeAllowed, 1);
      if (result != kSuccess) return result;
    }
  }
  for (int i = 0; i < plan.parameter_count; ++i) parameters[i] = buffer + plan.offsets[i];
  cuda_abi::LaunchConfig config;
  for (int i = 0; i < 3; ++i) {
    config.grid[i] = grid[i] * plan.cluster[i];
    config.block[i] = i == 0 ? plan.threads : 1;
  }
  config.shared_bytes = plan.shared;
  config.stream = stream;
  config.attributes = attributes;
  config.attribute_count = count;
  return cuda.LaunchKernelEx(&config, function, parameters, nullptr);
}

bool CallHook(PyObject* hook, PyObject* metadata) {
  if (hook == Py_None) return true;
  PyObject* const result = PyObject_CallFunctionObjArgs(hook, metadata, nullptr);
  Py_XDECREF(result);
  return result != nullptr;
}

bool GridOf(PyObject* const* arguments, unsigned (&grid)[3]) {
  for (int i = 0; i < 3; ++i) {
    const int64_t size = PyLong_AsLongLong(arguments[i]);
    if (size == -1 && PyErr_Occurred() != nullptr) return false;
    if (size > 0x7fffffff) {
      PyErr_SetString(PyExc_OverflowError, "a grid's axis has at most 2^31 - 1 programs");
      return false;
    }
    grid[i] = size < 0 ? 0 : static_cast<unsigned>(size);
  }
  return true;
}

bool LaunchPacked(const Library& cuda, Plan* plan, const unsigned (&grid)[3], PyObject* const* arguments,
                  unsigned char* buffer, void** parameters) {
  auto* const stream = reinterpret_cast<cuda_abi::Stream>(PyLong_AsUnsignedLongLong(arguments[3]));
  auto* const function = reinterpret_cast<cuda_abi::Function>(PyLong_AsUnsignedLongLong(arguments[4]));
  if (PyErr_Occurred() != nullptr) return false;
  Result result = EnsureContext(cuda, 0);
  Cursor at{.cuda = cuda, .plan = *plan, .buffer = buffer, .several_devices = cuda.devices > 1};
  if (result == kSuccess && at.several_devices) result = cuda.CtxGetDevice(&at.device);
  if (result != kSuccess) {
    SetCudaError(cuda, result);
    return false;
  }
  if (function != plan->checked && !CheckParameters(cuda, plan, function)) return false;
  for (int i = 0; i < plan->top_level; ++i) {
    if (!PackNext(&at, arguments[kLeadingArguments + i])) return false;
  }
  PyObject* kept = nullptr;
  bool launched =
      plan->hidden == 0 || PackScratch(at, int64_t{grid[0]} * grid[1] * grid[2], arguments[3], &kept);
  if (launched) {
    Py_BEGIN_ALLOW_THREADS;
    result = Enqueue(cuda, *plan, grid, stream, function, buffer, parameters);
    Py_END_ALLOW_THREADS;
    launched = result == kSuccess;
    if (!launched) SetCudaError(cuda, result);
  }
  Py_XDECREF(kept);
  return launched;
}

bool LaunchOf(Plan* plan, PyObject* const* arguments) {
  unsigned grid[3];
  if (!GridOf(arguments, grid)) return false;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return true;
  const Library* const cuda = CudaLibrary();
  if (cuda == nullptr) return false;
  const size_t needed = plan->parameter_bytes + sizeof(void*) * plan->parameter_count + 8;
  if (needed <= kBufferBytes) {
    alignas(64) unsigned char buffer[kBufferBytes];
    auto** const parameters = reinterpret_cast<void**>(buffer + (plan->parameter_bytes + 7) / 8 * 8);
    return LaunchPacked(*cuda, plan, grid, arguments, buffer, parameters);
  }
  void* const heap = std::aligned_alloc(64, (needed + 63) / 64 * 64);
  if (heap == nullptr) {
    PyErr_NoMemory();
    return false;
  }
  auto* const buffer = static_cast<unsigned char*>(heap);
  auto** const parameters = reinterpret_cast<void**>(buffer + (plan->parameter_bytes + 7) / 8 * 8);
  const bool launched = LaunchPacked(*cuda, plan, grid, arguments, buffer, parameters);
  std::free(heap);
  return launched;
}

PyObject* Launch(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  Plan* const plan = PlanOf(self);
  if (plan == nullptr) return nullptr;
  if (count != kLeadingArguments + plan->top_level) {
    PyErr_Format(PyExc_TypeError, "the kernel takes %d arguments, not %zd", plan->top_level,
                 count < kLeadingArguments ? Py_ssize_t{0} : count - kLeadingArguments);
    return nullptr;
  }
  PyObject* const metadata = arguments[6];
  if (!CallHook(arguments[7], metadata) || !LaunchOf(plan, arguments) || !CallHook(arguments[8], metadata)) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyMethodDef g_launch = {
    "launch", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Launch)), METH_FASTCALL,
    "launch(grid x, y, z, stream, function, packed metadata, launch metadata, enter hook, exit hook, "
    "arguments...)"};

}  // namespace

PyObject* MakeLauncher(PyObject*, PyObject* arguments) {
  PyObject* types = nullptr;
  PyObject* scratch = nullptr;
  int cooperative = 0, dependent = 0;
  Plan* const plan = NewPlan();
  if (plan == nullptr) return nullptr;
  PyObject* const capsule = PyCapsule_New(plan, kCapsule, DestroyPlan);
  if (capsule == nullptr) {
    DeletePlan(plan);
    return nullptr;
  }
  PyObject* launcher = nullptr;
  if (PyArg_ParseTuple(arguments, "O!I(III)IppiO", &PyTuple_Type, &types, &plan->threads, &plan->cluster[0],
                       &plan->cluster[1], &plan->cluster[2], &plan->shared, &cooperative, &dependent,
                       &plan->hidden, &scratch)) {
    plan->cooperative = cooperative != 0;
    plan->dependent = dependent != 0;
    if (scratch != Py_None) {
      Py_INCREF(scratch);
      plan->scratch = scratch;
    }
    if (plan->hidden < 0 || plan->hidden > kMaxHidden) {
      PyErr_SetString(PyExc_ValueError, "a kernel has at most two hidden parameters");
    } else if (LayOut(plan, types)) {
      launcher = PyCFunction_NewEx(&g_launch, capsule, nullptr);
    }
  }
  Py_DECREF(capsule);
  return launcher;
}

}  // namespace trun::python
