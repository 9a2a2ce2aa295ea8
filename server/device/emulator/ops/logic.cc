// and, or, xor, not, shifts, lop3, shf, prmt, bfe, bfi, clz, popc and their like (PTX ISA, "Logic and Shift
// Instructions").
#include <limits>

#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/lane_operations.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

enum class PredicateOp { kAnd, kOr, kXor, kNot };

template <PredicateOp kOp>
Step RunPredicate(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t a = warp.Predicate(in.operand[1]);
  const uint32_t b = kOp == PredicateOp::kNot ? 0 : warp.Predicate(in.operand[2]);
  uint32_t result = ~a;
  if (kOp == PredicateOp::kAnd) result = a & b;
  if (kOp == PredicateOp::kOr) result = a | b;
  if (kOp == PredicateOp::kXor) result = a ^ b;
  uint32_t& d = warp.Predicate(in.operand[0]);
  d = (d & ~mask) | (result & mask);
  return Step::kNext;
}

template <LaneOpcode kOpcode, PredicateOp kPredicate>
Operation Bitwise(Form& form) {
  const Type type = form.TakeType();
  const int sources = kPredicate == PredicateOp::kNot ? 1 : 2;
  if (form.operands() != sources + 1) return form.Malformed("a wrong number of operands");
  form.Destination(0, 0, type);
  for (int i = 1; i <= sources; ++i) form.Source(i, i, type);
  if (type == Type::kPred) return &RunPredicate<kPredicate>;
  return HostLaneOperations().integer(kOpcode, type);
}

Operation Cnot(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  return HostLaneOperations().integer(LaneOpcode::kCnot, type);
}

template <LaneOpcode kOpcode>
Operation Shift(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, Type::kU32);
  return HostLaneOperations().integer(kOpcode, type);
}

Operation Shf(Form& form) {
  const bool left = form.Take("l");
  if (!left && !form.Take("r")) return form.Malformed("shf needs .l or .r");
  const bool wrap = form.Take("wrap");
  if (!wrap && !form.Take("clamp")) return form.Malformed("shf needs .wrap or .clamp");
  form.TakeType();
  form.Destination(0, 0, Type::kB32);
  for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kB32);
  const LaneOpcode opcode = left ? (wrap ? LaneOpcode::kShfLWrap : LaneOpcode::kShfLClamp)
                                 : (wrap ? LaneOpcode::kShfRWrap : LaneOpcode::kShfRClamp);
  return HostLaneOperations().integer(opcode, Type::kB32);
}

struct Lop3Predicate {
  Operation lop3 = nullptr;
  bool is_and = false;
  bool negated = false;
};

// lop3.and d|p: p says whether d is not zero, together with q.
Step RunLop3Predicate(Warp& warp, const Instruction& in, uint32_t mask) {
  const Lop3Predicate& data = *static_cast<const Lop3Predicate*>(in.data);
  data.lop3(warp, in, mask);
  uint32_t set = 0;
  for (uint32_t i = 0; i < 32; ++i) set |= static_cast<uint32_t>(warp.U32(in.operand[0])[i] != 0) << i;
  const uint32_t q = data.negated ? ~warp.Predicate(in.operand[5]) : warp.Predicate(in.operand[5]);
  uint32_t& p = warp.Predicate(in.operand[4]);
  p = (p & ~mask) | ((data.is_and ? set & q : set | q) & mask);
  return Step::kNext;
}

Operation Lop3(Form& form) {
  Lop3Predicate data;
  data.is_and = form.Take("and");
  if (data.is_and || form.Take("or")) {
    const ptx::Operand& to = form.Checked(0);
    if (form.TakeType() != Type::kB32) return form.Unsupported("lop3 is for b32");
    if (to.kind != ptx::OperandKind::kPair || to.elements.size() != 2 || form.operands() != 6) {
      return form.Malformed("lop3 with a predicate has d|p, three sources, a table and a predicate");
    }
    form.Destination(0, to.elements[0], Type::kB32);
    form.Destination(4, to.elements[1], Type::kPred);
    for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kB32);
    form.PredicateSource(5, 5, &data.negated);
    form.instruction().immediate = static_cast<int64_t>(form.Integer(4) & 0xff);
    data.lop3 = HostLaneOperations().integer(LaneOpcode::kLop3, Type::kB32);
    form.EarlyDestinations();
    form.Data(data);
    return &RunLop3Predicate;
  }
  if (form.TakeType() != Type::kB32) return form.Unsupported("lop3 is for b32");
  form.Destination(0, 0, Type::kB32);
  for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kB32);
  form.instruction().immediate = static_cast<int64_t>(form.Integer(4) & 0xff);
  return HostLaneOperations().integer(LaneOpcode::kLop3, Type::kB32);
}

Operation Prmt(Form& form) {
  LaneOpcode opcode = LaneOpcode::kPrmt;
  form.TakeType();
  if (form.Take("f4e")) opcode = LaneOpcode::kPrmtF4e;
  if (form.Take("b4e")) opcode = LaneOpcode::kPrmtB4e;
  if (form.Take("rc8")) opcode = LaneOpcode::kPrmtRc8;
  if (form.Take("ecl")) opcode = LaneOpcode::kPrmtEcl;
  if (form.Take("ecr")) opcode = LaneOpcode::kPrmtEcr;
  if (form.Take("rc16")) opcode = LaneOpcode::kPrmtRc16;
  form.Destination(0, 0, Type::kB32);
  for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kB32);
  return HostLaneOperations().integer(opcode, Type::kB32);
}

