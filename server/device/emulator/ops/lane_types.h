// Types of PTX as C++ types. Only for the files that are compiled per instruction set.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_TYPES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_TYPES_H_

#include <cstdint>

#include "server/device/emulator/ops/lanes.h"
#include "server/device/emulator/program/type.h"

namespace trun::device::TRUN_OPS {
namespace {

// Types of PTX as C++ types; `Lane` is what a register's lane is.
template <typename T>
struct LaneOf {
  using type = uint32_t;
};
template <>
struct LaneOf<uint64_t> {
  using type = uint64_t;
};
template <>
struct LaneOf<int64_t> {
  using type = uint64_t;
};
template <>
struct LaneOf<double> {
  using type = uint64_t;
};
template <typename T>
using Lane = typename LaneOf<T>::type;

template <typename T>
struct UnsignedOf {
  using type = T;
};
template <>
struct UnsignedOf<int8_t> {
  using type = uint8_t;
};
template <>
struct UnsignedOf<int16_t> {
  using type = uint16_t;
};
template <>
struct UnsignedOf<int32_t> {
  using type = uint32_t;
};
template <>
struct UnsignedOf<int64_t> {
  using type = uint64_t;
};
template <typename T>
using Unsigned = typename UnsignedOf<T>::type;

template <typename T>
struct WideOf;
template <>
struct WideOf<uint16_t> {
  using type = uint32_t;
};
template <>
struct WideOf<int16_t> {
  using type = int32_t;
};
template <>
struct WideOf<uint32_t> {
  using type = uint64_t;
};
template <>
struct WideOf<int32_t> {
  using type = int64_t;
};
template <>
struct WideOf<uint64_t> {
  using type = unsigned __int128;
};
template <>
struct WideOf<int64_t> {
  using type = __int128;
};
template <typename T>
using Wide = typename WideOf<T>::type;

template <typename T>
constexpr bool kIsSigned = static_cast<T>(-1) < static_cast<T>(0);
template <typename T>
constexpr int kBits = static_cast<int>(sizeof(T) * 8);
template <typename T>
constexpr T kMinOf = kIsSigned<T> ? static_cast<T>(Unsigned<T>{1} << (kBits<T> - 1)) : T{0};
template <typename T>
constexpr T kMaxOf = static_cast<T>(~kMinOf<T>);

template <typename T>
Lane<T>* LanesAt(Warp& warp, uint32_t offset) {
  return reinterpret_cast<Lane<T>*>(warp.registers + offset);
}

template <typename T>
Lane<T> Out(T value) {
  return static_cast<Lane<T>>(static_cast<Unsigned<T>>(value));
}

// Bits and floats count as the unsigned type of their size.
inline Type IntegerOf(Type type) {
  switch (type) {
    case Type::kB8:
      return Type::kU8;
    case Type::kB16:
    case Type::kF16:
    case Type::kBf16:
      return Type::kU16;
    case Type::kB32:
    case Type::kF32:
    case Type::kF16x2:
    case Type::kBf16x2:
    case Type::kTf32:
      return Type::kU32;
    case Type::kB64:
    case Type::kF64:
    case Type::kF32x2:
      return Type::kU64;
    default:
      return type;
  }
}

}  // namespace
}  // namespace trun::device::TRUN_OPS

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_TYPES_H_
