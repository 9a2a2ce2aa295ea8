// wgmma: a product of the four warps of a warpgroup. It is made when the last of them comes to the
// instruction, the earliest that PTX allows; the others wait for it there, so that no warp sees a result, or
// frees an operand, before all four have given theirs. Fences, groups and waits then have nothing left to do.
// With the late_async check the instruction checks its operands, and the product is made at a wait.
#include <array>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/async/families.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/numerics/wgmma.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

constexpr int kB = WgmmaForm::kB, kScale = WgmmaForm::kScale, kA = WgmmaForm::kA,
              kAccumulators = WgmmaForm::kAccumulators;

// What a CTA knows of its warpgroups between their warps' arrivals.
struct Warpgroups final : CtaExtension {
  struct Group {
    uint32_t arrived = 0;  // warps of the group that wait at `pc`
    uint32_t done = 0;     // warps that waited and whose product has been made
    uint32_t pc = 0;
  };
  std::array<Group, 8> groups;
};

Warpgroups::Group& GroupOf(Warp& warp) {
  if (warp.cta->async == nullptr) warp.cta->async = std::make_unique<Warpgroups>();
  return static_cast<Warpgroups*>(warp.cta->async.get())->groups[warp.index / 4];
}

Step Multiply(Warp& last, const Instruction& in) {
  const WgmmaForm& f = *static_cast<const WgmmaForm*>(in.data);
  numerics::WgmmaOperands operands;
  const uint32_t first = last.index / 4 * 4;
  for (uint32_t w = 0; w < 4; ++w) {
    Warp& warp = last.cta->warps[first + w];
    for (int r = 0; r < f.accumulators; ++r) operands.d[w][r] = warp.U32(in.list[r]);
    if (f.shape.sparse) operands.metadata[w] = warp.U32(in.operand[WgmmaForm::kMetadata]);
    for (int r = 0; f.shape.a_in_registers && r < 4; ++r) operands.a[w][r] = warp.U32(in.operand[kA + r]);
  }
  operands.b_descriptor = last.U64(in.operand[kB])[0];
  if (!f.shape.a_in_registers) operands.a_descriptor = last.U64(in.operand[kA])[0];
  if (f.has_scale) operands.scale_d = ((last.Predicate(in.operand[kScale]) & 1) != 0) != f.scale_negated;
  const Cta& cta = *last.cta;
  const auto shared = absl::MakeConstSpan(cta.shared, cta.shared_bytes);
  // A late product is made by checks/late_products.h.
  const auto bad = last.worker->launch->checks.late_async
                       ? numerics::CheckWgmmaOperands(f.shape, operands, shared)
                       : numerics::Wgmma(f.shape, operands, shared);
  if (bad) return RaiseAccess(last, 0, Reason::kIllegalAddress, {*bad, 16, "shared", false});
  return Step::kNext;
}

Step OpWgmma(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  Warpgroups::Group& group = GroupOf(warp);
  const uint32_t own = 1u << warp.index % 4;
  if ((group.done & own) != 0) {
    group.done &= ~own;
    return Step::kNext;
  }
  if (warp.index / 4 * 4 + 4 > warp.cta->warp_count || mask != kFullMask) {
    return Raise(warp, 0, Reason::kBarrierDivergence, "wgmma needs four whole warps");
  }
  if (group.arrived != 0 && group.pc != warp.pc) {
    return Raise(
        warp, 0, Reason::kBarrierDivergence,
        absl::StrCat("the warps of a warpgroup are at different wgmma instructions (warp ", warp.index, ")"));
  }
  group.pc = warp.pc;
  group.arrived |= own;
  if (group.arrived != 0xf) return Step::kWait;
  const Step step = Multiply(warp, in);
  if (step == Step::kFault) return step;
  group.arrived = 0;
  group.done = 0xf & ~own;
  for (uint32_t w = 0; w < 4; ++w) {
    Warp& other = warp.cta->warps[warp.index / 4 * 4 + w];
    if (&other != &warp) Wake(other);
  }
  return Step::kNext;
}

// m64n128k16 → 128, 16. False for another spelling.
bool ParseShape(absl::string_view word, int* n, int* k) {
  const auto number = [&word](char letter, int* value) {
    if (word.empty() || word[0] != letter) return false;
    word.remove_prefix(1);
    *value = 0;
    size_t digits = 0;
    for (; !word.empty() && word[0] >= '0' && word[0] <= '9' && digits < 4; ++digits, word.remove_prefix(1)) {
      *value = *value * 10 + (word[0] - '0');
    }
    return digits > 0;
  };
  int m = 0;
  return number('m', &m) && number('n', n) && number('k', k) && word.empty() && m == 64;
}

