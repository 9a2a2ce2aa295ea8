// shfl, vote, match, redux, activemask, elect, bar.warp.sync (PTX ISA, "Data Movement and Conversion
// Instructions: shfl.sync", "Parallel Synchronization and Communication Instructions").
//
// All .sync forms wait until every lane of their mask is there.
#include <algorithm>

#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

enum class ShuffleMode : uint8_t { kUp, kDown, kButterfly, kIndex };

// The lanes that run it now; 0: wait. The member mask is that of the first lane (PTX: the same in all of
// them).
uint32_t Gather(Warp& warp, uint32_t mask, uint32_t members_offset) {
  const uint32_t members = warp.U32(members_offset)[__builtin_ctz(mask)];
  const uint32_t now = Converge(warp, mask, members);
  return now;
}

// Operands: 0 d, 1 a, 2 b, 3 c, 4 members, 5 p (immediate bit 0: there is one).
template <ShuffleMode kMode>
Step RunShuffle(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Gather(warp, mask, in.operand[4]);
  if (mask == 0) return Step::kWait;
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  alignas(64) uint32_t values[32];
  uint32_t valid = 0;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t bound = c[i] & 31;
    const uint32_t segment = c[i] >> 8 & 31;
    const uint32_t most = (i & segment) | (bound & ~segment);
    const uint32_t least = i & segment;
    const uint32_t by = b[i] & 31;
    uint32_t from = i;
    bool ok = false;
    if constexpr (kMode == ShuffleMode::kUp) {
      from = i - by;
      ok = static_cast<int32_t>(from) >= static_cast<int32_t>(most);
    } else if constexpr (kMode == ShuffleMode::kDown) {
      from = i + by;
      ok = from <= most;
    } else if constexpr (kMode == ShuffleMode::kButterfly) {
      from = i ^ by;
      ok = from <= most;
    } else {
      from = least | (by & ~segment);
      ok = from <= most;
    }
    if (!ok) from = i;
    values[i] = a[from & 31];
    valid |= static_cast<uint32_t>(ok) << i;
  }
  Blend(warp, in.operand[0], mask, values, 4);
  if ((in.immediate & 1) != 0) {
    uint32_t& p = warp.Predicate(in.operand[5]);
    p = (p & ~mask) | (valid & mask);
  }
  return Step::kNext;
}

Operation Shfl(Form& form) {
  if (!form.Take("sync")) return form.Unsupported("shfl without .sync is gone since sm_70");
  Operation run = form.Take("up")     ? &RunShuffle<ShuffleMode::kUp>
                  : form.Take("down") ? &RunShuffle<ShuffleMode::kDown>
                  : form.Take("bfly") ? &RunShuffle<ShuffleMode::kButterfly>
                  : form.Take("idx")  ? &RunShuffle<ShuffleMode::kIndex>
                                      : nullptr;
  form.TakeType();
  const ptx::Operand& to = form.Checked(0);
  if (to.kind == ptx::OperandKind::kPair && to.elements.size() == 2) {
    form.Destination(0, to.elements[0], Type::kB32);
    form.Destination(5, to.elements[1], Type::kPred);
    form.instruction().immediate = 1;
  } else {
    form.Destination(0, to, Type::kB32);
  }
  for (int i = 1; i <= 4; ++i) form.Source(i, i, Type::kB32);
  form.EarlyDestinations();
  return run;
}

enum class VoteMode : int64_t { kAll, kAny, kUniform, kBallot };

Step RunVote(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t members = warp.U32(in.operand[2])[__builtin_ctz(mask)];
  mask = Converge(warp, mask, members);
  if (mask == 0) return Step::kWait;
  uint32_t votes = warp.Predicate(in.operand[1]);
  if ((in.immediate & 4) != 0) votes = ~votes;
  const uint32_t voters = members & warp.live;
  votes &= voters;
  const VoteMode mode = static_cast<VoteMode>(in.immediate & 3);
  if (mode == VoteMode::kBallot) {
    alignas(64) uint32_t values[32];
    std::fill(values, values + 32, votes);
    Blend(warp, in.operand[0], mask, values, 4);
    return Step::kNext;
  }
  const bool result = mode == VoteMode::kAll   ? votes == voters
                      : mode == VoteMode::kAny ? votes != 0
                                               : votes == 0 || votes == voters;
  uint32_t& p = warp.Predicate(in.operand[0]);
  p = (p & ~mask) | (result ? mask : 0);
  return Step::kNext;
}

