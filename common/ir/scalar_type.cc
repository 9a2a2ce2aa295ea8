#include "common/ir/scalar_type.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"

namespace trun {
namespace {

struct TypeFacts {
  ScalarType type;
  absl::string_view name;
  size_t bytes;
  std::array<absl::string_view, 3> aliases;
};

constexpr std::array<TypeFacts, 18> kTypes = {{
    {ScalarType::kI1, "i1", 1, {"bool", "u1", "int1"}},
    {ScalarType::kI8, "i8", 1, {"int8", "s8", ""}},
    {ScalarType::kI16, "i16", 2, {"int16", "s16", ""}},
    {ScalarType::kI32, "i32", 4, {"int32", "s32", ""}},
    {ScalarType::kI64, "i64", 8, {"int64", "s64", ""}},
    {ScalarType::kU8, "u8", 1, {"uint8", "", ""}},
    {ScalarType::kU16, "u16", 2, {"uint16", "", ""}},
    {ScalarType::kU32, "u32", 4, {"uint32", "", ""}},
    {ScalarType::kU64, "u64", 8, {"uint64", "", ""}},
    {ScalarType::kF16, "f16", 2, {"float16", "fp16", "half"}},
    {ScalarType::kBf16, "bf16", 2, {"bfloat16", "", ""}},
    {ScalarType::kF32, "f32", 4, {"float32", "fp32", "float"}},
    {ScalarType::kF64, "f64", 8, {"float64", "fp64", "double"}},
    {ScalarType::kF8E4M3, "f8e4m3", 1, {"float8_e4m3fn", "fp8e4nv", "f8E4M3FN"}},
    {ScalarType::kF8E5M2, "f8e5m2", 1, {"float8_e5m2", "fp8e5", "f8E5M2"}},
    {ScalarType::kF8E4M3B15, "f8e4m3b15", 1, {"fp8e4b15", "", ""}},
    {ScalarType::kF8E4M3Fnuz, "f8e4m3fnuz", 1, {"float8_e4m3fnuz", "fp8e4b8", "f8E4M3FNUZ"}},
    {ScalarType::kF8E5M2Fnuz, "f8e5m2fnuz", 1, {"float8_e5m2fnuz", "fp8e5b16", "f8E5M2FNUZ"}},
}};

}  // namespace

absl::string_view ScalarTypeName(ScalarType type) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.type == type) return facts.name;
  }
  return "unspecified";
}

size_t ScalarTypeBytes(ScalarType type) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.type == type) return facts.bytes;
  }
  return 0;
}

absl::StatusOr<ScalarType> ScalarTypeFromName(absl::string_view name) {
  std::string known;
  for (const TypeFacts& facts : kTypes) {
    if (facts.name == name) return facts.type;
    for (absl::string_view alias : facts.aliases) {
      if (!alias.empty() && alias == name) return facts.type;
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", facts.name);
  }
  return InvalidArgument(Reason::kArgument,
                         absl::StrCat("'", name, "' is not an element type; they are ", known));
}

}  // namespace trun
