#include "server/device/emulator/checks/race_check.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/async/mbarrier.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/numerics/wgmma.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {
namespace {

// The number of the CTA's cluster in the grid; of the CTA where there are none.
uint64_t ClusterOf(const Cta& cta) {
  const LaunchDimensions& d = cta.worker->launch->dimensions;
  return cta.index[0] / d.cluster[0] +
         d.grid[0] * (cta.index[1] / d.cluster[1] + uint64_t{d.grid[1]} * (cta.index[2] / d.cluster[2]));
}

}  // namespace

RaceCheck::RaceCheck(const Program& program, bool all) : program_(program), all_(all) {
  rules_.reserve(program.code.size());
  for (uint32_t pc = 0; pc < program.code.size(); ++pc) {
    rules_.push_back(RuleOf(program, pc));
    scopes_[static_cast<size_t>(rules_.back().scope)] = true;
  }
  agents_.emplace_back();  // 0 is nobody
}

uint32_t RaceCheck::NewAgent(const Cta& cta, uint32_t warp, const char* name) {
  agents_.push_back({cta.index, ClusterOf(cta), warp * 32, name});
  return static_cast<uint32_t>(agents_.size() - 1);
}

RaceCheck::Pipe& RaceCheck::Use(const Warp& warp, Pipe* pipe, const char* name) {
  if (pipe->agent == 0) pipe->agent = NewAgent(*warp.cta, warp.index, name);
  return *pipe;
}

void RaceCheck::CtaStarted(Cta& cta) {
  auto state = std::make_unique<CtaState>();
  state->warps.resize(cta.warp_count);
  for (uint32_t w = 0; w < cta.warp_count; ++w) {
    WarpState& warp = state->warps[w];
    warp.agent = NewAgent(cta, w, nullptr);
    warp.clock.Raise(warp.agent, warp.step);
  }
  state->shared.resize((cta.shared_bytes + 3) / 4);
  ctas_[&cta] = std::move(state);
}

bool RaceCheck::Before(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  Warp& warp = step.warp;
  if (rule.kind == Kind::kBarrier) {
    was_waiting_ = warp.barrier >= 0;
    const OperandRef* id = step.Source(0);
    barrier_ = id == nullptr ? 0 : warp.U32(step.info(*id).offset)[__builtin_ctz(step.mask | 1u << 31)];
    if (barrier_ < 16) generation_ = warp.cta->barriers[barrier_].generation;
  }
  if (rule.kind == Kind::kClusterArrive) generation_ = warp.cta->cluster_generation;
  WarpState& state = StateOf(warp);
  if (rule.kind == Kind::kExit && !Exit(step)) return false;
  if (state.in_flight.empty() || rule.kind == Kind::kWgmma || rule.kind == Kind::kWgmmaWait) return true;
  // Registers that a product has still to write, or may still read.
  const Pipe& products = StateOf(*warp.cta).warps[warp.index / 4 * 4].products;
  uint32_t moved = 0;
  for (const OperandRef& ref : step.operands()) {
    if (const auto read = state.read_in_flight.find(ref.value);
        ref.is_definition && read != state.read_in_flight.end() &&
        state.clock.Get(products.agent) < read->second) {
      RaiseWithOther(warp, static_cast<uint32_t>(__builtin_ctz(step.mask | 1u << 31)), Reason::kRace,
                     absl::StrCat("a write of ", step.info(ref).name,
                                  ", which a wgmma under way may still read: wgmma.wait_group is missing"),
                     nullptr, nullptr);
      return false;
    }
    const auto it = state.in_flight.find(ref.value);
    if (it == state.in_flight.end() || state.clock.Get(products.agent) >= it->second) continue;
    if (rule.kind == Kind::kMove && !ref.is_definition) {
      moved = it->second;
      continue;
    }
    if (ref.is_definition && rule.kind == Kind::kMove) continue;
    RaiseWithOther(warp, static_cast<uint32_t>(__builtin_ctz(step.mask | 1u << 31)), Reason::kRace,
                   absl::StrCat(ref.is_definition ? "a write of " : "a read of ", step.info(ref).name,
                                ", which a wgmma under way has still to write: wgmma.wait_group is missing"),
                   nullptr, nullptr);
    return false;
  }
  if (moved != 0) {
    for (const OperandRef& ref : step.operands()) {
      if (ref.is_definition) state.in_flight[ref.value] = moved;
    }
  }
  return true;
}

