// add, sub, mul, mad, fma, div, rem, min, max, abs, neg, sad, carries, dot products and the approximations
// (PTX ISA, "Integer Arithmetic Instructions", "Extended-Precision Integer Arithmetic Instructions",
// "Floating-Point Instructions", "Half Precision Floating-Point Instructions").
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ops/lane_operations.h"

namespace trun::device {
namespace {

using numerics::FloatOpcode;

// A destination and `sources` sources of one type.
Operation Plain(Form& form, LaneOpcode opcode, Type type, int sources) {
  if (form.operands() != sources + 1) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, type);
  for (int i = 1; i <= sources; ++i) form.Source(i, i, type);
  return HostLaneOperations().integer(opcode, type);
}

Operation Carry(Form& form, LaneOpcode opcode, int sources, bool carry_in) {
  const bool carry_out = form.Take("cc");
  form.instruction().immediate = (carry_in ? 1 : 0) | (carry_out ? 2 : 0);
  return Plain(form, opcode, form.TakeType(), sources);
}

Operation Add(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kAdd, 2);
  if (form.Peek() == "cc") return Carry(form, LaneOpcode::kAddCarry, 2, false);
  const bool saturate = form.Take("sat");
  return Plain(form, saturate ? LaneOpcode::kAddSat : LaneOpcode::kAdd, form.TakeType(), 2);
}

Operation Sub(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kSub, 2);
  if (form.Peek() == "cc") return Carry(form, LaneOpcode::kSubCarry, 2, false);
  const bool saturate = form.Take("sat");
  return Plain(form, saturate ? LaneOpcode::kSubSat : LaneOpcode::kSub, form.TakeType(), 2);
}

Operation Addc(Form& form) { return Carry(form, LaneOpcode::kAddCarry, 2, true); }
Operation Subc(Form& form) { return Carry(form, LaneOpcode::kSubCarry, 2, true); }

Type Widened(Type type) {
  switch (type) {
    case Type::kU16:
      return Type::kU32;
    case Type::kS16:
      return Type::kS32;
    case Type::kU32:
      return Type::kU64;
    case Type::kS32:
      return Type::kS64;
    default:
      return Type::kNone;
  }
}

Operation WideProduct(Form& form, LaneOpcode opcode, int sources) {
  const Type type = form.TakeType();
  const Type wide = Widened(type);
  if (wide == Type::kNone) return form.Unsupported("no such wide product");
  if (form.operands() != sources + 1) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, wide);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  if (sources == 3) form.Source(3, 3, wide);
  return HostLaneOperations().integer(opcode, type);
}

Operation Mul(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kMul, 2);
  if (form.Take("wide")) return WideProduct(form, LaneOpcode::kMulWide, 2);
  const bool high = form.Take("hi");
  if (!high && !form.Take("lo")) return form.Malformed("mul of integers needs .hi, .lo or .wide");
  return Plain(form, high ? LaneOpcode::kMulHi : LaneOpcode::kMulLo, form.TakeType(), 2);
}

Operation Mad(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kFma, 3);
  if (form.Take("wide")) return WideProduct(form, LaneOpcode::kMadWide, 3);
  const bool high = form.Take("hi");
  if (!high && !form.Take("lo")) return form.Malformed("mad of integers needs .hi, .lo or .wide");
  if (form.Peek() == "cc")
    return Carry(form, high ? LaneOpcode::kMadHiCarry : LaneOpcode::kMadLoCarry, 3, false);
  if (high && form.Take("sat")) return Plain(form, LaneOpcode::kMadHiSat, form.TakeType(), 3);
  return Plain(form, high ? LaneOpcode::kMadHi : LaneOpcode::kMadLo, form.TakeType(), 3);
}

Operation Madc(Form& form) {
  const bool high = form.Take("hi");
  if (!high && !form.Take("lo")) return form.Malformed("madc needs .hi or .lo");
  return Carry(form, high ? LaneOpcode::kMadHiCarry : LaneOpcode::kMadLoCarry, 3, true);
}

Operation Mul24(Form& form) {
  const bool high = form.Take("hi");
  if (!high && !form.Take("lo")) return form.Malformed("mul24 needs .hi or .lo");
  return Plain(form, high ? LaneOpcode::kMul24Hi : LaneOpcode::kMul24Lo, form.TakeType(), 2);
}

Operation Mad24(Form& form) {
  const bool high = form.Take("hi");
  if (!high && !form.Take("lo")) return form.Malformed("mad24 needs .hi or .lo");
  if (high && form.Take("sat")) return Plain(form, LaneOpcode::kMad24HiSat, form.TakeType(), 3);
  return Plain(form, high ? LaneOpcode::kMad24Hi : LaneOpcode::kMad24Lo, form.TakeType(), 3);
}

Operation Fma(Form& form) { return DecodeFloat(form, FloatOpcode::kFma, 3); }

Operation Div(Form& form) {
  if (!NextTypeIsFloat(form)) return Plain(form, LaneOpcode::kDiv, form.TakeType(), 2);
  if (form.Take("approx")) return DecodeFloat(form, FloatOpcode::kDivApprox, 2);
  if (form.Take("full")) return DecodeFloat(form, FloatOpcode::kDivFull, 2);
  return DecodeFloat(form, FloatOpcode::kDiv, 2);
}

Operation Rem(Form& form) { return Plain(form, LaneOpcode::kRem, form.TakeType(), 2); }

