// setp, set, selp, slct, testp, copysign (PTX ISA, "Comparison and Selection Instructions").
#include <cstring>

#include "server/device/emulator/ops/comparison.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ops/lane_operations.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

bool TakeComparison(Form& form, bool is_float, bool is_signed, Comparison* out) {
  struct Row {
    const char* name;
    Comparison comparison;
    bool float_only;
  };
  static constexpr Row kRows[] = {
      {"eq", Comparison::kEq, false},  {"ne", Comparison::kNe, false},  {"lt", Comparison::kLt, false},
      {"le", Comparison::kLe, false},  {"gt", Comparison::kGt, false},  {"ge", Comparison::kGe, false},
      {"lo", Comparison::kLt, false},  {"ls", Comparison::kLe, false},  {"hi", Comparison::kGt, false},
      {"hs", Comparison::kGe, false},  {"equ", Comparison::kEqu, true}, {"neu", Comparison::kNeu, true},
      {"ltu", Comparison::kLtu, true}, {"leu", Comparison::kLeu, true}, {"gtu", Comparison::kGtu, true},
      {"geu", Comparison::kGeu, true}, {"num", Comparison::kNum, true}, {"nan", Comparison::kNan, true},
  };
  for (const Row& row : kRows) {
    if ((!row.float_only || is_float) && form.Take(row.name)) {
      *out = row.comparison;
      return true;
    }
  }
  return false;
}

double Flushed(double x, numerics::Type type, bool ftz) {
  const double least_normal = type == numerics::Type::kF32 ? 0x1p-126 : 0x1p-14;
  if (ftz && x > -least_normal && x < least_normal) return __builtin_copysign(0.0, x);
  return x;
}

struct CompareData {
  Comparison comparison;
  numerics::Type type;  // of an element
  bool is_integer = false;
  bool is_signed = false;
  bool packed = false;
  bool ftz = false;
  // set: what true is written as, one element
  uint64_t true_bits = 0;
  uint32_t result_bits = 32;
};

uint64_t Element(const Warp& warp, uint32_t offset, uint32_t lane, const CompareData& data, int half) {
  const uint8_t* at = warp.registers + offset;
  uint64_t value = 0;
  if (numerics::BitsOf(data.type) == 64) {
    memcpy(&value, at + size_t{8} * lane, 8);
    return value;
  }
  memcpy(&value, at + size_t{4} * lane, 4);
  if (numerics::BitsOf(data.type) == 32) return value;
  return half == 0 ? value & 0xffff : value >> 16;
}

bool CompareElements(const CompareData& data, uint64_t a, uint64_t b) {
  if (data.is_integer && data.is_signed) {
    const int unused = 64 - numerics::BitsOf(data.type);
    return Holds(data.comparison, static_cast<int64_t>(a << unused) >> unused,
                 static_cast<int64_t>(b << unused) >> unused);
  }
  if (data.is_integer) return Holds(data.comparison, a, b);
  // Doubles hold every value of the other formats.
  return Holds(data.comparison, Flushed(numerics::ToDouble(data.type, a), data.type, data.ftz),
               Flushed(numerics::ToDouble(data.type, b), data.type, data.ftz));
}

uint32_t Combined(Warp& warp, const Instruction& in, uint32_t result) {
  const int64_t combine = in.immediate & 3;
  if (combine == 0) return result;
  uint32_t c = warp.Predicate(in.operand[4]);
  if ((in.immediate & kSetpNegate) != 0) c = ~c;
  if (combine == kSetpAnd) return result & c;
  return combine == kSetpOr ? result | c : result ^ c;
}

// setp of the 16-bit formats and pairs, where p is for the lower and q for the upper element.
Step RunSetpHalf(Warp& warp, const Instruction& in, uint32_t mask) {
  const CompareData& data = *static_cast<const CompareData*>(in.data);
  uint32_t low = 0;
  uint32_t high = 0;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    for (int half = 0; half < (data.packed ? 2 : 1); ++half) {
      const bool holds = CompareElements(data, Element(warp, in.operand[1], i, data, half),
                                         Element(warp, in.operand[2], i, data, half));
      (half == 0 ? low : high) |= static_cast<uint32_t>(holds) << i;
    }
  }
  const uint32_t second = data.packed ? high : ~low;
  const uint32_t p_value = Combined(warp, in, low);
  const uint32_t q_value = Combined(warp, in, second);
  uint32_t& p = warp.Predicate(in.operand[0]);
  p = (p & ~mask) | (p_value & mask);
  if ((in.immediate & kSetpSecond) != 0) {
    uint32_t& q = warp.Predicate(in.operand[3]);
    q = (q & ~mask) | (q_value & mask);
  }
  return Step::kNext;
}

