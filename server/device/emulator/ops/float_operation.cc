#include "server/device/emulator/ops/float_operation.h"

#include <cstring>

#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

using numerics::FloatOp;
using numerics::FloatOpcode;

struct FloatData {
  numerics::FloatLanes run = nullptr;
  FloatOp op;
};

template <int kSources, uint32_t kLaneBytes>
Step RunFloat(Warp& warp, const Instruction& in, uint32_t mask) {
  const FloatData& data = *static_cast<const FloatData*>(in.data);
  const void* a = warp.registers + in.operand[1];
  const void* b = kSources > 1 ? warp.registers + in.operand[2] : nullptr;
  const void* c = kSources > 2 ? warp.registers + in.operand[3] : nullptr;
  if (mask == kFullMask) [[likely]] {
    data.run(data.op, a, b, c, warp.registers + in.operand[0]);
    return Step::kNext;
  }
  alignas(64) uint8_t values[32 * kLaneBytes];
  data.run(data.op, a, b, c, values);
  Blend(warp, in.operand[0], mask, values, kLaneBytes);
  return Step::kNext;
}

// add, sub and fma of f32 whose first operands (all but the last) are f16 or bf16: each is exact as an f32.
struct MixedData {
  FloatData sum;
  numerics::Conversion widen;
};

template <int kSources>
Step RunMixed(Warp& warp, const Instruction& in, uint32_t mask) {
  const MixedData& data = *static_cast<const MixedData*>(in.data);
  alignas(64) uint32_t wide[kSources - 1][32], values[32];
  for (int k = 0; k + 1 < kSources; ++k) {
    const uint32_t* const narrow = warp.U32(in.operand[1 + k]);
    for (int i = 0; i < 32; ++i) {
      wide[k][i] = static_cast<uint32_t>(numerics::Convert(data.widen, narrow[i] & 0xFFFF));
    }
  }
  const void* const last = warp.registers + in.operand[kSources];
  data.sum.run(data.sum.op, wide[0], kSources == 2 ? last : wide[kSources - 2],
               kSources == 3 ? last : nullptr, values);
  Blend(warp, in.operand[0], mask, values, sizeof values[0]);
  return Step::kNext;
}

// What follows .f32 in add.f32.bf16: the type of all sources but the last.
Operation DecodeMixed(Form& form, const FloatOp& op, Type narrow, int sources) {
  if (form.arch() < 100) return form.Unsupported("operands of 16 bits in arithmetic of f32 need sm_100");
  if (op.ftz || (narrow != Type::kF16 && narrow != Type::kBf16)) {
    return form.Unsupported("this combination of types and modifiers");
  }
  if (form.operands() != sources + 1) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, Type::kF32);
  for (int i = 1; i < sources; ++i) form.Source(i, i, narrow);
  form.Source(sources, sources, Type::kF32);
  MixedData data;
  data.sum = {numerics::SelectFloatOp(op), op};
  data.widen.from = ElementOf(narrow);
  if (data.sum.run == nullptr) return form.Unsupported("this combination of type and modifiers");
  form.Data(data);
  return sources == 2 ? &RunMixed<2> : &RunMixed<3>;
}

// min and max of three: the third with what comes of the first two.
Step RunOfThree(Warp& warp, const Instruction& in, uint32_t mask) {
  const FloatData& data = *static_cast<const FloatData*>(in.data);
  alignas(64) uint32_t values[32];
  data.run(data.op, warp.registers + in.operand[1], warp.registers + in.operand[2], nullptr, values);
  data.run(data.op, values, warp.registers + in.operand[3], nullptr, values);
  Blend(warp, in.operand[0], mask, values, sizeof values[0]);
  return Step::kNext;
}

template <uint32_t kLaneBytes>
Operation BySources(int sources) {
  if (sources == 1) return &RunFloat<1, kLaneBytes>;
  return sources == 2 ? &RunFloat<2, kLaneBytes> : &RunFloat<3, kLaneBytes>;
}

}  // namespace

void Blend(Warp& warp, uint32_t offset, uint32_t mask, const void* values, uint32_t lane_bytes) {
  uint8_t* to = warp.registers + offset;
  const uint8_t* from = static_cast<const uint8_t*>(values);
  if (mask == kFullMask) {
    memcpy(to, from, size_t{32} * lane_bytes);
    return;
  }
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const size_t at = static_cast<size_t>(__builtin_ctz(lanes)) * lane_bytes;
    memcpy(to + at, from + at, lane_bytes);
  }
}

bool TakeRounding(Form& form, numerics::Rounding* rounding) {
  if (form.Take("rn")) {
    *rounding = numerics::Rounding::kNearestEven;
  } else if (form.Take("rz")) {
    *rounding = numerics::Rounding::kTowardZero;
  } else if (form.Take("rm")) {
    *rounding = numerics::Rounding::kDown;
  } else if (form.Take("rp")) {
    *rounding = numerics::Rounding::kUp;
  } else {
    return false;
  }
  return true;
}

bool NextTypeIsFloat(Form& form) {
  // The type is the last modifier of arithmetic.
  const absl::string_view name = form.LastModifier();
  return IsFloat(TypeFromName(name));
}

Operation DecodeFloat(Form& form, FloatOpcode opcode, int sources) {
  FloatOp op;
  op.opcode = opcode;
  TakeRounding(form, &op.rounding);
  op.ftz = form.Take("ftz");
  form.Take("noftz");
  op.sat = form.Take("sat");
  op.relu = form.Take("relu");
  op.nan = form.Take("NaN");
  if (form.Take("xorsign")) {
    op.xorsign_abs = true;
    if (!form.Take("abs")) return form.Malformed(".xorsign needs .abs");
  }
  const Type type = form.TakeType();
  if (!IsFloat(type)) return form.Unsupported("not a floating-point type");
  op.type = ElementOf(type) == numerics::Type::kF16    ? numerics::Type::kF16
            : ElementOf(type) == numerics::Type::kBf16 ? numerics::Type::kBf16
            : ElementOf(type) == numerics::Type::kF64  ? numerics::Type::kF64
                                                       : numerics::Type::kF32;
  const bool may_mix =
      opcode == FloatOpcode::kAdd || opcode == FloatOpcode::kSub || opcode == FloatOpcode::kFma;
  if (may_mix && type == Type::kF32) {
    const Type narrow = form.OptionalType();
    if (narrow != Type::kNone) return DecodeMixed(form, op, narrow, sources);
  }
  op.packed = type == Type::kF16x2 || type == Type::kBf16x2 || type == Type::kF32x2;
  const bool of_three = (opcode == FloatOpcode::kMin || opcode == FloatOpcode::kMax) && form.operands() == 4;
  if (of_three) {
    if (type != Type::kF32 || op.xorsign_abs) return form.Unsupported("three operands of this type");
    sources = 3;
  }
  if (form.operands() != sources + 1) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, type);
  for (int i = 1; i <= sources; ++i) form.Source(i, i, type);
  FloatData data;
  data.op = op;
  data.run = numerics::SelectFloatOp(op);
  if (data.run == nullptr) return form.Unsupported("this combination of type and modifiers");
  form.Data(data);
  if (of_three) return &RunOfThree;
  return WidthOf(type) == Width::k64 ? BySources<8>(sources) : BySources<4>(sources);
}

}  // namespace trun::device
