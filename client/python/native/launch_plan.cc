#include "native/launch_plan.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace trun::python {
namespace {

constexpr size_t kMaxParameterBytes = 32764;  // of a kernel, from CUDA 12.1 on
constexpr int kMaxParameters = 4096;

bool Fail(PyObject* type, const char* text) {
  PyErr_SetString(type, text);
  return false;
}

bool KindOf(const char* type, Entry* entry) {
  const auto is = [&](const char* name) { return std::strcmp(type, name) == 0; };
  if (type[0] == '*') {
    *entry = {Kind::kPointer, 8, 0, 0};
  } else if (is("constexpr")) {
    *entry = {Kind::kConstexpr, 0, 0, 0};
  } else if (is("tensormap") || is("nvTmaDesc")) {
    *entry = {Kind::kTensorMap, sizeof(cuda_abi::TensorMap), 0, 0};
  } else if (is("fp16")) {
    *entry = {Kind::kHalf, 2, 0, 0};
  } else if (is("bf16")) {
    *entry = {Kind::kBfloat, 2, 0, 0};
  } else if (is("fp32") || is("f32")) {
    *entry = {Kind::kFloat, 4, 0, 0};
  } else if (is("fp64") || is("f64")) {
    *entry = {Kind::kDouble, 8, 0, 0};
  } else {
    const int bits = type[0] == 'i' || type[0] == 'u' ? std::atoi(type + 1) : 0;
    if (bits != 1 && bits != 8 && bits != 16 && bits != 32 && bits != 64) {
      PyErr_Format(PyExc_TypeError, "an argument of type %s cannot be passed to a kernel", type);
      return false;
    }
    *entry = {type[0] == 'i' ? Kind::kSigned : Kind::kUnsigned,
              static_cast<uint8_t>(bits == 1 ? 1 : bits / 8), 0, 0};
  }
  return true;
}

void Place(Plan* plan, uint8_t bytes, uint32_t* offset) {
  const size_t align = bytes == sizeof(cuda_abi::TensorMap) ? alignof(cuda_abi::TensorMap) : bytes;
  plan->parameter_bytes = (plan->parameter_bytes + align - 1) / align * align;
  *offset = static_cast<uint32_t>(plan->parameter_bytes);
  plan->offsets[plan->parameter_count] = *offset;
  plan->sizes[plan->parameter_count++] = bytes;
  plan->parameter_bytes += bytes;
}

int CountEntries(PyObject* types) {
  const Py_ssize_t size = PyTuple_Size(types);
  int count = 0;
  for (Py_ssize_t i = 0; i < size && count <= kMaxParameters; ++i) {
    PyObject* const type = PyTuple_GetItem(types, i);
    count += 1 + (PyTuple_Check(type) ? CountEntries(type) : 0);
  }
  return count;
}

bool AddEntries(Plan* plan, PyObject* types) {
  const Py_ssize_t size = PyTuple_Size(types);
  for (Py_ssize_t i = 0; i < size; ++i) {
    PyObject* const type = PyTuple_GetItem(types, i);
    Entry& entry = plan->entries[plan->entry_count++];
    if (PyTuple_Check(type)) {
      entry = {Kind::kTuple, 0, 0, static_cast<int>(PyTuple_Size(type))};
      if (!AddEntries(plan, type)) return false;
      continue;
    }
    const char* const name = PyUnicode_Check(type) ? PyUnicode_AsUTF8AndSize(type, nullptr) : nullptr;
    if (name == nullptr) return Fail(PyExc_TypeError, "a type is a string or a tuple of types");
    if (!KindOf(name, &entry)) return false;
    if (entry.kind != Kind::kConstexpr) Place(plan, entry.bytes, &entry.offset);
  }
  return true;
}

}  // namespace

Plan* NewPlan() {
  void* const memory = std::malloc(sizeof(Plan));
  if (memory == nullptr) {
    PyErr_NoMemory();
    return nullptr;
  }
  return new (memory) Plan;
}

void DeletePlan(Plan* plan) {
  Py_XDECREF(plan->scratch);
  std::free(plan->entries);
  std::free(plan->offsets);
  std::free(plan->sizes);
  std::free(plan);
}

bool LayOut(Plan* plan, PyObject* types) {
  const int entries = CountEntries(types);
  if (entries > kMaxParameters) return Fail(PyExc_TypeError, "a kernel has at most 4096 arguments");
  plan->entries = static_cast<Entry*>(std::calloc(entries + 1, sizeof(Entry)));
  plan->offsets = static_cast<uint32_t*>(std::calloc(entries + kMaxHidden, sizeof(uint32_t)));
  plan->sizes = static_cast<uint8_t*>(std::calloc(entries + kMaxHidden, 1));
  if (plan->entries == nullptr || plan->offsets == nullptr || plan->sizes == nullptr) {
    PyErr_NoMemory();
    return false;
  }
  plan->top_level = static_cast<int>(PyTuple_Size(types));
  if (!AddEntries(plan, types)) return false;
  uint32_t offset = 0;
  for (int i = 0; i < plan->hidden; ++i) Place(plan, 8, &offset);
  if (plan->parameter_bytes > kMaxParameterBytes) {
    return Fail(PyExc_TypeError, "a kernel's arguments are at most 32764 bytes");
  }
  return true;
}

}  // namespace trun::python
