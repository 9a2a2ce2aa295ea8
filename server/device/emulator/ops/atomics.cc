// atom, red, fence, membar (PTX ISA, "Parallel Synchronization and Communication Instructions").
//
// Lanes act in ascending order, CTAs of a kernel with global atomics in a fixed interleaving on one thread,
// so results do not depend on the host.
#include <cstring>

#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

enum class AtomicOp : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor, kExch, kCas, kInc, kDec };

struct AtomicData {
  AtomicOp op = AtomicOp::kAdd;
  Type type = Type::kU32;
  Space space = Space::kGeneric;
  uint32_t bytes = 4;
  uint32_t vector = 1;
  bool address32 = false;
  bool is_float = false;
  bool keeps_nan = false;
  numerics::FloatLanes run = nullptr;  // floats: the operation on lanes
  numerics::FloatOp float_op;
};

uint64_t Integer(const AtomicData& data, uint64_t old, uint64_t a, uint64_t b) {
  const uint32_t bits = data.bytes * 8;
  const bool is_signed = IsSigned(data.type);
  const auto less = [&](uint64_t x, uint64_t y) {
    if (!is_signed) return x < y;
    return static_cast<int64_t>(x << (64 - bits)) < static_cast<int64_t>(y << (64 - bits));
  };
  switch (data.op) {
    case AtomicOp::kAdd:
      return old + a;
    case AtomicOp::kMin:
      return less(a, old) ? a : old;
    case AtomicOp::kMax:
      return less(old, a) ? a : old;
    case AtomicOp::kAnd:
      return old & a;
    case AtomicOp::kOr:
      return old | a;
    case AtomicOp::kXor:
      return old ^ a;
    case AtomicOp::kExch:
      return a;
    case AtomicOp::kCas:
      return old == a ? b : old;
    case AtomicOp::kInc:
      return old >= a ? 0 : old + 1;
    case AtomicOp::kDec:
      return old == 0 || old > a ? a : old - 1;
  }
  return old;
}

uint64_t Float(const AtomicData& data, uint64_t old, uint64_t value) {
  if (data.bytes == 8) {
    // The units beside global memory give a NaN of f64 back as it is, signalling ones too (an H100 does).
    if (data.keeps_nan) {
      for (const uint64_t operand : {old, value}) {
        if ((operand & 0x7fffffffffffffff) > 0x7ff0000000000000) return operand;
      }
    }
    alignas(64) uint64_t a[32] = {old}, b[32] = {value}, d[32];
    data.run(data.float_op, a, b, nullptr, d);
    return d[0];
  }
  alignas(64) uint32_t a[32] = {static_cast<uint32_t>(old)}, b[32] = {static_cast<uint32_t>(value)}, d[32];
  data.run(data.float_op, a, b, nullptr, d);
  return d[0];
}

uint64_t LaneValue(const Warp& warp, uint32_t offset, uint32_t lane, uint32_t bytes) {
  if (bytes == 8) return reinterpret_cast<const uint64_t*>(warp.registers + offset)[lane];
  const uint32_t value = reinterpret_cast<const uint32_t*>(warp.registers + offset)[lane];
  return bytes == 2 ? value & 0xffff : value;
}

// Operand 0: the address. The list holds for each element k the destination at 3k, and the sources at 3k + 1,
// 3k + 2.
template <bool kReturns>
Step RunAtomic(Warp& warp, const Instruction& in, uint32_t mask) {
  const AtomicData& data = *static_cast<const AtomicData*>(in.data);
  if (data.space != Space::kShared) ++warp.polls;
  const uint32_t bytes = data.bytes * data.vector;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    uint64_t address = data.address32 ? warp.U32(in.operand[0])[i] : warp.U64(in.operand[0])[i];
    address += static_cast<uint64_t>(in.immediate);
    if (data.address32) address &= 0xffffffff;
    uint8_t* host = Resolve(warp, i, data.space, address, bytes, bytes, true);
    if (host == nullptr) return Step::kFault;
    for (uint32_t k = 0; k < data.vector; ++k) {
      uint64_t old = 0;
      memcpy(&old, host + k * data.bytes, data.bytes);
      const uint64_t a = LaneValue(warp, in.list[3 * k + 1], i, data.bytes);
      const uint64_t b = data.op == AtomicOp::kCas ? LaneValue(warp, in.list[3 * k + 2], i, data.bytes) : 0;
      const uint64_t now = data.is_float ? Float(data, old, a) : Integer(data, old, a, b);
      memcpy(host + k * data.bytes, &now, data.bytes);
      if constexpr (kReturns) {
        if (data.bytes == 8) {
          warp.U64(in.list[3 * k])[i] = old;
        } else {
          warp.U32(in.list[3 * k])[i] = static_cast<uint32_t>(old);
        }
      }
    }
  }
  return Step::kNext;
}

