// How cp.async.bulk, cp.async.bulk.tensor and their reductions are written.
#include <utility>

#include "server/device/emulator/async/bulk_copy_form.h"
#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

using CopyForm = BulkCopyForm;

constexpr int kTarget = CopyForm::kTarget, kSource = CopyForm::kSource, kBarrier = CopyForm::kBarrier,
              kSize = CopyForm::kSize, kMask = CopyForm::kMask, kList = CopyForm::kList;

// The two spaces, target first; everything else has been taken.
bool TakeSpaces(Form& form, CopyForm* f) {
  const auto space = [](absl::string_view word, Space* out) {
    if (word == "global")
      *out = Space::kGlobal;
    else if (word == "shared::cta")
      *out = Space::kShared;
    else if (word == "shared::cluster")
      *out = Space::kSharedCluster;
    else
      return false;
    return true;
  };
  if (!space(form.TakeNext(), &f->target_space) || !space(form.TakeNext(), &f->source_space)) {
    form.Malformed("it does not name two state spaces");
    return false;
  }
  f->to_global = f->target_space == Space::kGlobal;
  if (f->to_global == (f->source_space == Space::kGlobal)) {
    if (f->to_global || f->source_space != Space::kShared)
      form.Malformed("it does not copy between these spaces");
  }
  return true;
}

// .mbarrier::complete_tx::bytes, .bulk_group, .multicast::cluster, hints.
void TakeCompletion(Form& form, CopyForm* f) {
  f->has_barrier = form.Take("mbarrier::complete_tx::bytes");
  if (!f->has_barrier && !form.Take("bulk_group")) form.Malformed("it names no completion mechanism");
  f->multicast = form.Take("multicast::cluster");
  form.Take("cta_group::1");
  form.TakeCacheHints();
}

ReduceOp TakeReduceOp(Form& form) {
  static constexpr std::pair<const char*, ReduceOp> kOps[] = {
      {"add", ReduceOp::kAdd}, {"min", ReduceOp::kMin}, {"max", ReduceOp::kMax}, {"inc", ReduceOp::kInc},
      {"dec", ReduceOp::kDec}, {"and", ReduceOp::kAnd}, {"or", ReduceOp::kOr},   {"xor", ReduceOp::kXor}};
  for (const auto& [name, op] : kOps) {
    if (form.Take(name)) return op;
  }
  form.Malformed("it names no reduction");
  return ReduceOp::kNone;
}

// The operand [map, {x, y, …}].
void DecodeCoordinates(Form& form, int i, CopyForm* f) {
  f->map = DecodeAddress(form, kSource, i);
  const ptx::Operand& operand = form.Checked(i);
  const uint32_t expected = f->rows ? 5 : f->rank;
  uint32_t count = 0;
  for (const ptx::Operand& element : operand.elements) {
    if (element.kind == ptx::OperandKind::kVector) {
      for (const ptx::Operand& coordinate : element.elements) {
        form.Source(kList + static_cast<int>(count++), coordinate, Type::kB32);
      }
    } else {
      form.Source(kList + static_cast<int>(count++), element, Type::kB32);
    }
  }
  f->coordinates = count;
  if (count != expected) form.Malformed("it has another number of coordinates than dimensions");
}

