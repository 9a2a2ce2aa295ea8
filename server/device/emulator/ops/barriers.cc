// bar, barrier, barrier.cluster, bar.warp.sync, nanosleep and scheduling hints (PTX ISA, "Parallel
// Synchronization and Communication Instructions").
#include "absl/strings/str_cat.h"
#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

enum class Reduction : uint8_t { kNone, kPopc, kAnd, kOr };

struct BarrierData {
  bool arrive = false;
  bool has_count = false;
  bool negated = false;
  Reduction reduction = Reduction::kNone;
};

// Operands: 0 the barrier, 1 the thread count, 2 the destination and 3 the source of a reduction.
Step RunBarrier(Warp& warp, const Instruction& in, uint32_t mask) {
  const BarrierData& data = *static_cast<const BarrierData*>(in.data);
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  Cta& cta = *warp.cta;
  const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(mask));
  const uint32_t id = warp.U32(in.operand[0])[lane];
  if (id >= cta.barriers.size()) {
    return Raise(warp, lane, Reason::kBarrierDivergence, absl::StrCat("there is no barrier ", id));
  }
  Barrier& barrier = cta.barriers[id];
  if (warp.barrier < 0) {
    uint32_t count = cta.warp_count * 32;
    if (data.has_count) count = warp.U32(in.operand[1])[lane];
    if (count == 0 || count % 32 != 0 || count > cta.warp_count * 32) {
      return Raise(warp, lane, Reason::kBarrierDivergence,
                   absl::StrCat("a barrier for ", count, " threads in a block of ", cta.threads));
    }
    if (barrier.expected != 0 && barrier.expected != count) {
      return Raise(warp, lane, Reason::kBarrierDivergence,
                   absl::StrCat("barrier ", id, " is for ", barrier.expected, " threads here and for ", count,
                                " elsewhere"));
    }
    if (barrier.arrived == 0) {
      barrier.reduction_popc = 0;
      barrier.reduction_and = true;
      barrier.reduction_or = false;
    }
    barrier.expected = count;
    barrier.arrived += 32;
    if (data.reduction != Reduction::kNone) {
      const uint32_t votes =
          (data.negated ? ~warp.Predicate(in.operand[3]) : warp.Predicate(in.operand[3])) & mask;
      barrier.reduction_popc += static_cast<uint32_t>(__builtin_popcount(votes));
      barrier.reduction_and = barrier.reduction_and && votes == mask;
      barrier.reduction_or = barrier.reduction_or || votes != 0;
    }
    if (barrier.arrived < barrier.expected) {
      if (data.arrive) return Step::kNext;
      warp.barrier = static_cast<int32_t>(id);
      warp.barrier_generation = barrier.generation;
      return Step::kWait;
    }
    if (barrier.arrived > barrier.expected) {
      return Raise(warp, lane, Reason::kBarrierDivergence,
                   absl::StrCat("more threads than barrier ", id, " is for"));
    }
    ++barrier.generation;
    barrier.arrived = 0;
    barrier.expected = 0;
    barrier.result_popc = barrier.reduction_popc;
    barrier.result_and = barrier.reduction_and;
    barrier.result_or = barrier.reduction_or;
    for (uint32_t w = 0; w < cta.warp_count; ++w) {
      if (cta.warps[w].barrier == static_cast<int32_t>(id)) Wake(cta.warps[w]);
    }
  } else if (warp.barrier_generation == barrier.generation) {
    return Step::kWait;
  }
  warp.barrier = -1;
  if (data.reduction == Reduction::kPopc) {
    for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
      warp.U32(in.operand[2])[__builtin_ctz(lanes)] = barrier.result_popc;
    }
  } else if (data.reduction != Reduction::kNone) {
    const bool result = data.reduction == Reduction::kAnd ? barrier.result_and : barrier.result_or;
    uint32_t& p = warp.Predicate(in.operand[2]);
    p = (p & ~mask) | (result ? mask : 0);
  }
  return Step::kNext;
}

Step RunWarpSync(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t members = warp.U32(in.operand[0])[__builtin_ctz(mask)];
  return Converge(warp, mask, members) == 0 ? Step::kWait : Step::kNext;
}

