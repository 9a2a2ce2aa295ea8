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

using R = AccessRecord;

const OperandRef* SourceAt(const WatchedStep& step, uint32_t slot) {
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition && ref.slot == slot) return &ref;
  }
  return nullptr;
}

// Values of the cluster's barrier and of places in shared memory go away with the CTAs; their keys may come
// again with other CTAs, which then know a little too much.
const void* ClusterOf(const Cta& cta) {
  return cta.cluster != nullptr ? static_cast<const void*>(cta.cluster) : &cta;
}

}  // namespace

RaceCheck::RaceCheck(const Program& program, bool all) : program_(program), all_(all) {
  rules_.reserve(program.code.size());
  for (uint32_t pc = 0; pc < program.code.size(); ++pc) rules_.push_back(RuleOf(program, pc));
  agents_.emplace_back();  // 0 is nobody
}

uint32_t RaceCheck::NewAgent(const Warp& warp, const char* name) {
  agents_.push_back({warp.cta->index, warp.index * 32, name});
  return static_cast<uint32_t>(agents_.size() - 1);
}

RaceCheck::Pipe& RaceCheck::Use(const Warp& warp, Pipe* pipe, const char* name) {
  if (pipe->agent == 0) pipe->agent = NewAgent(warp, name);
  return *pipe;
}

void RaceCheck::CtaStarted(Cta& cta) {
  auto state = std::make_unique<CtaState>();
  state->warps.resize(cta.warp_count);
  for (uint32_t w = 0; w < cta.warp_count; ++w) {
    WarpState& warp = state->warps[w];
    agents_.push_back({cta.index, w * 32, nullptr});
    warp.agent = static_cast<uint32_t>(agents_.size() - 1);
    warp.clock.Raise(warp.agent, warp.step);
  }
  state->shared.resize((cta.shared_bytes + 3) / 4);
  ctas_[&cta] = std::move(state);
  clusters_.erase(&cta);
}

bool RaceCheck::Before(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  Warp& warp = step.warp;
  if (rule.kind == Kind::kBarrier) {
    was_waiting_ = warp.barrier >= 0;
    const OperandRef* id = SourceAt(step, 0);
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
      state.clock.Join(state.seen_relaxed);
      state.released_by_fence = state.clock;
      Tick(state);
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
  if (step.result == Step::kNext && !rule.arrives_only) state.clock.Join(barrier.completed);
}

void RaceCheck::Cluster(const WatchedStep& step, const Rule& rule) {
  WarpState& state = StateOf(step.warp);
  BarrierState& barrier = clusters_[ClusterOf(*step.warp.cta)];
  if (rule.kind == Kind::kClusterArrive) {
    barrier.arrived.Join(state.clock);
    Tick(state);
    if (step.warp.cta->cluster_generation != generation_) {
      barrier.completed = std::move(barrier.arrived);
      barrier.arrived.Clear();
    }
  } else if (step.result == Step::kNext) {
    state.clock.Join(barrier.completed);
  }
}

RaceCheck::MbarrierState& RaceCheck::Arrive(const uint8_t* word, const VectorClock* clock, const Pipe* pipe) {
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
  const OperandRef* phase = SourceAt(step, 2);
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
  }
  if (rule.kind == Kind::kMbarrierArrive) Tick(state);
}

bool RaceCheck::Access(const WatchedStep& step, const Rule& rule) {
  WarpState& state = StateOf(step.warp);
  bool published = false;
  for (const NotedAccess& access : step.accesses) {
    if (access.space != Space::kGlobal && access.space != Space::kShared) continue;
    if (rule.strong) {
      VectorClock& place = places_[access.host];
      const bool reads = !access.is_write || rule.kind == Kind::kAtomic;
      if (reads) (rule.acquires ? state.clock : state.seen_relaxed).Join(place);
      if (access.is_write) {
        place.Join(rule.releases ? state.clock : state.released_by_fence);
        published |= rule.releases;
      }
    } else if (access.is_write &&
               std::memcmp(access.host, step.old_bytes + access.old_at, access.bytes) == 0) {
      continue;
    }
    AccessRecord record;
    record.agent = state.agent;
    record.step = state.step;
    record.pc = step.pc;
    record.lane = static_cast<uint8_t>(access.lane);
    record.flags = static_cast<uint8_t>((access.is_write ? R::kWrite : 0) | (rule.strong ? R::kAtomic : 0));
    if (!Note(step, access, record, state.clock)) return false;
  }
  if (published) Tick(state);
  return true;
}

