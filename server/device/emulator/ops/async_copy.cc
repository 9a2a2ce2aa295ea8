// cp.async (PTX ISA, "Data Movement and Conversion Instructions: Non-Bulk copy"). Copies are made at once,
// and groups have nothing left to wait for; with the late_async check they are made as late as the waits
// allow, so that a kernel that forgets one sees what was there before. The bulk forms are decoded in their
// own file.
#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

struct CopyData {
  uint32_t bytes = 16;
  bool to32 = true, from32 = false;
  bool has_size = false;    // operand 2: bytes to read, the rest is zero
  bool has_ignore = false;  // operand 2: a predicate, true: all is zero
  bool negated = false;
  int64_t from_offset = 0;
  int64_t to_offset = 0;
};

struct PendingCopy {
  uint8_t* to;
  const uint8_t* from;
  uint32_t size;  // the rest of `bytes` becomes zero
  uint32_t bytes;
};

// The copies of a warp that are under way: groups, oldest first; the last one is open. (Groups are a thread's
// in PTX; lanes that part between copy and commit share theirs here.)
struct PendingCopies final : WarpExtension {
  std::deque<std::vector<PendingCopy>> groups = std::deque<std::vector<PendingCopy>>(1);
};

void Make(const PendingCopy& copy) {
  if (copy.size > 0) memcpy(copy.to, copy.from, copy.size);
  memset(copy.to + copy.size, 0, copy.bytes - copy.size);
}

// Makes the copies of the oldest groups until `left` closed ones are under way.
void CompleteGroups(Warp& warp, size_t left, bool open_too) {
  if (warp.async == nullptr) return;
  auto& groups = static_cast<PendingCopies*>(warp.async.get())->groups;
  while (groups.size() > left + 1) {
    for (const PendingCopy& copy : groups.front()) Make(copy);
    groups.pop_front();
  }
  if (!open_too) return;
  for (const PendingCopy& copy : groups.back()) Make(copy);
  groups.back().clear();
}

Step RunCommit(Warp& warp, const Instruction&, uint32_t) {
  if (warp.async != nullptr) static_cast<PendingCopies*>(warp.async.get())->groups.emplace_back();
  return Step::kNext;
}

Step RunWaitGroup(Warp& warp, const Instruction& in, uint32_t) {
  CompleteGroups(warp, static_cast<size_t>(in.immediate), false);
  return Step::kNext;
}

Step RunWaitAll(Warp& warp, const Instruction&, uint32_t) {
  CompleteGroups(warp, 0, true);
  return Step::kNext;
}

Step RunCopy(Warp& warp, const Instruction& in, uint32_t mask) {
  const CopyData& data = *static_cast<const CopyData*>(in.data);
  Cta& cta = *warp.cta;
  std::vector<PendingCopy>* late = nullptr;
  if (warp.worker->launch->checks.late_async) {
    if (warp.async == nullptr) warp.async = std::make_unique<PendingCopies>();
    late = &static_cast<PendingCopies*>(warp.async.get())->groups.back();
  }
  uint32_t ignored = 0;
  if (data.has_ignore)
    ignored = data.negated ? ~warp.Predicate(in.operand[2]) : warp.Predicate(in.operand[2]);
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
  const AllocationRange* range = all && misaligned == 0 && late == nullptr
                                     ? warp.worker->FindRange(in, low, high + data.bytes)
                                     : nullptr;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    uint64_t to = data.to32 ? warp.U32(in.operand[0])[i] : warp.U64(in.operand[0])[i];
    to += static_cast<uint64_t>(data.to_offset);
    if (data.to32) to &= 0xffffffff;
    uint8_t* destination = nullptr;
    if ((to & (data.bytes - 1)) == 0 && to + data.bytes <= cta.unwatched_shared_bytes) {
      destination = cta.shared + to;
    } else {
      destination = Resolve(warp, i, Space::kShared, to, data.bytes, data.bytes, true);
      if (destination == nullptr) return Step::kFault;
    }
    if (range != nullptr) {
      const uint8_t* const source = range->host + (sources[i] - range->begin);
      if (data.bytes == 16) {
        memcpy(destination, source, 16);
      } else {
        memcpy(destination, source, data.bytes);
      }
      continue;
    }
    uint32_t size = data.bytes;
    if (data.has_size) size = std::min(warp.U32(in.operand[2])[i], data.bytes);
    if ((ignored >> i & 1) != 0) size = 0;
    const uint8_t* source = nullptr;
    if (size > 0) {
      source = Resolve(warp, i, Space::kGlobal, sources[i], size, data.bytes, false);
      if (source == nullptr) return Step::kFault;
    }
    const PendingCopy copy = {destination, source, size, data.bytes};
    if (late != nullptr) {
      late->push_back(copy);
    } else {
      Make(copy);
    }
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
  if (form.Take("commit_group")) return &RunCommit;
  if (form.Take("wait_all")) return &RunWaitAll;
  if (form.Take("wait_group")) {
    form.instruction().immediate = static_cast<int64_t>(form.Integer(0) & 0xffffffff);
    return &RunWaitGroup;
  }
  CopyData data;
  if (!form.Take("ca") && !form.Take("cg")) return form.Malformed("cp.async needs .ca or .cg");
  if (!form.Take("shared") && !form.Take("shared::cta"))
    return form.Malformed("cp.async goes to shared memory");
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

void CompleteAsyncCopies(Warp& warp) { CompleteGroups(warp, 0, true); }

void RegisterAsyncCopy(FamilyTable* table) { table->Add("cp", &Cp); }

}  // namespace trun::device
