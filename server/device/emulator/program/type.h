// The type suffixes of PTX instructions.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_TYPE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_TYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "server/device/emulator/numerics/types.h"

namespace trun::device {

enum class Type : uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kBf16,
  kTf32,
  kF32,
  kF64,
  kF16x2,
  kBf16x2,
  kF32x2,
  kU16x2,
  kS16x2,
  kE4m3,
  kE5m2,
  kE2m1,
  kE2m3,
  kE3m2,
  kE4m3x2,
  kE5m2x2,
  kE2m1x2,
  kE2m3x2,
  kE3m2x2,
  kUe8m0x2,
  kS4,
  kU4,
  kS2,
  kU2,
  kB1,
  kB1024,
};

// kNone for a word that is no type.
Type TypeFromName(absl::string_view name);

// 1 for a predicate.
uint32_t BitsOf(Type type);
bool IsSigned(Type type);
bool IsFloat(Type type);    // f16, bf16, f32, f64 and their pairs
bool IsUntyped(Type type);  // b8 … b128

// One element of the type in the words of numerics; REQUIRES: it has one (no b types, no predicates).
numerics::Type ElementOf(Type type);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_TYPE_H_
