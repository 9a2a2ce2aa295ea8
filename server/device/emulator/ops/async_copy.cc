// cp.async (PTX ISA, "Data Movement and Conversion Instructions: Non-Bulk copy"). Copies are made at once; groups have
// nothing left to wait for. The bulk forms are decoded in their own file.
#include <algorithm>
#include <cstring>

#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

struct CopyData {
  uint32_t bytes = 16;
  bool to32 = true, from32 = false;
  bool has_size = false;     // operand 2: bytes to read, the rest is zero
  bool has_ignore = false;   // operand 2: a predicate, true: all is zero
  bool negated = false;
  int64_t from_offset = 0;
  int64_t to_offset = 0;
};

Step RunCopy(Warp& warp, const Instruction& in, uint32_t mask) {
  const CopyData& data = *static_cast<const CopyData*>(in.data);
  Cta& cta = *warp.cta;
  uint32_t ignored = 0;
  if (data.has_ignore) ignored = data.negated ? ~warp.Predicate(in.operand[2]) : warp.Predicate(in.operand[2]);
  uint64_t sources[32];
  uint64_t low = ~uint64_t{0};
  uint64_t high = 0;
  uint64_t misaligned = 0;
  bool all = (ignored & mask) == 0;  // every copy is whole
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    sources[i] = (data.from32 ? warp.U32(in.operand[1])[i] : warp.U64(in.operand[1])[i]) +
                 static_cast<uint64_t>(data.from_offset);
    low = std::min(low, sources[i]);
    high = std::max(high, sources[i]);
    misaligned |= sources[i] & (data.bytes - 1);
    all = all && (!data.has_size || warp.U32(in.operand[2])[i] == data.bytes);
  }
  const AllocationRange* range =
      all && misaligned == 0 ? warp.worker->FindRange(in, low, high + data.bytes) : nullptr;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    uint64_t to = data.to32 ? warp.U32(in.operand[0])[i] : warp.U64(in.operand[0])[i];
    to += static_cast<uint64_t>(data.to_offset);
    if (data.to32) to &= 0xffffffff;
    uint8_t* destination = nullptr;
    if ((to & (data.bytes - 1)) == 0 && to + data.bytes <= cta.shared_bytes) {
      destination = cta.shared + to;
    } else {
      destination = Resolve(warp, i, Space::kShared, to, data.bytes, data.bytes, true);
      if (destination == nullptr) return Step::kFault;
    }
    if (range != nullptr) {
      memcpy(destination, range->host + (sources[i] - range->begin), data.bytes);
      continue;
    }
    uint32_t size = data.bytes;
    if (data.has_size) size = std::min(warp.U32(in.operand[2])[i], data.bytes);
    if ((ignored >> i & 1) != 0) size = 0;
    if (size > 0) {
      const uint8_t* source = Resolve(warp, i, Space::kGlobal, sources[i], size, data.bytes, false);
      if (source == nullptr) return Step::kFault;
      memcpy(destination, source, size);
    }
    memset(destination + size, 0, data.bytes - size);
  }
  return Step::kNext;
}

Operation Cp(Form& form) {
  if (form.Take("reduce")) {
    form.Take("async");
    return DecodeBulkCopy(form, true);
  }
  if (!form.Take("async")) return form.Unsupported("this kind of copy");
  if (form.Peek().substr(0, 4) == "bulk") return DecodeBulkCopy(form, false);
  if (form.Peek() == "mbarrier::arrive" || form.Peek() == "mbarrier") return DecodeCopyArrive(form);
  if (form.Take("commit_group") || form.Take("wait_all")) return &OpNothing;
  if (form.Take("wait_group")) {
    form.Integer(0);
    return &OpNothing;
  }
  CopyData data;
  if (!form.Take("ca") && !form.Take("cg")) return form.Malformed("cp.async needs .ca or .cg");
  if (!form.Take("shared") && !form.Take("shared::cta")) return form.Malformed("cp.async goes to shared memory");
  if (!form.Take("global")) return form.Malformed("cp.async comes from global memory");
  const bool has_policy = form.Take("L2::cache_hint");
  form.TakeCacheHints();
  const int operands = form.operands() - (has_policy ? 1 : 0);
  if (operands != 3 && operands != 4) return form.Malformed("a wrong number of operands");
  const uint64_t bytes = form.Integer(2);
  if (bytes != 4 && bytes != 8 && bytes != 16) return form.Malformed("it copies 4, 8 or 16 bytes");
  data.bytes = static_cast<uint32_t>(bytes);
  data.to32 = form.Address(0, 0).width == Width::k32;
  data.to_offset = form.instruction().immediate;
  data.from32 = form.Address(1, 1).width == Width::k32;
  data.from_offset = form.instruction().immediate;
  if (operands == 4) {
    const ptx::Operand& last = form.operand(3);
    if (form.IsRegister(last) && form.RegisterWidth(last) == Width::kPredicate) {
      data.has_ignore = true;
      form.PredicateSource(2, 3, &data.negated);
    } else {
      data.has_size = true;
      form.Source(2, 3, Type::kU32);
    }
  }
  form.Data(data);
  return &RunCopy;
}

}  // namespace

void RegisterAsyncCopy(FamilyTable* table) { table->Add("cp", &Cp); }

}  // namespace trun::device
