// Comparisons of lanes (PTX ISA, "Comparison and Selection Instructions").
#include "server/device/emulator/ops/comparison.h"
#include "server/device/emulator/ops/lane_integer.h"
#include "server/device/emulator/ops/lane_types.h"
#include "server/device/emulator/ops/lanes.h"

namespace trun::device::TRUN_OPS {
namespace {

Step FinishCompare(Warp& warp, const Instruction& in, uint32_t mask, uint32_t result) {
  uint32_t second = ~result;
  const int64_t combine = in.immediate & 3;
  if (combine != 0) {
    uint32_t c = warp.Predicate(in.operand[4]);
    if ((in.immediate & kSetpNegate) != 0) c = ~c;
    if (combine == kSetpAnd) {
      result &= c;
      second &= c;
    } else if (combine == kSetpOr) {
      result |= c;
      second |= c;
    } else {
      result ^= c;
      second ^= c;
    }
  }
  uint32_t& p = warp.Predicate(in.operand[0]);
  p = (p & ~mask) | (result & mask);
  if ((in.immediate & kSetpSecond) != 0) {
    uint32_t& q = warp.Predicate(in.operand[3]);
    q = (q & ~mask) | (second & mask);
  }
  return Step::kNext;
}

template <typename T, Comparison kCompare>
Step Compare(Warp& warp, const Instruction& in, uint32_t mask) {
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const uint32_t result =
      MaskOf([=](int i) { return Holds(kCompare, static_cast<T>(a[i]), static_cast<T>(b[i])); });
  return FinishCompare(warp, in, mask, result);
}

inline float FlushInput(float x, bool ftz) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (ftz && (bits & 0x7f800000) == 0) bits &= 0x80000000;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline double FlushInput(double x, bool) { return x; }

template <typename T, Comparison kCompare>
Step CompareFloat(Warp& warp, const Instruction& in, uint32_t mask) {
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const bool ftz = (in.immediate & kSetpFtz) != 0;
  const uint32_t result = MaskOf([=](int i) {
    T x, y;
    __builtin_memcpy(&x, &a[i], sizeof x);
    __builtin_memcpy(&y, &b[i], sizeof y);
    return Holds(kCompare, FlushInput(x, ftz), FlushInput(y, ftz));
  });
  return FinishCompare(warp, in, mask, result);
}

template <typename T>
Operation CompareIntegers(Comparison comparison) {
  switch (comparison) {
    case Comparison::kEq:
      return &Compare<T, Comparison::kEq>;
    case Comparison::kNe:
      return &Compare<T, Comparison::kNe>;
    case Comparison::kLt:
      return &Compare<T, Comparison::kLt>;
    case Comparison::kLe:
      return &Compare<T, Comparison::kLe>;
    case Comparison::kGt:
      return &Compare<T, Comparison::kGt>;
    case Comparison::kGe:
      return &Compare<T, Comparison::kGe>;
    default:
      return nullptr;
  }
}

template <typename T>
Operation CompareFloats(Comparison comparison) {
  switch (comparison) {
    case Comparison::kEq:
      return &CompareFloat<T, Comparison::kEq>;
    case Comparison::kNe:
      return &CompareFloat<T, Comparison::kNe>;
    case Comparison::kLt:
      return &CompareFloat<T, Comparison::kLt>;
    case Comparison::kLe:
      return &CompareFloat<T, Comparison::kLe>;
    case Comparison::kGt:
      return &CompareFloat<T, Comparison::kGt>;
    case Comparison::kGe:
      return &CompareFloat<T, Comparison::kGe>;
    case Comparison::kEqu:
      return &CompareFloat<T, Comparison::kEqu>;
    case Comparison::kNeu:
      return &CompareFloat<T, Comparison::kNeu>;
    case Comparison::kLtu:
      return &CompareFloat<T, Comparison::kLtu>;
    case Comparison::kLeu:
      return &CompareFloat<T, Comparison::kLeu>;
    case Comparison::kGtu:
      return &CompareFloat<T, Comparison::kGtu>;
    case Comparison::kGeu:
      return &CompareFloat<T, Comparison::kGeu>;
    case Comparison::kNum:
      return &CompareFloat<T, Comparison::kNum>;
    case Comparison::kNan:
      return &CompareFloat<T, Comparison::kNan>;
  }
  return nullptr;
}

}  // namespace

Operation SelectCompare(Comparison comparison, Type type) {
  if (type == Type::kF32) return CompareFloats<float>(comparison);
  if (type == Type::kF64) return CompareFloats<double>(comparison);
  switch (IntegerOf(type)) {
    case Type::kU16:
      return CompareIntegers<uint16_t>(comparison);
    case Type::kS16:
      return CompareIntegers<int16_t>(comparison);
    case Type::kU32:
      return CompareIntegers<uint32_t>(comparison);
    case Type::kS32:
      return CompareIntegers<int32_t>(comparison);
    case Type::kU64:
      return CompareIntegers<uint64_t>(comparison);
    case Type::kS64:
      return CompareIntegers<int64_t>(comparison);
    default:
      return nullptr;
  }
}

}  // namespace trun::device::TRUN_OPS