Operation Vote(Form& form) {
  if (!form.Take("sync")) return form.Unsupported("vote without .sync is gone since sm_70");
  VoteMode mode = VoteMode::kBallot;
  if (form.Take("all")) mode = VoteMode::kAll;
  if (form.Take("any")) mode = VoteMode::kAny;
  if (form.Take("uni")) mode = VoteMode::kUniform;
  form.Take("ballot");
  form.TakeType();
  form.Destination(0, 0, mode == VoteMode::kBallot ? Type::kB32 : Type::kPred);
  bool negated = false;
  form.PredicateSource(1, 1, &negated);
  form.Source(2, 2, Type::kB32);
  form.instruction().immediate = static_cast<int64_t>(mode) | (negated ? 4 : 0);
  form.EarlyDestinations();
  return &RunVote;
}

template <typename T>
Step RunMatch(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t members = warp.U32(in.operand[2])[__builtin_ctz(mask)];
  mask = Converge(warp, mask, members);
  if (mask == 0) return Step::kWait;
  const T* a = reinterpret_cast<const T*>(warp.registers + in.operand[1]);
  const uint32_t voters = members & warp.live;
  const bool all = (in.immediate & 1) != 0;
  alignas(64) uint32_t values[32];
  bool same = true;
  for (uint32_t i = 0; i < 32; ++i) {
    values[i] = 0;
    if ((voters >> i & 1) == 0) continue;
    for (uint32_t k = 0; k < 32; ++k) {
      if ((voters >> k & 1) != 0 && a[k] == a[i]) values[i] |= 1u << k;
    }
    same = same && values[i] == voters;
  }
  if (all) std::fill(values, values + 32, same ? voters : 0);
  Blend(warp, in.operand[0], mask, values, 4);
  if ((in.immediate & 2) != 0) {
    uint32_t& p = warp.Predicate(in.operand[3]);
    p = (p & ~mask) | (same ? mask : 0);
  }
  return Step::kNext;
}

Operation Match(Form& form) {
  const bool all = form.Take("all");
  if (!all && !form.Take("any")) return form.Malformed("match needs .any or .all");
  if (!form.Take("sync")) return form.Malformed("match needs .sync");
  const Type type = form.TakeType();
  const ptx::Operand& to = form.Checked(0);
  form.instruction().immediate = all ? 1 : 0;
  if (to.kind == ptx::OperandKind::kPair && to.elements.size() == 2) {
    form.Destination(0, to.elements[0], Type::kB32);
    form.Destination(3, to.elements[1], Type::kPred);
    form.instruction().immediate |= 2;
  } else {
    form.Destination(0, to, Type::kB32);
  }
  form.Source(1, 1, type);
  form.Source(2, 2, Type::kB32);
  form.EarlyDestinations();
  return WidthOf(type) == Width::k64 ? &RunMatch<uint64_t> : &RunMatch<uint32_t>;
}

enum class ReduceOp : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

struct ReduceData {
  ReduceOp op = ReduceOp::kAdd;
  bool is_signed = false;
  bool is_float = false;
  bool absolute = false, nan = false;
};