Step RunSet(Warp& warp, const Instruction& in, uint32_t mask) {
  const CompareData& data = *static_cast<const CompareData*>(in.data);
  const uint32_t combined_true = Combined(warp, in, kFullMask);
  const uint32_t combined_false = Combined(warp, in, 0);
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    uint64_t result = 0;
    for (int half = 0; half < (data.packed ? 2 : 1); ++half) {
      const bool holds = CompareElements(data, Element(warp, in.operand[1], i, data, half),
                                         Element(warp, in.operand[2], i, data, half));
      const bool set = ((holds ? combined_true : combined_false) >> i & 1) != 0;
      if (set) result |= data.true_bits << (16 * half);
    }
    if (data.result_bits == 64) {
      warp.U64(in.operand[0])[i] = result;
    } else {
      warp.U32(in.operand[0])[i] = static_cast<uint32_t>(result);
    }
  }
  return Step::kNext;
}

void TakeCombination(Form& form, int operand, Instruction* in) {
  int64_t combine = 0;
  if (form.Take("and")) combine = kSetpAnd;
  if (form.Take("or")) combine = kSetpOr;
  if (form.Take("xor")) combine = kSetpXor;
  if (combine == 0) return;
  bool negated = false;
  form.PredicateSource(4, operand, &negated);
  in->immediate |= combine | (negated ? kSetpNegate : 0);
}

CompareData DataOf(Type type, Comparison comparison, bool ftz) {
  CompareData data = {};
  data.comparison = comparison;
  data.type = ElementOf(type);
  data.is_integer = !IsFloat(type);
  data.is_signed = IsSigned(type);
  data.packed = type == Type::kF16x2 || type == Type::kBf16x2;
  data.ftz = ftz;
  return data;
}

Operation Setp(Form& form) {
  const Type type = TypeFromName(form.LastModifier());
  Comparison comparison = Comparison::kEq;
  if (!TakeComparison(form, IsFloat(type), IsSigned(type), &comparison))
    return form.Malformed("no comparison");
  const bool ftz = form.Take("ftz");
  form.TakeType();
  Instruction& in = form.instruction();
  TakeCombination(form, 3, &in);
  const ptx::Operand& to = form.Checked(0);
  if (to.kind == ptx::OperandKind::kPair && to.elements.size() == 2) {
    form.Destination(0, to.elements[0], Type::kPred);
    form.Destination(3, to.elements[1], Type::kPred);
    in.immediate |= kSetpSecond;
  } else {
    form.Destination(0, to, Type::kPred);
  }
  if (ftz) in.immediate |= kSetpFtz;
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  if (IsFloat(type) && BitsOf(type) != 64 && type != Type::kF32) {
    form.Data(DataOf(type, comparison, ftz));
    return &RunSetpHalf;
  }
  if (type == Type::kF32x2) return form.Unsupported("setp.f32x2");
  return HostLaneOperations().compare(comparison, type);
}

Operation Set(Form& form) {
  const Type type = TypeFromName(form.LastModifier());
  Comparison comparison = Comparison::kEq;
  if (!TakeComparison(form, IsFloat(type), IsSigned(type), &comparison))
    return form.Malformed("no comparison");
  const bool ftz = form.Take("ftz");
  const Type to = form.TakeType();
  form.TakeType();
  TakeCombination(form, 3, &form.instruction());
  CompareData data = DataOf(type, comparison, ftz);
  data.result_bits = BitsOf(to);
  switch (to) {
    case Type::kF32:
      data.true_bits = 0x3f800000;
      break;
    case Type::kF16:
    case Type::kF16x2:
      data.true_bits = 0x3c00;
      break;
    case Type::kBf16:
    case Type::kBf16x2:
      data.true_bits = 0x3f80;
      break;
    case Type::kU32:
    case Type::kS32:
      data.true_bits = data.packed ? 0xffff : 0xffffffff;
      break;
    case Type::kU16:
    case Type::kS16:
      data.true_bits = 0xffff;
      break;
    case Type::kU64:
    case Type::kS64:
      data.true_bits = ~uint64_t{0};
      break;
    default:
      return form.Unsupported("this result type");
  }
  form.Destination(0, 0, to);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  form.Data(data);
  return &RunSet;
}

Operation Selp(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  bool negated = false;
  form.PredicateSource(3, 3, &negated);
  form.instruction().immediate = negated ? 1 : 0;
  return HostLaneOperations().integer(LaneOpcode::kSelp, type);
}

struct SlctData {
  bool is_float, ftz, wide;
};