// Threads of every CTA of the cluster arrive once per phase.
Step RunClusterArrive(Warp& warp, const Instruction&, uint32_t mask) {
  Cta& cta = *warp.cta;
  const uint32_t size = cta.cluster_size;
  Cta* self = &cta;
  Cta** members = cta.cluster != nullptr ? cta.cluster : &self;
  cta.cluster_arrivals += static_cast<uint32_t>(__builtin_popcount(mask));
  uint64_t arrived = 0;
  uint64_t expected = 0;
  for (uint32_t r = 0; r < size; ++r) {
    arrived += members[r]->cluster_arrivals;
    expected += members[r]->threads;
  }
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    warp.cluster_phase[__builtin_ctz(lanes)] = cta.cluster_generation;
  }
  if (arrived < expected) return Step::kNext;
  for (uint32_t r = 0; r < size; ++r) {
    members[r]->cluster_arrivals = 0;
    ++members[r]->cluster_generation;
    for (uint32_t w = 0; w < members[r]->warp_count; ++w) {
      if (members[r]->warps[w].waits_outside) Wake(members[r]->warps[w]);
    }
  }
  return Step::kNext;
}

Step RunClusterWait(Warp& warp, const Instruction&, uint32_t mask) {
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    if (warp.cluster_phase[__builtin_ctz(lanes)] == warp.cta->cluster_generation) {
      warp.waits_outside = true;
      return Step::kWait;
    }
  }
  return Step::kNext;
}

Operation ClusterBarrier(Form& form) {
  const bool arrive = form.Take("arrive");
  if (!arrive && !form.Take("wait")) return form.Malformed("barrier.cluster needs .arrive or .wait");
  for (const char* word : {"release", "acquire", "relaxed", "aligned"}) form.Take(word);
  return arrive ? &RunClusterArrive : &RunClusterWait;
}

Operation Bar(Form& form) {
  if (form.Take("cluster")) return ClusterBarrier(form);
  if (form.Take("warp")) {
    if (!form.Take("sync")) return form.Malformed("bar.warp needs .sync");
    form.Source(0, 0, Type::kB32);
    return &RunWarpSync;
  }
  form.Take("cta");
  BarrierData data;
  data.arrive = form.Take("arrive");
  int count_operand = 1;
  if (form.Take("red")) {
    data.reduction = form.Take("popc")  ? Reduction::kPopc
                     : form.Take("and") ? Reduction::kAnd
                     : form.Take("or")  ? Reduction::kOr
                                        : Reduction::kNone;
    if (data.reduction == Reduction::kNone) return form.Malformed("bar.red needs an operation");
    form.Take("aligned");
    form.TakeType();
    form.Destination(2, 0, data.reduction == Reduction::kPopc ? Type::kU32 : Type::kPred);
    form.Source(0, 1, Type::kU32);
    form.PredicateSource(3, form.operands() - 1, &data.negated);
    count_operand = 2;
    data.has_count = form.operands() == 4;
    form.EarlyDestinations();
  } else {
    if (!data.arrive && !form.Take("sync")) return form.Malformed("a barrier needs .sync, .arrive or .red");
    form.Take("aligned");
    form.Source(0, 0, Type::kU32);
    data.has_count = form.operands() == 2;
  }
  if (data.has_count) form.Source(1, count_operand, Type::kU32);
  if (data.arrive && !data.has_count) return form.Malformed("an arrival needs a thread count");
  form.Data(data);
  return &RunBarrier;
}

Step RunPause(Warp& warp, const Instruction&, uint32_t) {
  warp.clock_reads += 64;
  return Step::kYield;
}

Operation Nanosleep(Form& form) {
  while (!form.Peek().empty()) form.TakeNext();
  return &RunPause;
}

Operation Nothing(Form& form) {
  while (!form.Peek().empty()) form.TakeNext();
  return &OpNothing;
}

}  // namespace

void RegisterBarriers(FamilyTable* table) {
  table->Add("bar", &Bar);
  table->Add("barrier", &Bar);
  table->Add("nanosleep", &Nanosleep);
  // Registers are not scarce here, launches of one stream run one after another, breakpoints are the
  // debugger's.
  table->Add("setmaxnreg", &Nothing);
  table->Add("griddepcontrol", &Nothing);
  table->Add("pmevent", &Nothing);
  table->Add("brkpt", &Nothing);
}

}  // namespace trun::device