template <FloatOpcode kFloat, LaneOpcode kInteger, LaneOpcode kRelu>
Operation MinMax(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, kFloat, 2);
  const bool relu = form.Take("relu");
  return Plain(form, relu ? kRelu : kInteger, form.TakeType(), 2);
}

Operation Abs(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kAbs, 1);
  return Plain(form, LaneOpcode::kAbs, form.TakeType(), 1);
}

Operation Neg(Form& form) {
  if (NextTypeIsFloat(form)) return DecodeFloat(form, FloatOpcode::kNeg, 1);
  return Plain(form, LaneOpcode::kNeg, form.TakeType(), 1);
}

Operation Sad(Form& form) { return Plain(form, LaneOpcode::kSad, form.TakeType(), 3); }

template <FloatOpcode kExact, FloatOpcode kApprox>
Operation ExactOrApprox(Form& form) {
  return DecodeFloat(form, form.Take("approx") ? kApprox : kExact, 1);
}

template <FloatOpcode kApprox>
Operation Approx(Form& form) {
  if (!form.Take("approx")) return form.Malformed("it needs .approx");
  return DecodeFloat(form, kApprox, 1);
}

Operation Tanh(Form& form) {
  if (!form.Take("approx")) return form.Malformed("it needs .approx");
  return DecodeFloat(form, FloatOpcode::kTanhApprox, 1);
}

// dp4a, dp2a: `kElements` bytes of a times those of b, or halves of a times two bytes of b.
struct DotData {
  bool a_signed, b_signed, high;
};

Step RunDp4a(Warp& warp, const Instruction& in, uint32_t mask) {
  const DotData& dot = *static_cast<const DotData*>(in.data);
  alignas(64) uint32_t values[32];
  for (int i = 0; i < 32; ++i) {
    const uint32_t a = warp.U32(in.operand[1])[i];
    const uint32_t b = warp.U32(in.operand[2])[i];
    uint32_t sum = warp.U32(in.operand[3])[i];
    for (int k = 0; k < 32; k += 8) {
      const int x = dot.a_signed ? static_cast<int8_t>(a >> k) : static_cast<uint8_t>(a >> k);
      const int y = dot.b_signed ? static_cast<int8_t>(b >> k) : static_cast<uint8_t>(b >> k);
      sum += static_cast<uint32_t>(x * y);
    }
    values[i] = sum;
  }
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Step RunDp2a(Warp& warp, const Instruction& in, uint32_t mask) {
  const DotData& dot = *static_cast<const DotData*>(in.data);
  alignas(64) uint32_t values[32];
  for (int i = 0; i < 32; ++i) {
    const uint32_t a = warp.U32(in.operand[1])[i];
    const uint32_t b = warp.U32(in.operand[2])[i] >> (dot.high ? 16 : 0);
    uint32_t sum = warp.U32(in.operand[3])[i];
    for (int k = 0; k < 2; ++k) {
      const int x = dot.a_signed ? static_cast<int16_t>(a >> 16 * k) : static_cast<uint16_t>(a >> 16 * k);
      const int y = dot.b_signed ? static_cast<int8_t>(b >> 8 * k) : static_cast<uint8_t>(b >> 8 * k);
      sum += static_cast<uint32_t>(x) * static_cast<uint32_t>(y);
    }
    values[i] = sum;
  }
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

template <bool kFour>
Operation Dot(Form& form) {
  DotData dot = {};
  dot.high = !kFour && form.Take("hi");
  if (!kFour && !dot.high && !form.Take("lo")) return form.Malformed("dp2a needs .hi or .lo");
  dot.a_signed = IsSigned(form.TakeType());
  dot.b_signed = IsSigned(form.TakeType());
  if (form.operands() != 4) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, Type::kU32);
  for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kU32);
  form.Data(dot);
  return kFour ? &RunDp4a : &RunDp2a;
}

}  // namespace

void RegisterArithmetic(FamilyTable* table) {
  table->Add("add", &Add);
  table->Add("sub", &Sub);
  table->Add("addc", &Addc);
  table->Add("subc", &Subc);
  table->Add("mul", &Mul);
  table->Add("mad", &Mad);
  table->Add("madc", &Madc);
  table->Add("mul24", &Mul24);
  table->Add("mad24", &Mad24);
  table->Add("fma", &Fma);
  table->Add("div", &Div);
  table->Add("rem", &Rem);
  table->Add("min", &MinMax<FloatOpcode::kMin, LaneOpcode::kMin, LaneOpcode::kMinRelu>);
  table->Add("max", &MinMax<FloatOpcode::kMax, LaneOpcode::kMax, LaneOpcode::kMaxRelu>);
  table->Add("abs", &Abs);
  table->Add("neg", &Neg);
  table->Add("sad", &Sad);
  table->Add("rcp", &ExactOrApprox<FloatOpcode::kRcp, FloatOpcode::kRcpApprox>);
  table->Add("sqrt", &ExactOrApprox<FloatOpcode::kSqrt, FloatOpcode::kSqrtApprox>);
  table->Add("rsqrt", &Approx<FloatOpcode::kRsqrtApprox>);
  table->Add("sin", &Approx<FloatOpcode::kSinApprox>);
  table->Add("cos", &Approx<FloatOpcode::kCosApprox>);
  table->Add("lg2", &Approx<FloatOpcode::kLg2Approx>);
  table->Add("ex2", &Approx<FloatOpcode::kEx2Approx>);
  table->Add("tanh", &Tanh);
  table->Add("dp4a", &Dot<true>);
  table->Add("dp2a", &Dot<false>);
}

}  // namespace trun::device