Step RunSlct(Warp& warp, const Instruction& in, uint32_t mask) {
  const SlctData& data = *static_cast<const SlctData*>(in.data);
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint32_t c = warp.U32(in.operand[3])[i];
    bool first = static_cast<int32_t>(c) >= 0;
    if (data.is_float) {
      const double x = Flushed(numerics::ToDouble(numerics::Type::kF32, c), numerics::Type::kF32, data.ftz);
      first = x >= 0;
    }
    if (data.wide) {
      warp.U64(in.operand[0])[i] = warp.U64(in.operand[first ? 1 : 2])[i];
    } else {
      warp.U32(in.operand[0])[i] = warp.U32(in.operand[first ? 1 : 2])[i];
    }
  }
  return Step::kNext;
}

Operation Slct(Form& form) {
  SlctData data = {};
  data.ftz = form.Take("ftz");
  const Type type = form.TakeType();
  const Type by = form.TakeType();
  if (by != Type::kS32 && by != Type::kF32) return form.Unsupported("slct selects by s32 or f32");
  data.is_float = by == Type::kF32;
  data.wide = WidthOf(type) == Width::k64;
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  form.Source(3, 3, by);
  form.Data(data);
  return &RunSlct;
}

enum class FloatTest { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

struct TestData {
  FloatTest test;
  bool wide;
};

Step RunTestp(Warp& warp, const Instruction& in, uint32_t mask) {
  const TestData& data = *static_cast<const TestData*>(in.data);
  uint32_t result = 0;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint64_t bits = data.wide ? warp.U64(in.operand[1])[i] : warp.U32(in.operand[1])[i];
    const uint64_t magnitude = data.wide ? bits & 0x7fffffffffffffff : bits & 0x7fffffff;
    const uint64_t infinity = data.wide ? 0x7ff0000000000000 : 0x7f800000;
    const uint64_t least_normal = data.wide ? 0x0010000000000000 : 0x00800000;
    bool holds = false;
    switch (data.test) {
      case FloatTest::kFinite:
        holds = magnitude < infinity;
        break;
      case FloatTest::kInfinite:
        holds = magnitude == infinity;
        break;
      case FloatTest::kNumber:
        holds = magnitude <= infinity;
        break;
      case FloatTest::kNotANumber:
        holds = magnitude > infinity;
        break;
      case FloatTest::kNormal:
        holds = magnitude == 0 || (magnitude >= least_normal && magnitude < infinity);
        break;
      case FloatTest::kSubnormal:
        holds = magnitude != 0 && magnitude < least_normal;
        break;
    }
    result |= static_cast<uint32_t>(holds) << i;
  }
  uint32_t& p = warp.Predicate(in.operand[0]);
  p = (p & ~mask) | (result & mask);
  return Step::kNext;
}

Operation Testp(Form& form) {
  TestData data = {};
  if (form.Take("finite")) {
    data.test = FloatTest::kFinite;
  } else if (form.Take("infinite")) {
    data.test = FloatTest::kInfinite;
  } else if (form.Take("number")) {
    data.test = FloatTest::kNumber;
  } else if (form.Take("notanumber")) {
    data.test = FloatTest::kNotANumber;
  } else if (form.Take("normal")) {
    data.test = FloatTest::kNormal;
  } else if (form.Take("subnormal")) {
    data.test = FloatTest::kSubnormal;
  } else {
    return form.Malformed("testp needs a property");
  }
  const Type type = form.TakeType();
  if (type != Type::kF32 && type != Type::kF64) return form.Unsupported("testp is for f32 and f64");
  data.wide = type == Type::kF64;
  form.Destination(0, 0, Type::kPred);
  form.Source(1, 1, type);
  form.Data(data);
  return &RunTestp;
}

template <typename T, T kSign>
Step RunCopysign(Warp& warp, const Instruction& in, uint32_t mask) {
  T* d = reinterpret_cast<T*>(warp.registers + in.operand[0]);
  const T* a = reinterpret_cast<const T*>(warp.registers + in.operand[1]);
  const T* b = reinterpret_cast<const T*>(warp.registers + in.operand[2]);
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const int i = __builtin_ctz(lanes);
    d[i] = (a[i] & kSign) | (b[i] & ~kSign);
  }
  return Step::kNext;
}

Operation Copysign(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  if (type == Type::kF32) return &RunCopysign<uint32_t, 0x80000000>;
  if (type == Type::kF64) return &RunCopysign<uint64_t, 0x8000000000000000>;
  return form.Unsupported("copysign is for f32 and f64");
}

}  // namespace

void RegisterSelection(FamilyTable* table) {
  table->Add("setp", &Setp);
  table->Add("set", &Set);
  table->Add("selp", &Selp);
  table->Add("slct", &Slct);
  table->Add("testp", &Testp);
  table->Add("copysign", &Copysign);
}

}  // namespace trun::device