// Shared memory ends with the program, and nobody but its thread can wait for a bulk copy that reads it.
bool RaceCheck::Exit(const WatchedStep& step) {
  WarpState& state = StateOf(step.warp);
  for (uint32_t lanes = step.mask; lanes != 0; lanes &= lanes - 1) {
    const auto lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    const auto found = state.stores.find(lane);
    if (found == state.stores.end() || state.clock.Get(state.bulk_reads.agent) >= found->second.step)
      continue;
    const OtherSite other = {"the copy", found->second.pc, step.warp.cta->index, ThreadOf(step.warp, lane)};
    RaiseWithOther(step.warp, lane, Reason::kRace,
                   "the thread ends while its bulk copy may still read the program's shared memory: "
                   "cp.async.bulk.wait_group is missing",
                   nullptr, &other);
    return false;
  }
  return true;
}

bool RaceCheck::After(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  WarpState& state = StateOf(step.warp);
  switch (rule.kind) {
    case Kind::kOther:
    case Kind::kMove:
    case Kind::kExit:
      return true;
    case Kind::kAccess:
    case Kind::kAtomic:
      return step.result == Step::kWait || Access(step, rule);
    case Kind::kFence:
      Fence(&state, rule);
      return true;
    case Kind::kProxyFence:
      for (size_t p = 0; p < kProxies; ++p) {
        if (rule.fences[p]) state.clock.fenced[p].Join(state.clock.seen);
      }
      Tick(state);
      return true;
    case Kind::kWarpBarrier:
      Tick(state);
      state.lanes_since = state.step;
      return true;
    case Kind::kBarrier:
      Barrier(step, rule);
      return true;
    case Kind::kClusterArrive:
    case Kind::kClusterWait:
      Cluster(step, rule);
      return true;
    case Kind::kMbarrierInit:
    case Kind::kMbarrierArrive:
    case Kind::kMbarrierWait:
      Mbarrier(step, rule);
      return true;
    case Kind::kCopy:
      return Copy(step);
    case Kind::kCopyCommit:
      state.copies.groups.push_back(state.copies.step);
      return true;
    case Kind::kCopyWait:
      Wait(state, state.copies, rule);
      return true;
    case Kind::kCopyArrive:
      for (const NotedAccess& access : step.accesses) {
        Arrive(access.host, &state.clock, &state.copies);
      }
      Tick(state);
      return true;
    case Kind::kBulk:
      return Bulk(step);
    case Kind::kBulkCommit:
      state.bulk_reads.groups.push_back(state.bulk_reads.step);
      state.bulk_writes.groups.push_back(state.bulk_writes.step);
      return true;
    case Kind::kBulkWait:
      Wait(state, state.bulk_reads, rule);
      if (!rule.reads_only) Wait(state, state.bulk_writes, rule);
      return true;
    case Kind::kWgmma:
      return Wgmma(step);
    case Kind::kWgmmaCommit:
      state.products.groups.push_back(StateOf(*step.warp.cta).warps[step.warp.index / 4 * 4].products.step);
      return true;
    case Kind::kWgmmaWait: {
      const Pipe& leader = StateOf(*step.warp.cta).warps[step.warp.index / 4 * 4].products;
      std::deque<uint32_t>& groups = state.products.groups;
      while (groups.size() > rule.groups) {
        state.clock.Raise(leader.agent, groups.front());
        groups.pop_front();
      }
      const uint32_t done = state.clock.Get(leader.agent);
      for (auto* registers : {&state.in_flight, &state.read_in_flight}) {
        for (auto it = registers->begin(); it != registers->end();) {
          const auto here = it++;
          if (here->second <= done) registers->erase(here);
        }
      }
      return true;
    }
  }
  return true;
}

void RaceCheck::Fence(WarpState* state, const Rule& rule) {
  const auto reached = static_cast<size_t>(rule.scope) + 1;
  for (size_t s = 0; s < reached; ++s) state->clock.Join(state->seen_relaxed[s]);
  for (size_t s = 0; s < reached; ++s) state->released[s] = state->clock;
  Tick(*state);
}