bool RaceCheck::Copy(const WatchedStep& step) {
  WarpState& state = StateOf(step.warp);
  Pipe& pipe = Use(step.warp, &state.copies, "an asynchronous copy");
  ++pipe.step;
  for (const NotedAccess& access : step.accesses) {
    AccessRecord record;
    record.agent = access.is_write ? pipe.agent : state.agent;
    record.step = access.is_write ? pipe.step : state.step;
    record.pc = step.pc;
    record.lane = static_cast<uint8_t>(access.lane);
    record.flags = access.is_write ? R::kWrite | R::kAsync : 0;
    if (!Note(step, access, record, state.clock)) return false;
  }
  return true;
}

bool RaceCheck::Bulk(const WatchedStep& step) {
  WarpState& state = StateOf(step.warp);
  Pipe& reads = Use(step.warp, &state.bulk_reads, "a bulk copy");
  Pipe& writes = Use(step.warp, &state.bulk_writes, "a bulk copy");
  ++reads.step;
  ++writes.step;
  std::vector<const NotedAccess*> loaded;
  for (const NotedAccess& access : step.accesses) {
    if (access.space == Space::kShared && access.is_write && access.bytes == 8) {
      // The mbarrier of what was loaded so far: copies are of 16 bytes and more.
      Pipe& pipe = Use(step.warp, &state.loads[access.host], "a bulk copy");
      ++pipe.step;
      for (const NotedAccess* load : loaded) {
        AccessRecord record{
            pipe.agent, pipe.step, step.pc, 0, R::kWrite | R::kAsync, static_cast<uint8_t>(load->lane),
            0xffffffff};
        if (!Note(step, *load, record, state.clock)) return false;
      }
      loaded.clear();
      Arrive(access.host, &state.clock, &pipe);
    } else if (access.space == Space::kShared && access.is_write) {
      loaded.push_back(&access);
    } else if (access.space == Space::kShared || access.is_write) {
      if (!access.is_write) state.stores[access.lane] = {reads.step, step.pc};
      const Pipe& pipe = access.is_write ? writes : reads;
      AccessRecord record{pipe.agent,
                          pipe.step,
                          step.pc,
                          0,
                          static_cast<uint8_t>(R::kAsync | (access.is_write ? R::kWrite : 0)),
                          static_cast<uint8_t>(access.lane),
                          0xffffffff};
      if (!Note(step, access, record, state.clock)) return false;
    }
  }
  Tick(state);
  return true;
}

bool RaceCheck::Wgmma(const WatchedStep& step) {
  Warp& warp = step.warp;
  WarpState& state = StateOf(warp);
  if (step.result != Step::kNext) {
    state.waits_for_wgmma = true;
    return true;
  }
  CtaState& cta = StateOf(*warp.cta);
  const uint32_t first = warp.index / 4 * 4;
  Pipe& pipe = Use(warp, &cta.warps[first].products, "a wgmma");
  bool fine = true;
  if (!state.waits_for_wgmma) {
    // The last warp of the four: the product reads its operands from now on.
    ++pipe.step;
    VectorClock clock;
    for (uint32_t w = first; w < first + 4 && w < warp.cta->warp_count; ++w) clock.Join(cta.warps[w].clock);
    const AccessRecord record{pipe.agent, pipe.step, step.pc, 0, R::kAsync, 0, 0xffffffff};
    const WgmmaForm& form = *static_cast<const WgmmaForm*>(program_.original->code[step.pc].data);
    const auto read = [&](uint32_t slot, bool transposed, uint32_t rows) {
      const OperandRef* ref = SourceAt(step, slot);
      if (ref == nullptr) return true;
      // K-major: two units of 16 bytes a row; else 16 lines along K, of units along M or N.
      return ReadOperand(step, warp.U64(step.info(*ref).offset)[0], transposed, transposed ? 16 : rows,
                         transposed ? rows / 8 : 2, record, clock);
    };
    if (!form.shape.a_in_registers) fine = read(WgmmaForm::kA, form.shape.transpose_a, 64);
    fine = fine && read(WgmmaForm::kB, form.shape.transpose_b, static_cast<uint32_t>(form.shape.n));
  }
  state.waits_for_wgmma = false;
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition) state.in_flight[ref.value] = pipe.step;
    const bool of_a = ref.slot >= WgmmaForm::kA && ref.slot < WgmmaForm::kA + 4;
    const auto& form = *static_cast<const WgmmaForm*>(program_.original->code[step.pc].data);
    if (of_a && form.shape.a_in_registers) state.read_in_flight[ref.value] = pipe.step;
  }
  return fine;
}

