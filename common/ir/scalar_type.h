// Element types of tensors and scalar kernel arguments.
#ifndef TRUN_COMMON_IR_SCALAR_TYPE_H_
#define TRUN_COMMON_IR_SCALAR_TYPE_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// Numbers are those of trun.v1.Dtype.
enum class ScalarType : int {
  kUnspecified = 0,
  kI1 = 1,
  kI8 = 2,
  kI16 = 3,
  kI32 = 4,
  kI64 = 5,
  kU8 = 6,
  kU16 = 7,
  kU32 = 8,
  kU64 = 9,
  kF16 = 10,
  kBf16 = 11,
  kF32 = 12,
  kF64 = 13,
  kF8E4M3 = 14,  // OCP e4m3fn
  kF8E5M2 = 15,
  kF8E4M3B15 = 16,
  kF8E4M3Fnuz = 17,
  kF8E5M2Fnuz = 18,
};

// "f16", "bf16", "i32", "u8", "i1", "f8e4m3", ...
absl::string_view ScalarTypeName(ScalarType type);
// Also accepts NumPy's and Triton's spellings ("float16", "fp16", "int32", "uint8", "bool", "fp8e5",
// "fp8e4nv"). INVALID_ARGUMENT that lists the names.
absl::StatusOr<ScalarType> ScalarTypeFromName(absl::string_view name);
// Size in memory in bytes; 1 for i1, 0 for kUnspecified.
size_t ScalarTypeBytes(ScalarType type);

}  // namespace trun

#endif  // TRUN_COMMON_IR_SCALAR_TYPE_H_
