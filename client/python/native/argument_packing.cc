#include "native/argument_packing.h"

#include <cstring>

#include "native/cuda_library.h"
#include "native/scalar_bits.h"

namespace trun::python {
namespace {

using cuda_abi::kSuccess;
using cuda_abi::Library;
using cuda_abi::Result;

bool Fail(PyObject* type, const char* text) {
  PyErr_SetString(type, text);
  return false;
}

// A name, interned once and kept. The GIL guards `kept`.
PyObject* Interned(PyObject** kept, const char* name) {
  if (*kept == nullptr) *kept = PyUnicode_InternFromString(name);
  return *kept;
}

bool AddressOf(PyObject* value, uint64_t* address) {
  static PyObject* name = nullptr;
  PyObject* const number = PyObject_CallMethodObjArgs(value, Interned(&name, "data_ptr"), nullptr);
  if (number == nullptr) {
    // What data_ptr() itself raises is kept: it says why the tensor has no memory.
    if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
      PyErr_SetString(PyExc_TypeError, "Pointer argument must be either uint64 or have data_ptr method");
    }
    return false;
  }
  const bool is_number = PyLong_Check(number);
  if (is_number) {
    *address = PyLong_AsUnsignedLongLong(number);
  } else {
    PyErr_SetString(PyExc_TypeError, "data_ptr method of Pointer object must return 64-bit int");
  }
  Py_DECREF(number);
  return is_number && PyErr_Occurred() == nullptr;
}

// A tensor of elements without memory (a meta tensor, a freed storage) would be a null pointer to the kernel.
bool IsEmpty(PyObject* value, int position) {
  PyObject* const count = PyObject_CallMethod(value, "numel", nullptr);
  if (count == nullptr) {
    PyErr_Clear();  // not a tensor of torch: what it means by 0 is its own affair
    return true;
  }
  const int some = PyObject_IsTrue(count);
  Py_DECREF(count);
  if (some < 0) return false;
  if (some == 0) return true;
  PyErr_Format(
      PyExc_ValueError,
      "Pointer argument (at %d) cannot be accessed from Triton (a tensor without memory: of the meta device, "
      "or freed)",
      position);
  return false;
}

bool PackPointer(const Cursor& at, PyObject* value, uint64_t* out) {
  *out = 0;
  if (value == Py_None) return true;
  if (PyLong_Check(value)) {
    *out = PyLong_AsUnsignedLongLong(value);
    return PyErr_Occurred() == nullptr;
  }
  uint64_t address = 0;
  if (!AddressOf(value, &address)) return false;
  if (address == 0) return IsEmpty(value, at.position);
  const Result result = at.cuda.PointerGetAttribute(out, cuda_abi::kDevicePointer, address);
  if (result == cuda_abi::kInvalidValue) {
    PyErr_Format(PyExc_ValueError, "Pointer argument (at %d) cannot be accessed from Triton (cpu tensor?)",
                 at.position);
    return false;
  }
  if (result != kSuccess) {
    SetCudaError(at.cuda, result);
    return false;
  }
  if (!at.several_devices) return true;
  int owner = at.device, reachable = 1;
  if (at.cuda.PointerGetAttribute(&owner, cuda_abi::kDeviceOrdinal, address) != kSuccess || owner < 0 ||
      owner == at.device || at.cuda.DeviceCanAccessPeer(&reachable, at.device, owner) != kSuccess ||
      reachable != 0) {
    return true;
  }
  PyErr_Format(PyExc_ValueError,
               "Pointer argument (at %d) cannot be accessed from Triton (it is memory of cuda:%d, the launch "
               "is on cuda:%d)",
               at.position, owner, at.device);
  return false;
}

bool PackTensorMap(PyObject* value, unsigned char* out) {
  if (PyBytes_Check(value) && PyBytes_Size(value) == sizeof(cuda_abi::TensorMap)) {
    std::memcpy(out, PyBytes_AsString(value), sizeof(cuda_abi::TensorMap));
    return true;
  }
  static PyObject* name = nullptr;
  PyObject* const number = PyObject_CallMethodObjArgs(value, Interned(&name, "tma_desc_cpu_ptr"), nullptr);
  if (number == nullptr) return false;
  const auto address = static_cast<uintptr_t>(PyLong_AsUnsignedLongLong(number));
  Py_DECREF(number);
  if (PyErr_Occurred() != nullptr) return false;
  if (address == 0) return Fail(PyExc_ValueError, "tma_desc_cpu_ptr() gave a null pointer");
  std::memcpy(out, reinterpret_cast<const void*>(address), sizeof(cuda_abi::TensorMap));
  return true;
}

bool PackInteger(const Entry& entry, PyObject* value, unsigned char* out) {
  if (entry.kind == Kind::kUnsigned) {  // the bits that fit, as C converts
    const uint64_t bits = PyLong_AsUnsignedLongLongMask(value);
    if (bits == ~uint64_t{0} && PyErr_Occurred() != nullptr) return false;
    std::memcpy(out, &bits, entry.bytes);
    return true;
  }
  const int64_t number = PyLong_AsLongLong(value);
  if (number == -1 && PyErr_Occurred() != nullptr) return false;
  if (entry.bytes < 8 && entry.bytes > 1) {  // a byte holds booleans and either sign
    const int64_t limit = int64_t{1} << (entry.bytes * 8 - 1);
    if (number < -limit || number >= limit) {
      PyErr_Format(PyExc_OverflowError, "%lld does not fit an argument of %d bytes",
                   static_cast<long long>(number), entry.bytes);
      return false;
    }
  }
  std::memcpy(out, &number, entry.bytes);
  return true;
}

bool PackReal(const Entry& entry, PyObject* value, unsigned char* out) {
  const double number = PyFloat_AsDouble(value);
  if (number == -1.0 && PyErr_Occurred() != nullptr) return false;
  if (entry.kind == Kind::kDouble) {
    std::memcpy(out, &number, 8);
  } else if (entry.kind == Kind::kFloat) {
    const uint32_t bits = FloatBits(number);
    std::memcpy(out, &bits, 4);
  } else {
    uint16_t bits = BfloatBits(number);
    if (entry.kind == Kind::kHalf && !HalfBits(number, &bits)) {
      return Fail(PyExc_OverflowError, "the number is too large for fp16");
    }
    std::memcpy(out, &bits, 2);
  }
  return true;
}

}  // namespace

