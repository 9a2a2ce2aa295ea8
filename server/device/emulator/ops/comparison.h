// What the comparisons of setp and set mean (PTX ISA, "Comparison and Selection Instructions").
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_COMPARISON_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_COMPARISON_H_

#include <type_traits>

#include "server/device/emulator/ops/lane_operations.h"

namespace trun::device {

// Whether `x comparison y` holds. Unordered is what has a NaN in it; integers have none. Of internal linkage:
// files that are compiled for other CPUs must not lend each other their code.
template <typename T>
[[gnu::always_inline]] static inline bool Holds(Comparison comparison, T x, T y) {
  bool ordered = true;
  if constexpr (std::is_floating_point_v<T>) ordered = !__builtin_isunordered(x, y);
  switch (comparison) {
    case Comparison::kEq:
      return x == y;
    case Comparison::kNe:
      return ordered && x != y;
    case Comparison::kLt:
      return x < y;
    case Comparison::kLe:
      return x <= y;
    case Comparison::kGt:
      return x > y;
    case Comparison::kGe:
      return x >= y;
    case Comparison::kEqu:
      return !ordered || x == y;
    case Comparison::kNeu:
      return x != y;
    case Comparison::kLtu:
      return !(x >= y);
    case Comparison::kLeu:
      return !(x > y);
    case Comparison::kGtu:
      return !(x <= y);
    case Comparison::kGeu:
      return !(x < y);
    case Comparison::kNum:
      return ordered;
    case Comparison::kNan:
      return !ordered;
  }
  return false;
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_COMPARISON_H_