void RaceCheck::Wait(WarpState& state, Pipe& pipe, const Rule& rule) {
  const uint32_t left = rule.all_groups ? 0 : rule.groups;
  if (rule.all_groups && pipe.agent != 0) state.clock.Raise(pipe.agent, pipe.step);
  while (pipe.groups.size() > left) {
    if (pipe.agent != 0) state.clock.Raise(pipe.agent, pipe.groups.front());
    pipe.groups.pop_front();
  }
}

void RaceCheck::Barrier(const WatchedStep& step, const Rule& rule) {
  Warp& warp = step.warp;
  if (barrier_ >= 16) return;
  WarpState& state = StateOf(warp);
  BarrierState& barrier = StateOf(*warp.cta).barriers[barrier_];
  if (!was_waiting_ && (warp.barrier >= 0 || step.result == Step::kNext)) {
    barrier.arrived.Join(state.clock);
    Tick(state);
  }
  if (warp.cta->barriers[barrier_].generation != generation_) {
    barrier.completed = std::move(barrier.arrived);
    barrier.arrived.Clear();
  }
  if (step.result == Step::kNext && !rule.arrives_only) {
    state.clock.Join(barrier.completed);
    state.lanes_since = state.step;
  }
}

void RaceCheck::Cluster(const WatchedStep& step, const Rule& rule) {
  WarpState& state = StateOf(step.warp);
  BarrierState& barrier = clusters_[ClusterOf(*step.warp.cta)];
  if (rule.kind == Kind::kClusterArrive) {
    barrier.arrived.Join(rule.relaxed ? state.released[static_cast<size_t>(Scope::kCluster)] : state.clock);
    Tick(state);
    if (step.warp.cta->cluster_generation != generation_) {
      barrier.completed = std::move(barrier.arrived);
      barrier.arrived.Clear();
    }
  } else if (step.result == Step::kNext) {
    state.clock.Join(barrier.completed);
    state.lanes_since = state.step;
  }
}

RaceCheck::MbarrierState& RaceCheck::Arrive(const uint8_t* word, const Knowledge* clock, const Pipe* pipe) {
  MbarrierState& state = mbarriers_[word];
  if (clock != nullptr) state.arrived.Join(*clock);
  if (pipe != nullptr && pipe->agent != 0) state.arrived.Raise(pipe->agent, pipe->step);
  uint64_t bits = 0;
  std::memcpy(&bits, word, sizeof bits);
  const bool parity = trun::device::Mbarrier::Decode(bits).parity;
  if (parity != state.parity) {
    state.completed[state.parity ? 1 : 0] = std::move(state.arrived);
    state.arrived.Clear();
    state.parity = parity;
  }
  return state;
}

void RaceCheck::Mbarrier(const WatchedStep& step, const Rule& rule) {
  WarpState& state = StateOf(step.warp);
  uint32_t ended = 0;
  const OperandRef* phase = step.Source(2);
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition && ref.slot == 0 && rule.kind == Kind::kMbarrierWait) {
      ended = step.warp.Predicate(step.info(ref).offset);
    }
  }
  for (const NotedAccess& access : step.accesses) {
    if (rule.kind == Kind::kMbarrierInit) {
      mbarriers_.erase(access.host);
      continue;
    }
    const bool arrives = rule.kind == Kind::kMbarrierArrive;
    const MbarrierState& mbarrier = Arrive(access.host, arrives ? &state.clock : nullptr, nullptr);
    if (arrives || (ended >> access.lane & 1) == 0 || phase == nullptr) continue;
    const uint32_t at = step.info(*phase).offset;
    const bool parity = rule.parity ? (step.warp.U32(at)[access.lane] & 1) != 0
                                    : trun::device::Mbarrier::Decode(step.warp.U64(at)[access.lane]).parity;
    state.clock.Join(mbarrier.completed[parity ? 1 : 0]);
    Tick(state);
    state.lanes_since = state.step;
  }
  if (rule.kind == Kind::kMbarrierArrive) Tick(state);
}

}  // namespace trun::device
