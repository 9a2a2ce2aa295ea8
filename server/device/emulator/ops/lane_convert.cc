// Conversions between integers on lanes (PTX ISA, "cvt").
#include "server/device/emulator/ops/lane_integer.h"
#include "server/device/emulator/ops/lane_types.h"
#include "server/device/emulator/ops/lanes.h"

namespace trun::device::TRUN_OPS {
namespace {

template <typename To, typename From, typename ToLane, typename FromLane, bool kSaturate>
Step Convert(Warp& warp, const Instruction& in, uint32_t mask) {
  ToLane* d = reinterpret_cast<ToLane*>(warp.registers + in.operand[0]);
  const FromLane* a = reinterpret_cast<const FromLane*>(warp.registers + in.operand[1]);
  ForLanes(d, mask, [=](int i) -> ToLane {
    const From x = static_cast<From>(a[i]);
    To y = static_cast<To>(x);
    if constexpr (kSaturate) {
      if constexpr (kIsSigned<From>) {
        if (!kIsSigned<To> && x < 0) {
          y = 0;
        } else if (sizeof(To) < sizeof(From) || (sizeof(To) == sizeof(From) && kIsSigned<To>)) {
          if (x > static_cast<From>(kMaxOf<To>)) y = kMaxOf<To>;
          if (kIsSigned<To> && x < static_cast<From>(kMinOf<To>)) y = kMinOf<To>;
        }
      } else {
        if (static_cast<uint64_t>(x) > static_cast<uint64_t>(kMaxOf<To>)) y = kMaxOf<To>;
      }
    }
    // Narrow results are extended to the register by their sign; 16 bits is as wide as such a register is
    // meant.
    if constexpr (kIsSigned<To> && sizeof(To) < sizeof(ToLane)) {
      if constexpr (sizeof(ToLane) == 8) return static_cast<ToLane>(static_cast<int64_t>(y));
      return static_cast<ToLane>(static_cast<int32_t>(y));
    }
    return static_cast<ToLane>(static_cast<Unsigned<To>>(y));
  });
  return Step::kNext;
}

template <typename To, typename From, bool kSaturate>
Operation ConvertLanesOf(Width to, Width from) {
  if (to == Width::k64) {
    if (from == Width::k64) return &Convert<To, From, uint64_t, uint64_t, kSaturate>;
    return &Convert<To, From, uint64_t, uint32_t, kSaturate>;
  }
  if constexpr (sizeof(To) <= 4) {
    if (from == Width::k64) return &Convert<To, From, uint32_t, uint64_t, kSaturate>;
    return &Convert<To, From, uint32_t, uint32_t, kSaturate>;
  } else {
    return nullptr;
  }
}

template <typename To, bool kSaturate>
Operation ConvertFrom(Width to, Type from, Width from_width) {
  switch (from) {
    case Type::kU8:
      return ConvertLanesOf<To, uint8_t, kSaturate>(to, from_width);
    case Type::kS8:
      return ConvertLanesOf<To, int8_t, kSaturate>(to, from_width);
    case Type::kU16:
      return ConvertLanesOf<To, uint16_t, kSaturate>(to, from_width);
    case Type::kS16:
      return ConvertLanesOf<To, int16_t, kSaturate>(to, from_width);
    case Type::kU32:
      return ConvertLanesOf<To, uint32_t, kSaturate>(to, from_width);
    case Type::kS32:
      return ConvertLanesOf<To, int32_t, kSaturate>(to, from_width);
    case Type::kU64:
      return from_width == Width::k64 ? ConvertLanesOf<To, uint64_t, kSaturate>(to, from_width) : nullptr;
    case Type::kS64:
      return from_width == Width::k64 ? ConvertLanesOf<To, int64_t, kSaturate>(to, from_width) : nullptr;
    default:
      return nullptr;
  }
}

template <bool kSaturate>
Operation ConvertTo(Type to, Width to_width, Type from, Width from_width) {
  switch (to) {
    case Type::kU8:
      return ConvertFrom<uint8_t, kSaturate>(to_width, from, from_width);
    case Type::kS8:
      return ConvertFrom<int8_t, kSaturate>(to_width, from, from_width);
    case Type::kU16:
      return ConvertFrom<uint16_t, kSaturate>(to_width, from, from_width);
    case Type::kS16:
      return ConvertFrom<int16_t, kSaturate>(to_width, from, from_width);
    case Type::kU32:
      return ConvertFrom<uint32_t, kSaturate>(to_width, from, from_width);
    case Type::kS32:
      return ConvertFrom<int32_t, kSaturate>(to_width, from, from_width);
    case Type::kU64:
      return ConvertFrom<uint64_t, kSaturate>(to_width, from, from_width);
    case Type::kS64:
      return ConvertFrom<int64_t, kSaturate>(to_width, from, from_width);
    default:
      return nullptr;
  }
}

}  // namespace

Operation SelectConvertIntegers(Type to, Width to_width, Type from, Width from_width, bool saturate) {
  return saturate ? ConvertTo<true>(to, to_width, from, from_width)
                  : ConvertTo<false>(to, to_width, from, from_width);
}

}  // namespace trun::device::TRUN_OPS
