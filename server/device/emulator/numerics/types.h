// Words shared by the arithmetic of the emulator.
//
// How lanes hold values: a register is 32 lanes, contiguous. Types of up to 32 bits live in uint32_t lanes
// (8- and 16-bit values in the low bits; bits above the type are ignored when read and zero when written,
// except that signed 8-bit results are sign-extended to 16 bits by cvt, as PTX does); 64-bit types live in
// uint64_t lanes. Packed pairs (f16x2 ...) are one uint32_t lane, element 0 in the low half.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_TYPES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_TYPES_H_

#include <cstdint>

namespace trun::device::numerics {

inline constexpr int kLanes = 32;

enum class Type : uint8_t {
  kS8,
  kU8,
  kS16,
  kU16,
  kS32,
  kU32,
  kS64,
  kU64,
  kF16,
  kBf16,
  kTf32,
  kF32,
  kF64,
  kE4m3,
  kE5m2,
  kE2m1,
  kE2m3,
  kE3m2,
  kUe8m0,
  kS4,
  kU4,
  kB1,  // elements of integer matrices only
};

constexpr bool IsInteger(Type t) { return t <= Type::kU64; }
constexpr bool IsSigned(Type t) {
  return t == Type::kS8 || t == Type::kS16 || t == Type::kS32 || t == Type::kS64 || t == Type::kS4;
}

// Bits of one element; of the container for the types narrower than a byte outside matrices.
constexpr int BitsOf(Type t) {
  switch (t) {
    case Type::kS64:
    case Type::kU64:
    case Type::kF64:
      return 64;
    case Type::kS32:
    case Type::kU32:
    case Type::kF32:
    case Type::kTf32:
      return 32;
    case Type::kS16:
    case Type::kU16:
    case Type::kF16:
    case Type::kBf16:
      return 16;
    case Type::kE2m1:
    case Type::kS4:
    case Type::kU4:
      return 4;
    case Type::kE2m3:
    case Type::kE3m2:
      return 6;
    case Type::kB1:
      return 1;
    default:
      return 8;
  }
}

enum class Rounding : uint8_t {
  kNearestEven,  // .rn, .rni
  kTowardZero,   // .rz, .rzi
  kDown,         // .rm, .rmi
  kUp,           // .rp, .rpi
  kNearestAway,  // .rna
};

// What PTX writes for a NaN that an instruction makes (PTX ISA, "Floating-Point Instructions").
inline constexpr uint32_t kNanF32 = 0x7fffffff;
inline constexpr uint32_t kNanF16 = 0x7fff;
inline constexpr uint32_t kNanBf16 = 0x7fff;
inline constexpr uint64_t kNanF64 = 0xfff8000000000000;

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_TYPES_H_
