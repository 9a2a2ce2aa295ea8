#include "server/device/emulator/program/type.h"

#include <utility>

namespace trun::device {
namespace {

struct Row {
  const char* name;
  Type type;
  uint32_t bits;
  numerics::Type element;
};

using N = numerics::Type;

constexpr Row kRows[] = {
    {"pred", Type::kPred, 1, N::kU8},
    {"b8", Type::kB8, 8, N::kU8},
    {"b16", Type::kB16, 16, N::kU16},
    {"b32", Type::kB32, 32, N::kU32},
    {"b64", Type::kB64, 64, N::kU64},
    {"b128", Type::kB128, 128, N::kU64},
    {"u8", Type::kU8, 8, N::kU8},
    {"u16", Type::kU16, 16, N::kU16},
    {"u32", Type::kU32, 32, N::kU32},
    {"u64", Type::kU64, 64, N::kU64},
    {"s8", Type::kS8, 8, N::kS8},
    {"s16", Type::kS16, 16, N::kS16},
    {"s32", Type::kS32, 32, N::kS32},
    {"s64", Type::kS64, 64, N::kS64},
    {"f16", Type::kF16, 16, N::kF16},
    {"bf16", Type::kBf16, 16, N::kBf16},
    {"tf32", Type::kTf32, 32, N::kTf32},
    {"f32", Type::kF32, 32, N::kF32},
    {"f64", Type::kF64, 64, N::kF64},
    {"f16x2", Type::kF16x2, 32, N::kF16},
    {"bf16x2", Type::kBf16x2, 32, N::kBf16},
    {"f32x2", Type::kF32x2, 64, N::kF32},
    {"u16x2", Type::kU16x2, 32, N::kU16},
    {"s16x2", Type::kS16x2, 32, N::kS16},
    {"e4m3", Type::kE4m3, 8, N::kE4m3},
    {"e5m2", Type::kE5m2, 8, N::kE5m2},
    {"e2m1", Type::kE2m1, 4, N::kE2m1},
    {"e2m3", Type::kE2m3, 6, N::kE2m3},
    {"e3m2", Type::kE3m2, 6, N::kE3m2},
    {"e4m3x2", Type::kE4m3x2, 16, N::kE4m3},
    {"e5m2x2", Type::kE5m2x2, 16, N::kE5m2},
    {"e2m1x2", Type::kE2m1x2, 8, N::kE2m1},
    {"e2m3x2", Type::kE2m3x2, 16, N::kE2m3},
    {"e3m2x2", Type::kE3m2x2, 16, N::kE3m2},
    {"ue8m0x2", Type::kUe8m0x2, 16, N::kUe8m0},
    {"s4", Type::kS4, 4, N::kS4},
    {"u4", Type::kU4, 4, N::kU4},
    {"s2", Type::kS2, 2, N::kS8},
    {"u2", Type::kU2, 2, N::kU8},
    {"b1", Type::kB1, 1, N::kB1},
    {"b1024", Type::kB1024, 1024, N::kU64},
};

const Row* Find(Type type) {
  for (const Row& row : kRows) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace

Type TypeFromName(absl::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.name) return row.type;
  }
  return Type::kNone;
}

uint32_t BitsOf(Type type) {
  const Row* row = Find(type);
  return row == nullptr ? 0 : row->bits;
}

bool IsSigned(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64 ||
         type == Type::kS16x2 || type == Type::kS4 || type == Type::kS2;
}

bool IsFloat(Type type) {
  switch (type) {
    case Type::kF16:
    case Type::kBf16:
    case Type::kF32:
    case Type::kF64:
    case Type::kF16x2:
    case Type::kBf16x2:
    case Type::kF32x2:
      return true;
    default:
      return false;
  }
}

bool IsUntyped(Type type) { return type >= Type::kB8 && type <= Type::kB128; }

numerics::Type ElementOf(Type type) {
  const Row* row = Find(type);
  return row == nullptr ? numerics::Type::kU32 : row->element;
}

}  // namespace trun::device