Operation Bfe(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, Type::kU32);
  form.Source(3, 3, Type::kU32);
  return HostLaneOperations().integer(LaneOpcode::kBfe, type);
}

Operation Bfi(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, type);
  form.Source(3, 3, Type::kU32);
  form.Source(4, 4, Type::kU32);
  return HostLaneOperations().integer(LaneOpcode::kBfi, type);
}

template <LaneOpcode kOpcode>
Operation Count(Form& form) {
  LaneOpcode opcode = kOpcode;
  if (kOpcode == LaneOpcode::kBfind && form.Take("shiftamt")) opcode = LaneOpcode::kBfindShift;
  const Type type = form.TakeType();
  form.Destination(0, 0, Type::kU32);
  form.Source(1, 1, type);
  return HostLaneOperations().integer(opcode, type);
}

Operation Brev(Form& form) {
  const Type type = form.TakeType();
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  return HostLaneOperations().integer(LaneOpcode::kBrev, type);
}

Operation Bmsk(Form& form) {
  const bool clamp = form.Take("clamp");
  if (!clamp && !form.Take("wrap")) return form.Malformed("bmsk needs .clamp or .wrap");
  form.TakeType();
  form.Destination(0, 0, Type::kB32);
  form.Source(1, 1, Type::kB32);
  form.Source(2, 2, Type::kB32);
  return HostLaneOperations().integer(clamp ? LaneOpcode::kBmskClamp : LaneOpcode::kBmskWrap, Type::kB32);
}

Step RunSzext(Warp& warp, const Instruction& in, uint32_t mask) {
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint32_t a = warp.U32(in.operand[1])[i];
    uint32_t bits = warp.U32(in.operand[2])[i];
    const bool is_signed = (in.immediate & 1) != 0;
    if ((in.immediate & 2) != 0) bits &= 31;
    uint32_t result = a;
    if (bits == 0) {
      result = 0;
    } else if (bits < 32) {
      result = a & ((1u << bits) - 1);
      if (is_signed && (a >> (bits - 1) & 1) != 0) result |= ~((1u << bits) - 1);
    }
    warp.U32(in.operand[0])[i] = result;
  }
  return Step::kNext;
}

Operation Szext(Form& form) {
  const bool wrap = form.Take("wrap");
  if (!wrap && !form.Take("clamp")) return form.Malformed("szext needs .clamp or .wrap");
  form.instruction().immediate = (IsSigned(form.TakeType()) ? 1 : 0) | (wrap ? 2 : 0);
  form.Destination(0, 0, Type::kB32);
  form.Source(1, 1, Type::kB32);
  form.Source(2, 2, Type::kB32);
  return &RunSzext;
}

// fns: the position of the n-th set bit from a base, upwards or downwards.
Step RunFns(Warp& warp, const Instruction& in, uint32_t mask) {
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint32_t bits = warp.U32(in.operand[1])[i];
    const uint32_t base = warp.U32(in.operand[2])[i];
    const int32_t offset = static_cast<int32_t>(warp.U32(in.operand[3])[i]);
    uint32_t result = 0xffffffff;
    if (offset == std::numeric_limits<int32_t>::min()) {
      result = 0;  // PTX leaves it open; an H200 says 0
    } else if (offset == 0) {
      if (base < 32 && (bits >> base & 1) != 0) result = base;
    } else {
      int64_t left = offset > 0 ? offset : -static_cast<int64_t>(offset);
      const int step = offset > 0 ? 1 : -1;
      for (int64_t at = base; at >= 0 && at < 32; at += step) {
        if ((bits >> at & 1) != 0 && --left == 0) {
          result = static_cast<uint32_t>(at);
          break;
        }
      }
    }
    warp.U32(in.operand[0])[i] = result;
  }
  return Step::kNext;
}

Operation Fns(Form& form) {
  form.TakeType();
  form.Destination(0, 0, Type::kB32);
  for (int i = 1; i <= 3; ++i) form.Source(i, i, Type::kB32);
  return &RunFns;
}

}  // namespace

void RegisterLogic(FamilyTable* table) {
  table->Add("and", &Bitwise<LaneOpcode::kAnd, PredicateOp::kAnd>);
  table->Add("or", &Bitwise<LaneOpcode::kOr, PredicateOp::kOr>);
  table->Add("xor", &Bitwise<LaneOpcode::kXor, PredicateOp::kXor>);
  table->Add("not", &Bitwise<LaneOpcode::kNot, PredicateOp::kNot>);
  table->Add("cnot", &Cnot);
  table->Add("shl", &Shift<LaneOpcode::kShl>);
  table->Add("shr", &Shift<LaneOpcode::kShr>);
  table->Add("shf", &Shf);
  table->Add("lop3", &Lop3);
  table->Add("prmt", &Prmt);
  table->Add("bfe", &Bfe);
  table->Add("bfi", &Bfi);
  table->Add("clz", &Count<LaneOpcode::kClz>);
  table->Add("popc", &Count<LaneOpcode::kPopc>);
  table->Add("bfind", &Count<LaneOpcode::kBfind>);
  table->Add("brev", &Brev);
  table->Add("bmsk", &Bmsk);
  table->Add("szext", &Szext);
  table->Add("fns", &Fns);
}

}  // namespace trun::device