// 128-bit exchange and compare-and-swap.
Step RunAtomic128(Warp& warp, const Instruction& in, uint32_t mask) {
  const AtomicData& data = *static_cast<const AtomicData*>(in.data);
  ++warp.polls;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint64_t address = (data.address32 ? warp.U32(in.operand[0])[i] : warp.U64(in.operand[0])[i]) +
                             static_cast<uint64_t>(in.immediate);
    uint8_t* host = Resolve(warp, i, data.space, address, 16, 16, true);
    if (host == nullptr) return Step::kFault;
    uint64_t old[2], a[2], b[2];
    memcpy(old, host, 16);
    for (int k = 0; k < 2; ++k) {
      a[k] = warp.U64(in.list[1])[32 * k + i];
      b[k] = data.op == AtomicOp::kCas ? warp.U64(in.list[2])[32 * k + i] : 0;
    }
    if (data.op == AtomicOp::kExch) memcpy(host, a, 16);
    if (data.op == AtomicOp::kCas && old[0] == a[0] && old[1] == a[1]) memcpy(host, b, 16);
    for (int k = 0; k < 2; ++k) warp.U64(in.list[0])[32 * k + i] = old[k];
  }
  return Step::kNext;
}

bool TakeAtomicOp(Form& form, AtomicOp* op) {
  static constexpr struct {
    const char* name;
    AtomicOp op;
  } kRows[] = {{"add", AtomicOp::kAdd},   {"min", AtomicOp::kMin}, {"max", AtomicOp::kMax},
               {"and", AtomicOp::kAnd},   {"or", AtomicOp::kOr},   {"xor", AtomicOp::kXor},
               {"exch", AtomicOp::kExch}, {"cas", AtomicOp::kCas}, {"inc", AtomicOp::kInc},
               {"dec", AtomicOp::kDec}};
  for (const auto& row : kRows) {
    if (form.Take(row.name)) {
      *op = row.op;
      return true;
    }
  }
  return false;
}

template <bool kReturns>
Operation Atomic(Form& form) {
  AtomicData data;
  for (const char* order : {"relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys"})
    form.Take(order);
  form.Take("async");
  data.space = form.TakeSpace();
  if (!TakeAtomicOp(form, &data.op)) return form.Malformed("no operation");
  form.Take("noftz");
  const bool has_policy = form.Take("L2::cache_hint");
  data.vector = form.Take("v8") ? 8 : form.Take("v4") ? 4 : form.Take("v2") ? 2 : 1;
  data.type = form.TakeType();
  data.bytes = BitsOf(data.type) / 8;
  data.is_float = IsFloat(data.type);
  const int first = kReturns ? 1 : 0;  // the address
  const int sources = data.op == AtomicOp::kCas ? 2 : 1;
  if (form.operands() != first + 1 + sources + (has_policy ? 1 : 0))
    return form.Malformed("a wrong number of operands");
  if (data.space == Space::kLocal || data.space == Space::kParam || data.space == Space::kConst) {
    return form.Malformed("atomics are for global and shared memory");
  }
  const AddressForm address = form.Address(0, first);
  data.address32 = address.width == Width::k32;
  if (data.space == Space::kGeneric && address.variable_space != Space::kGeneric)
    data.space = address.variable_space;
  for (uint32_t k = 0; k < data.vector; ++k) {
    const int at = static_cast<int>(7 + 3 * k);
    const int element = static_cast<int>(k);
    if (kReturns) form.Destination(at, form.Element(0, element), data.type);
    form.Source(at + 1, form.Element(first + 1, element), data.type);
    if (sources == 2) form.Source(at + 2, form.Element(first + 2, element), data.type);
  }
  form.EarlyDestinations();
  if (data.space != Space::kShared) form.CrossCta();
  if (data.type == Type::kB128) {
    if (!kReturns || data.vector != 1 || (data.op != AtomicOp::kExch && data.op != AtomicOp::kCas)) {
      return form.Unsupported("128-bit atomics are exch and cas");
    }
    form.Data(data);
    return &RunAtomic128;
  }
  if (data.bytes != 2 && data.bytes != 4 && data.bytes != 8) return form.Unsupported("this type");
  if (data.is_float) {
    numerics::FloatOp& op = data.float_op;
    op.type = ElementOf(data.type);
    op.packed = data.type == Type::kF16x2 || data.type == Type::kBf16x2;
    if (data.op == AtomicOp::kAdd) {
      op.opcode = numerics::FloatOpcode::kAdd;
    } else if (data.op == AtomicOp::kMin) {
      op.opcode = numerics::FloatOpcode::kMin;
    } else if (data.op == AtomicOp::kMax) {
      op.opcode = numerics::FloatOpcode::kMax;
    } else {
      return form.Unsupported("this operation on floats");
    }
    // PTX ISA, "atom": f32 sums in global memory flush subnormals, those in shared memory do not.
    const bool in_global = data.space != Space::kShared && data.space != Space::kSharedCluster;
    op.ftz = in_global && data.type == Type::kF32 && data.op == AtomicOp::kAdd;
    data.keeps_nan = in_global && data.type == Type::kF64;
    data.run = numerics::SelectFloatOp(op);
    if (data.run == nullptr) return form.Unsupported("this type");
  }
  form.Data(data);
  return &RunAtomic<kReturns>;
}

Operation Fence(Form& form) {
  // Memory is sequentially consistent here.
  while (!form.Peek().empty()) form.TakeNext();
  return &OpNothing;
}

}  // namespace

void RegisterAtomics(FamilyTable* table) {
  table->Add("atom", &Atomic<true>);
  table->Add("red", &Atomic<false>);
  table->Add("fence", &Fence);
  table->Add("membar", &Fence);
}

}  // namespace trun::device