bool RaceCheck::ReadOperand(const WatchedStep& step, uint64_t descriptor, bool transposed, uint32_t lines,
                            uint32_t units, const AccessRecord& record, const VectorClock& clock) {
  Cta& cta = *step.warp.cta;
  const numerics::MatrixDescriptor matrix = numerics::DecodeMatrixDescriptor(descriptor);
  for (uint32_t line = 0; line < lines; ++line) {
    for (uint32_t unit = 0; unit < units; ++unit) {
      const uint32_t address = numerics::MatrixUnitAddress(matrix, transposed, line, unit);
      if (address + 16 > cta.shared_bytes) continue;
      NotedAccess access;
      access.space = Space::kShared;
      access.owner = &cta;
      access.address = address;
      access.host = cta.shared + address;
      access.bytes = 16;
      if (!Note(step, access, record, clock)) return false;
    }
  }
  return true;
}

bool RaceCheck::Note(const WatchedStep& step, const NotedAccess& access, AccessRecord record,
                     const VectorClock& clock) {
  const bool shared = access.space == Space::kShared;
  if (!shared && access.space != Space::kGlobal) return true;
  const uint64_t begin = shared ? static_cast<uint64_t>(access.host - access.owner->shared) : access.address;
  CtaState* const owner = shared ? &StateOf(*access.owner) : nullptr;
  for (uint64_t word = begin / 4; word * 4 < begin + access.bytes; ++word) {
    record.bytes = 0xf;
    if (word * 4 < begin) record.bytes &= static_cast<uint8_t>(0xf << (begin - word * 4));
    if (word * 4 + 4 > begin + access.bytes)
      record.bytes &= static_cast<uint8_t>(0xf >> (word * 4 + 4 - begin - access.bytes));
    AccessCell& cell = shared ? owner->shared[word] : global_.At(word);
    if (!shared && IsCopyOfRead(&cell, &record)) continue;
    AccessRecord before;
    if (cell.Add(record, clock, &before) && (all_ || record.Is(R::kAsync) || before.Is(R::kAsync))) {
      return Report(step, access, record, before);
    }
  }
  return true;
}

// Every warp of a program makes the program's scalar loads, and one of them its scalar stores: what the
// program reads and then writes is in order for the program. So of one load by several warps the lowest
// warp's counts, and none that comes behind a store by a warp that has made the same load before.
bool RaceCheck::IsCopyOfRead(AccessCell* cell, AccessRecord* record) const {
  for (AccessRecord& r : cell->records) {
    if (r.step == 0) continue;
    if (record->Is(R::kWrite)) {
      if (r.agent == record->agent && !r.Is(R::kWrite)) record->own_read = r.pc;
      continue;
    }
    if (r.agent == record->agent || agents_[r.agent].program != agents_[record->agent].program) continue;
    if (r.Is(R::kWrite) && r.own_read == record->pc) return true;
    if (r.Is(R::kWrite) || r.pc != record->pc || r.flags != record->flags) continue;
    if (r.agent < record->agent) return true;
    r = AccessRecord();
  }
  return false;
}

bool RaceCheck::Report(const WatchedStep& step, const NotedAccess& access, const AccessRecord& record,
                       const AccessRecord& before) {
  const Agent& now = agents_[record.agent];
  const Agent& then = agents_[before.agent];
  const char* const space = access.space == Space::kShared ? "shared" : "global";
  const bool missing_wait = then.name != nullptr && then.program == step.warp.cta->index;
  std::string message =
      absl::StrCat(now.name != nullptr ? now.name : "", now.name != nullptr ? ", with " : "",
                   record.Is(R::kWrite) ? "a write of " : "a read of ", access.bytes, " bytes at 0x",
                   absl::Hex(access.address), " of ", space, " memory, races with ",
                   before.Is(R::kWrite) ? "a write" : "a read",
                   then.name != nullptr ? absl::StrCat(" of ", then.name) : "", " that ",
                   missing_wait ? "nothing has waited for" : "nothing orders before it");
  const AccessFault fault = {access.address, access.bytes, space, record.Is(R::kWrite)};
  const OtherSite other = {before.Is(R::kWrite) ? "earlier write" : "earlier read", before.pc, then.program,
                           then.first_thread + before.lane};
  RaiseWithOther(step.warp, access.lane, Reason::kRace, message, &fault, &other);
  return false;
}

}  // namespace trun::device
