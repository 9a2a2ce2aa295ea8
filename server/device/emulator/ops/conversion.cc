// cvt (PTX ISA, "Data Movement and Conversion Instructions: cvt, cvt.pack").
#include <algorithm>

#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ops/lane_operations.h"

namespace trun::device {
namespace {

struct ConvertData {
  numerics::Conversion conversion;
  numerics::ConvertLanes run = nullptr;
};

template <uint32_t kLaneBytes>
Step RunConvert(Warp& warp, const Instruction& in, uint32_t mask) {
  const ConvertData& data = *static_cast<const ConvertData*>(in.data);
  if (mask == kFullMask) {
    data.run(data.conversion, warp.registers + in.operand[1], warp.registers + in.operand[0]);
    return Step::kNext;
  }
  alignas(64) uint8_t values[32 * kLaneBytes];
  data.run(data.conversion, warp.registers + in.operand[1], values);
  Blend(warp, in.operand[0], mask, values, kLaneBytes);
  return Step::kNext;
}

Step RunTwoToPair(Warp& warp, const Instruction& in, uint32_t mask) {
  const ConvertData& data = *static_cast<const ConvertData*>(in.data);
  alignas(64) uint32_t values[32];
  numerics::ConvertTwoToPair(data.conversion, warp.U32(in.operand[1]), warp.U32(in.operand[2]), values);
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Step RunPairToPair(Warp& warp, const Instruction& in, uint32_t mask) {
  const ConvertData& data = *static_cast<const ConvertData*>(in.data);
  alignas(64) uint32_t values[32];
  numerics::ConvertPairToPair(data.conversion, warp.U32(in.operand[1]), values);
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

// cvt.pack.sat: two saturated values side by side, over the upper half of c where it is given.
struct PackData {
  int64_t low, high;
  uint32_t bits;
  bool has_c;
};

Step RunPack(Warp& warp, const Instruction& in, uint32_t mask) {
  const PackData& data = *static_cast<const PackData*>(in.data);
  const uint32_t keep = data.bits >= 32 ? 0xffffffff : (1u << data.bits) - 1;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const int i = __builtin_ctz(lanes);
    const auto clamped = [&](uint32_t offset) {
      const int64_t value = static_cast<int32_t>(warp.U32(offset)[i]);
      return static_cast<uint32_t>(std::clamp(value, data.low, data.high)) & keep;
    };
    uint64_t result = uint64_t{clamped(in.operand[1])} << data.bits | clamped(in.operand[2]);
    if (data.has_c) result |= uint64_t{warp.U32(in.operand[3])[i]} << (2 * data.bits);
    warp.U32(in.operand[0])[i] = static_cast<uint32_t>(result);
  }
  return Step::kNext;
}

Operation Pack(Form& form) {
  if (!form.Take("sat")) return form.Malformed("cvt.pack needs .sat");
  const Type to = form.TakeType();
  if (form.TakeType() != Type::kS32) return form.Unsupported("cvt.pack takes s32");
  PackData data = {};
  data.has_c = form.OptionalType() != Type::kNone;
  switch (to) {
    case Type::kU16:
      data = {0, 65535, 16, data.has_c};
      break;
    case Type::kS16:
      data = {-32768, 32767, 16, data.has_c};
      break;
    case Type::kU8:
      data = {0, 255, 8, data.has_c};
      break;
    case Type::kS8:
      data = {-128, 127, 8, data.has_c};
      break;
    case Type::kU4:
      data = {0, 15, 4, data.has_c};
      break;
    case Type::kS4:
      data = {-8, 7, 4, data.has_c};
      break;
    case Type::kU2:
      data = {0, 3, 2, data.has_c};
      break;
    case Type::kS2:
      data = {-2, 1, 2, data.has_c};
      break;
    default:
      return form.Unsupported("this result type");
  }
  form.Destination(0, 0, Type::kB32);
  form.Source(1, 1, Type::kB32);
  form.Source(2, 2, Type::kB32);
  if (data.has_c) form.Source(3, 3, Type::kB32);
  form.Data(data);
  return &RunPack;
}

bool IsPair(Type type) {
  return (type >= Type::kE4m3x2 && type <= Type::kUe8m0x2) || type == Type::kF16x2 || type == Type::kBf16x2;
}
bool IsInteger(Type type) { return type >= Type::kU8 && type <= Type::kS64; }

// Registers of packs narrower than 16 bits are b8 ones, which PTX writes as 16.
Type RegisterType(Type type) { return BitsOf(type) < 16 ? Type::kB16 : type; }

Operation Cvt(Form& form) {
  if (form.Take("pack")) return Pack(form);
  ConvertData data;
  numerics::Conversion& c = data.conversion;
  const bool integral = form.Take("rni")   ? (c.rounding = numerics::Rounding::kNearestEven, true)
                        : form.Take("rzi") ? (c.rounding = numerics::Rounding::kTowardZero, true)
                        : form.Take("rmi") ? (c.rounding = numerics::Rounding::kDown, true)
                        : form.Take("rpi") ? (c.rounding = numerics::Rounding::kUp, true)
                                           : false;
  if (form.Take("rna")) {
    c.rounding = numerics::Rounding::kNearestAway;
  } else if (!integral) {
    TakeRounding(form, &c.rounding);
  }
  c.ftz = form.Take("ftz");
  c.sat = form.Take("sat");
  c.satfinite = form.Take("satfinite");
  c.relu = form.Take("relu");
  form.Take("scaled::n2::ue8m0");
  const Type to = form.TakeType();
  const Type from = form.TakeType();
  if (form.failed()) return nullptr;
  if (IsInteger(to) && IsInteger(from)) {
    if (form.operands() != 2) return form.Malformed("a wrong number of operands");
    const Width to_width = form.WideDestination(0, 0, to);
    const Width from_width = form.WideSource(1, 1, from);
    return HostLaneOperations().convert(to, to_width, from, from_width, c.sat);
  }
  c.to = ElementOf(to);
  c.from = ElementOf(from);
  if (IsPair(to)) {
    if (from == Type::kF32) {
      if (form.operands() != 3) return form.Malformed("a pair is made of two f32");
      form.WideDestination(0, 0, RegisterType(to));
      form.Source(1, 1, Type::kF32);
      form.Source(2, 2, Type::kF32);
      form.Data(data);
      return &RunTwoToPair;
    }
    if (!IsPair(from)) return form.Unsupported("a pair of this type");
    form.WideDestination(0, 0, RegisterType(to));
    form.WideSource(1, 1, RegisterType(from));
    form.Data(data);
    return &RunPairToPair;
  }
  if (IsPair(from) || IsUntyped(to) || IsUntyped(from) || to == Type::kPred || from == Type::kPred) {
    return form.Unsupported("these types");
  }
  if (form.operands() != 2) return form.Malformed("a wrong number of operands");
  c.to_integral = integral && IsFloat(to) && IsFloat(from);
  const Width to_width = form.WideDestination(0, 0, to);
  const Width from_width = form.WideSource(1, 1, from);
  if (to_width != WidthOf(to) || from_width != WidthOf(from))
    return form.Unsupported("a register wider than its type");
  data.run = numerics::SelectConvert(c);
  if (data.run == nullptr) return form.Unsupported("these types");
  form.Data(data);
  return to_width == Width::k64 ? &RunConvert<8> : &RunConvert<4>;
}

}  // namespace

void RegisterConversion(FamilyTable* table) { table->Add("cvt", &Cvt); }

}  // namespace trun::device