Operation DecodeTensor(Form& form, bool reduce) {
  CopyForm f;
  for (uint32_t rank = 1; rank <= 5; ++rank) {
    const char name[3] = {static_cast<char>('0' + rank), 'd', 0};
    if (form.Take(name)) f.rank = rank;
  }
  if (f.rank == 0) return form.Malformed("it names no dimension");
  form.Take("tile");
  f.rows = form.Take("tile::gather4") || form.Take("tile::scatter4");
  const bool no_offsets = form.Take("im2col_no_offs");
  f.im2col = form.Take("im2col") || no_offsets;
  if (f.im2col && f.rank < 3) return form.Malformed("im2col needs three dimensions");
  if (f.rows && f.rank != 2) return form.Malformed("gather4 and scatter4 need two dimensions");
  if (reduce) {
    f.reduce = TakeReduceOp(form);
    form.CrossCta();
  }
  TakeCompletion(form, &f);
  if (!TakeSpaces(form, &f)) return nullptr;
  if (f.to_global) {
    DecodeCoordinates(form, 0, &f);
    f.source = DecodeAddress(form, kTarget, 1);
  } else {
    if (!f.has_barrier) return form.Malformed("a load needs an mbarrier");
    f.target = DecodeAddress(form, kTarget, 0);
    DecodeCoordinates(form, 1, &f);
    f.barrier = DecodeAddress(form, kBarrier, 2);
    int next = 3;
    if (f.im2col && !no_offsets) {
      f.offsets = static_cast<uint32_t>(form.Elements(next));
      if (f.offsets != f.rank - 2) return form.Malformed("it has another number of im2col offsets");
      for (uint32_t i = 0; i < f.offsets; ++i) {
        form.Source(kList + static_cast<int>(f.coordinates + i), form.Element(next, static_cast<int>(i)),
                    Type::kB16);
      }
      ++next;
    }
    if (f.multicast) form.Source(kMask, next, Type::kB16);
  }
  form.Data(f);
  return &OpTensorCopy;
}

Operation DecodePlain(Form& form, bool reduce) {
  CopyForm f;
  if (reduce) {
    f.reduce = TakeReduceOp(form);
    form.Take("noftz");
    const Type type = form.TakeType();
    if (form.failed()) return nullptr;
    switch (type) {
      case Type::kB32:
        f.type = numerics::Type::kU32;
        break;
      case Type::kB64:
        f.type = numerics::Type::kU64;
        break;
      case Type::kU32:
      case Type::kS32:
      case Type::kU64:
      case Type::kS64:
      case Type::kF16:
      case Type::kBf16:
      case Type::kF32:
      case Type::kF64:
        f.type = ElementOf(type);
        break;
      default:
        return form.Unsupported("a type that bulk reductions do not have");
    }
    const bool is_float =
        type == Type::kF16 || type == Type::kBf16 || type == Type::kF32 || type == Type::kF64;
    if (is_float && f.reduce != ReduceOp::kAdd && f.reduce != ReduceOp::kMin && f.reduce != ReduceOp::kMax) {
      return form.Malformed("a reduction that floats do not have");
    }
  }
  TakeCompletion(form, &f);
  if (!TakeSpaces(form, &f)) return nullptr;
  if (reduce && f.to_global) form.CrossCta();
  f.target = DecodeAddress(form, kTarget, 0);
  f.source = DecodeAddress(form, kSource, 1);
  form.Source(kSize, 2, Type::kB32);
  if (!f.to_global) {
    if (!f.has_barrier) return form.Malformed("a copy to shared memory needs an mbarrier");
    f.barrier = DecodeAddress(form, kBarrier, 3);
    if (f.multicast) form.Source(kMask, 4, Type::kB16);
  }
  form.Data(f);
  return &OpBulkCopy;
}

// A prefetch into L2: every word is taken, nothing happens.
Operation DecodePrefetch(Form& form) {
  while (!form.Peek().empty()) form.TakeNext();
  return &OpNothing;
}

}  // namespace

Operation DecodeBulkCopy(Form& form, bool reduce) {
  if (!form.Take("bulk")) return form.Malformed("it is no bulk copy");
  if (form.Take("commit_group")) return &OpBulkCommitGroup;
  if (form.Take("wait_group")) {
    BulkWaitForm f;
    f.reads_only = form.Take("read");
    f.groups = static_cast<uint32_t>(form.Integer(0));
    form.instruction().immediate = f.groups;
    form.Data(f);
    return &OpBulkWaitGroup;
  }
  if (form.Take("prefetch")) return DecodePrefetch(form);
  return form.Take("tensor") ? DecodeTensor(form, reduce) : DecodePlain(form, reduce);
}

}  // namespace trun::device