bool PackNext(Cursor* at, PyObject* value) {
  const Entry& entry = at->plan.entries[at->entry++];
  if (entry.kind == Kind::kTuple) {
    if (!PyTuple_Check(value) || PyTuple_Size(value) != entry.children) {
      PyErr_Format(PyExc_TypeError, "argument %d is a tuple of %d", at->position, entry.children);
      return false;
    }
    for (int i = 0; i < entry.children; ++i) {
      if (!PackNext(at, PyTuple_GetItem(value, i))) return false;
    }
    return true;
  }
  unsigned char* const out = at->buffer + entry.offset;
  bool packed = true;
  switch (entry.kind) {
    case Kind::kConstexpr:
    case Kind::kTuple:
      break;
    case Kind::kPointer: {
      uint64_t address = 0;
      packed = PackPointer(*at, value, &address);
      std::memcpy(out, &address, 8);
      break;
    }
    case Kind::kTensorMap:
      packed = PackTensorMap(value, out);
      break;
    case Kind::kSigned:
    case Kind::kUnsigned:
      packed = PackInteger(entry, value, out);
      break;
    default:
      packed = PackReal(entry, value, out);
  }
  ++at->position;
  return packed;
}

bool PackScratch(const Cursor& at, int64_t programs, PyObject* stream, PyObject** kept) {
  const Plan& plan = at.plan;
  unsigned char* const first = at.buffer + plan.offsets[plan.parameter_count - plan.hidden];
  std::memset(first, 0, 8 * plan.hidden);
  if (plan.scratch == nullptr) return true;
  *kept = PyObject_CallFunction(plan.scratch, "LO", static_cast<long long>(programs), stream);
  if (*kept == nullptr) return false;
  if (!PyTuple_Check(*kept) || PyTuple_Size(*kept) != plan.hidden) {
    return Fail(PyExc_TypeError, "scratch memory is a tuple with one entry for each hidden parameter");
  }
  for (int i = 0; i < plan.hidden; ++i) {
    uint64_t address = 0;
    if (!PackPointer(at, PyTuple_GetItem(*kept, i), &address)) return false;
    std::memcpy(first + 8 * i, &address, 8);
  }
  return true;
}

bool CheckParameters(const Library& cuda, Plan* plan, cuda_abi::Function function) {
  if (cuda.FuncGetParamInfo != nullptr) {
    for (int i = 0; i <= plan->parameter_count; ++i) {
      size_t offset = 0, bytes = 0;  // an offset is the compiler's choice: a tensor map's may leave a gap
      const Result result = cuda.FuncGetParamInfo(function, i, &offset, &bytes);
      if (result == cuda_abi::kNotSupported) break;
      const bool there = result == kSuccess;
      if (i == plan->parameter_count ? !there : there && bytes == plan->sizes[i]) continue;
      if (there && i < plan->parameter_count) {
        PyErr_Format(
            PyExc_TypeError,
            "the kernel's parameters are not those of its signature: parameter %d has %zu bytes, not %d", i,
            bytes, plan->sizes[i]);
      } else {
        PyErr_Format(
            PyExc_TypeError,
            "the kernel's parameters are not those of its signature: it has %s than its %d (hidden ones "
            "included)",
            there ? "more" : "fewer", plan->parameter_count);
      }
      return false;
    }
  }
  plan->checked = function;
  return true;
}

}  // namespace trun::python