bool IntegerColumns(int n) { return n == 8 || n == 16 || n == 24 || (n % 16 == 0 && n >= 32); }

Operation DecodeMultiply(Form& form) {
  WgmmaForm f;
  f.shape.sparse = form.Take("sp");
  if (!form.Take("sync") || !form.Take("aligned")) return form.Malformed("it lacks .sync.aligned");
  f.shape.satfinite = form.Take("satfinite");
  const bool bits = form.Take("and");
  if (bits && !form.Take("popc")) return form.Malformed("it lacks .popc");
  int k = 0;
  if (!ParseShape(form.TakeNext(), &f.shape.n, &k)) return form.Malformed("its shape is not m64nNkK");
  const auto element = [&form](numerics::Type* out) {
    const Type type = form.TakeType();
    if (form.failed()) return false;
    *out = ElementOf(type);
    return true;
  };
  if (!element(&f.shape.d) || !element(&f.shape.a) || !element(&f.shape.b)) return nullptr;
  // Operands: D, A or its descriptor, B's descriptor, sparse ones' metadata and selector, then scale-d, and
  // for floats imm-scale-a, imm-scale-b and for 16-bit types imm-trans-a (where A is in memory), imm-trans-b.
  f.shape.a_in_registers = form.IsVector(1);
  int next = 3;
  if (f.shape.sparse) {
    form.Source(WgmmaForm::kMetadata, next++, Type::kB32);
    f.shape.selector = static_cast<int>(form.Integer(next++) & 0xff);
  }
  if (form.operands() > next) {
    const ptx::Operand& scale = form.operand(next);
    if (scale.kind == ptx::OperandKind::kInteger) {
      form.Constant(kScale, scale.value != 0 ? ~0u : 0, Width::kPredicate);
    } else {
      form.PredicateSource(kScale, next, &f.scale_negated);
    }
    f.has_scale = true;
    ++next;
  }
  const auto sign = [&](bool* negate) {
    if (form.operands() <= next) return;
    *negate = static_cast<int32_t>(form.Integer(next++)) == -1;
  };
  if (f.shape.d != numerics::Type::kS32) {
    sign(&f.shape.negate_a);
    sign(&f.shape.negate_b);
    const auto flag = [&](bool* set) {
      if (form.operands() > next) *set = form.Integer(next++) != 0;
    };
    if (!f.shape.a_in_registers) flag(&f.shape.transpose_a);
    flag(&f.shape.transpose_b);
  }
  if (form.operands() > next) return form.Malformed("it has too many operands");
  if (!numerics::IsValidWgmma(f.shape) || k != numerics::WgmmaDepth(f.shape.a) * (f.shape.sparse ? 2 : 1) ||
      (f.shape.d == numerics::Type::kS32 && !IntegerColumns(f.shape.n)) ||
      bits != (f.shape.a == numerics::Type::kB1)) {
    return form.Unsupported("not a shape and types of wgmma");
  }
  f.accumulators = numerics::WgmmaAccumulators(f.shape);
  if (form.Elements(0) != f.accumulators)
    return form.Malformed("D has another number of registers than its shape");
  const Type d = f.shape.d == numerics::Type::kF32 ? Type::kF32 : Type::kB32;
  for (int r = 0; r < f.accumulators; ++r) {
    form.Source(kAccumulators + f.accumulators + r, form.Element(0, r), d);
    form.Destination(kAccumulators + r, form.Element(0, r), d);
  }
  if (f.shape.a_in_registers) {
    if (form.Elements(1) != 4) return form.Malformed("A has to have four registers");
    for (int r = 0; r < 4; ++r) form.Source(kA + r, form.Element(1, r), Type::kB32);
  } else {
    form.Source(kA, 1, Type::kB64);
  }
  form.Source(kB, 2, Type::kB64);
  form.Data(f);
  return &OpWgmma;
}

Operation DecodeWgmma(Form& form) {
  if (form.Take("mma_async")) return DecodeMultiply(form);
  const bool waits = form.Take("wait_group");
  if (waits || form.Take("fence") || form.Take("commit_group")) {
    if (!form.Take("sync") || !form.Take("aligned")) return form.Malformed("it lacks .sync.aligned");
    if (waits) form.instruction().immediate = static_cast<int64_t>(form.Integer(0) & 0xffffffff);
    return &OpNothing;
  }
  return form.Unsupported("not an operation of wgmma");
}

}  // namespace

void RegisterWgmma(FamilyTable* table) { table->Add("wgmma", &DecodeWgmma); }

}  // namespace trun::device