Step RunRedux(Warp& warp, const Instruction& in, uint32_t mask) {
  const ReduceData& data = *static_cast<const ReduceData*>(in.data);
  const uint32_t members = warp.U32(in.operand[2])[__builtin_ctz(mask)];
  mask = Converge(warp, mask, members);
  if (mask == 0) return Step::kWait;
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t voters = members & warp.live;
  uint32_t result = 0;
  bool first = true;
  numerics::FloatOp op;
  op.opcode = data.op == ReduceOp::kMin ? numerics::FloatOpcode::kMin : numerics::FloatOpcode::kMax;
  op.nan = data.nan;
  const numerics::FloatLanes lanes_op = data.is_float ? numerics::SelectFloatOp(op) : nullptr;
  for (uint32_t lanes = voters; lanes != 0; lanes &= lanes - 1) {
    uint32_t value = a[__builtin_ctz(lanes)];
    if (data.absolute) value &= 0x7fffffff;
    if (first) {
      result = value;
      first = false;
      continue;
    }
    if (data.is_float) {
      alignas(64) uint32_t x[32] = {result}, y[32] = {value}, d[32];
      lanes_op(op, x, y, nullptr, d);
      result = d[0];
      continue;
    }
    const bool less =
        data.is_signed ? static_cast<int32_t>(value) < static_cast<int32_t>(result) : value < result;
    switch (data.op) {
      case ReduceOp::kAdd:
        result += value;
        break;
      case ReduceOp::kMin:
        result = less ? value : result;
        break;
      case ReduceOp::kMax:
        result = less ? result : value;
        break;
      case ReduceOp::kAnd:
        result &= value;
        break;
      case ReduceOp::kOr:
        result |= value;
        break;
      case ReduceOp::kXor:
        result ^= value;
        break;
    }
  }
  alignas(64) uint32_t values[32];
  std::fill(values, values + 32, result);
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Operation Redux(Form& form) {
  if (!form.Take("sync")) return form.Malformed("redux needs .sync");
  ReduceData data;
  if (form.Take("add")) {
    data.op = ReduceOp::kAdd;
  } else if (form.Take("min")) {
    data.op = ReduceOp::kMin;
  } else if (form.Take("max")) {
    data.op = ReduceOp::kMax;
  } else if (form.Take("and")) {
    data.op = ReduceOp::kAnd;
  } else if (form.Take("or")) {
    data.op = ReduceOp::kOr;
  } else if (form.Take("xor")) {
    data.op = ReduceOp::kXor;
  } else {
    return form.Malformed("no operation");
  }
  data.absolute = form.Take("abs");
  data.nan = form.Take("NaN");
  const Type type = form.TakeType();
  data.is_signed = IsSigned(type);
  data.is_float = type == Type::kF32;
  if (BitsOf(type) != 32 || (data.is_float && data.op != ReduceOp::kMin && data.op != ReduceOp::kMax)) {
    return form.Unsupported("this type");
  }
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, Type::kB32);
  form.EarlyDestinations();
  form.Data(data);
  return &RunRedux;
}

Step RunActivemask(Warp& warp, const Instruction& in, uint32_t mask) {
  alignas(64) uint32_t values[32];
  std::fill(values, values + 32, mask);
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Operation Activemask(Form& form) {
  form.TakeType();
  form.Destination(0, 0, Type::kB32);
  return &RunActivemask;
}

// elect.sync d|p, members: the lowest lane is the leader.
Step RunElect(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t members = warp.U32(in.operand[2])[__builtin_ctz(mask)];
  mask = Converge(warp, mask, members);
  if (mask == 0) return Step::kWait;
  const uint32_t voters = members & warp.live;
  const uint32_t leader = static_cast<uint32_t>(__builtin_ctz(voters));
  alignas(64) uint32_t values[32];
  std::fill(values, values + 32, leader);
  Blend(warp, in.operand[0], mask, values, 4);
  uint32_t& p = warp.Predicate(in.operand[1]);
  p = (p & ~mask) | (mask & 1u << leader);
  return Step::kNext;
}

Operation Elect(Form& form) {
  if (!form.Take("sync")) return form.Malformed("elect needs .sync");
  const ptx::Operand& to = form.Checked(0);
  if (to.kind != ptx::OperandKind::kPair || to.elements.size() != 2) return form.Malformed("elect has d|p");
  form.Destination(0, to.elements[0], Type::kB32);
  form.Destination(1, to.elements[1], Type::kPred);
  form.Source(2, 1, Type::kB32);
  return &RunElect;
}

}  // namespace

void RegisterWarp(FamilyTable* table) {
  table->Add("shfl", &Shfl);
  table->Add("vote", &Vote);
  table->Add("match", &Match);
  table->Add("redux", &Redux);
  table->Add("activemask", &Activemask);
  table->Add("elect", &Elect);
}

}  // namespace trun::device
