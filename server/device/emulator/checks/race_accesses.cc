// RaceCheck: what accesses to memory are, and which of them conflict.
#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/async/bulk_copy_form.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/checks/race_check.h"
#include "server/device/emulator/numerics/matrix.h"
#include "server/device/emulator/numerics/wgmma.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {
namespace {

using R = AccessRecord;

uint8_t FlagOf(Scope scope) {
  return scope == Scope::kCta ? R::kCtaScope : scope == Scope::kCluster ? R::kClusterScope : 0;
}

// Of a bulk copy.
AccessRecord RecordOf(uint32_t agent, uint32_t step, uint32_t pc, const NotedAccess& access) {
  AccessRecord record;
  record.agent = agent;
  record.step = step;
  record.pc = pc;
  record.lane = static_cast<uint8_t>(access.lane);
  record.flags = static_cast<uint8_t>(R::kAsync | R::kAsyncProxy | (access.is_write ? R::kWrite : 0));
  return record;
}

using RowBytes = std::array<uint8_t, 16>;

// What the lanes of a stmatrix write: each a row, of registers of four lanes or, transposed, of eight.
void RowsOf(const WatchedStep& step, const std::vector<const OperandRef*>& values, bool bytes, bool columns,
            RowBytes* rows) {
  const uint32_t* registers[4] = {};
  uint8_t* to[32];
  for (size_t i = 0; i < std::size(to); ++i) to[i] = rows[i].data();
  for (const OperandRef* ref : values) {
    const uint32_t at = ref->slot - kFirstListSlot;
    if (at < 4) registers[at] = step.warp.U32(step.info(*ref).offset);
  }
  const int count = static_cast<int>(std::min(values.size(), std::size(registers)));
  if (std::count(registers, registers + count, nullptr) != 0) return;
  if (bytes) {
    numerics::StoreByteMatrices(count, registers, to);
  } else {
    numerics::StoreMatrices(count, columns, registers, to);
  }
}

}  // namespace

bool RaceCheck::Access(const WatchedStep& step, const Rule& rule) {
  WarpState& state = StateOf(step.warp);
  bool published = false;
  if (all_ && !rule.strong && !rule.whole_warp && !StoreOfLanes(step, rule)) return false;
  for (const NotedAccess& access : step.accesses) {
    if (access.space != Space::kGlobal && access.space != Space::kShared) continue;
    if (rule.strong) {
      Synchronize(step, rule, access);
      published |= access.is_write && rule.releases;
    } else if (access.is_write && !rule.makes_map &&
               std::memcmp(access.host, step.old_bytes + access.old_at, access.bytes) == 0) {
      continue;
    }
    AccessRecord record;
    record.agent = state.agent;
    record.step = state.step;
    record.pc = step.pc;
    record.lane = rule.whole_warp ? R::kSeveralLanes : static_cast<uint8_t>(access.lane);
    record.flags =
        static_cast<uint8_t>((access.is_write ? R::kWrite : 0) | (rule.strong ? R::kAtomic : 0) |
                             (rule.makes_map ? R::kMakesMap : 0) | (rule.strong ? FlagOf(rule.scope) : 0));
    if (!Note(step, access, record, state.clock)) return false;
  }
  if (published) Tick(state);
  return true;
}

// Within each scope that both the one that publishes and the one that looks reach.
void RaceCheck::Synchronize(const WatchedStep& step, const Rule& rule, const NotedAccess& access) {
  WarpState& state = StateOf(step.warp);
  Place& place = (access.space == Space::kShared ? StateOf(*access.owner).places : places_)[access.host];
  const std::array<uint64_t, kScopes> whose = {step.warp.cta->linear, agents_[state.agent].cluster, 0};
  for (const bool reads : {true, false}) {
    if (reads ? access.is_write && rule.kind != Kind::kAtomic : !access.is_write) continue;
    for (size_t s = 0; s <= static_cast<size_t>(rule.scope); ++s) {
      if (!scopes_[s]) continue;
      Knowledge& published = place[s][whose[s]];
      if (reads) {
        (rule.acquires ? state.clock : state.seen_relaxed[s]).Join(published);
      } else {
        published.Join(rule.releases ? state.clock : state.released[s]);
      }
    }
  }
}

bool RaceCheck::StoreOfLanes(const WatchedStep& step, const Rule& rule) {
  std::vector<const NotedAccess*> writes;
  for (const NotedAccess& access : step.accesses) {
    if (access.is_write && (access.space == Space::kGlobal || access.space == Space::kShared)) {
      writes.push_back(&access);
    }
  }
  if (writes.size() < 2) return true;
  std::vector<const OperandRef*> values;
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition && ref.slot >= 7 && ref.slot != kGuardSlot) values.push_back(&ref);
  }
  if (values.empty()) return true;  // no plain store
  std::sort(writes.begin(), writes.end(), [](const NotedAccess* a, const NotedAccess* b) {
    return std::pair(a->host, a->lane) < std::pair(b->host, b->lane);
  });
  const uint32_t bits = writes[0]->bytes * 8 / static_cast<uint32_t>(values.size());
  RowBytes rows[32];
  if (rule.rows) RowsOf(step, values, rule.bytes, rule.columns, rows);
  for (size_t i = 1; i < writes.size(); ++i) {
    const NotedAccess &one = *writes[i - 1], &two = *writes[i];
    if (one.host + one.bytes <= two.host) continue;
    bool differ = one.host != two.host || (rule.rows && rows[one.lane] != rows[two.lane]);
    for (const OperandRef* ref : values) {
      if (rule.rows) break;
      const RegisterInfo& info = step.info(*ref);
      const auto value = [&](uint32_t lane) -> uint64_t {
        return info.width == Width::k64 ? step.warp.U64(info.offset)[lane] : step.warp.U32(info.offset)[lane];
      };
      if (info.width == Width::k128 || info.width == Width::kPredicate) continue;
      const uint64_t mask = bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
      differ = differ || ((value(one.lane) ^ value(two.lane)) & mask) != 0;
    }
    if (!differ) continue;
    const OtherSite other = {"the other lane", step.pc, step.warp.cta->index, ThreadOf(step.warp, one.lane)};
    const char* const space = two.space == Space::kShared ? "shared" : "global";
    const AccessFault fault = {two.address, two.bytes, space, true};
    RaiseWithOther(
        step.warp, two.lane, Reason::kRace,
        absl::StrCat("a write of ", two.bytes, " bytes at 0x", absl::Hex(two.address), " of ", space,
                     " memory, to which another lane of the same instruction writes another value"),
        &fault, &other);
    return false;
  }
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
  const auto& form = *static_cast<const BulkCopyForm*>(program_.original->code[step.pc].data);
  WarpState& state = StateOf(step.warp);
  for (size_t first = 0, end = 0; first < step.accesses.size(); first = end) {
    while (end < step.accesses.size() && step.accesses[end].lane == step.accesses[first].lane) ++end;
    absl::Span<const NotedAccess> accesses = step.accesses.subspan(first, end - first);
    if (form.rank != 0) {
      AccessRecord record = RecordOf(state.agent, state.step, step.pc, accesses[0]);
      record.flags = 0;
      if (!Note(step, accesses[0], record, state.clock, true)) return false;
      accesses.remove_prefix(1);
    }
    if (!(form.to_global ? BulkStore(step, accesses) : BulkLoad(step, form.multicast, accesses)))
      return false;
  }
  Tick(state);
  return true;
}

bool RaceCheck::BulkStore(const WatchedStep& step, absl::Span<const NotedAccess> accesses) {
  WarpState& state = StateOf(step.warp);
  Pipe& reads = Use(step.warp, &state.bulk_reads, "a bulk copy");
  Pipe& writes = Use(step.warp, &state.bulk_writes, "a bulk copy");
  ++reads.step;
  ++writes.step;
  for (const NotedAccess& access : accesses) {
    if (!access.is_write) state.stores[access.lane] = {reads.step, step.pc};
    const Pipe& pipe = access.is_write ? writes : reads;
    const AccessRecord record = RecordOf(pipe.agent, pipe.step, step.pc, access);
    if (!Note(step, access, record, state.clock)) return false;
  }
  return true;
}

// Sources and targets are under way until the phase of the mbarrier that follows them has ended. Of a
// multicast PTX does not say which CTA's mbarrier tells that the source has been read.
bool RaceCheck::BulkLoad(const WatchedStep& step, bool multicast, absl::Span<const NotedAccess> accesses) {
  WarpState& state = StateOf(step.warp);
  std::vector<const NotedAccess*> loaded;
  for (const NotedAccess& access : accesses) {
    if (multicast && !access.is_write) {
      if (!Note(step, access, RecordOf(state.agent, state.step, step.pc, access), state.clock)) return false;
    } else if (access.space != Space::kShared || !access.is_write || access.bytes != 8) {
      loaded.push_back(&access);
    } else {
      Pipe& pipe = Use(step.warp, &state.loads[access.host], "a bulk copy");
      ++pipe.step;
      for (const NotedAccess* load : loaded) {
        const AccessRecord record = RecordOf(pipe.agent, pipe.step, step.pc, *load);
        if (!Note(step, *load, record, state.clock)) return false;
      }
      loaded.clear();
      Arrive(access.host, &state.clock, &pipe);
    }
  }
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
    Knowledge clock;
    for (uint32_t w = first; w < first + 4 && w < warp.cta->warp_count; ++w) clock.Join(cta.warps[w].clock);
    const AccessRecord record{pipe.agent, pipe.step, step.pc, 0, R::kAsync | R::kAsyncProxy, 0, 0xffffffff};
    const WgmmaForm& form = *static_cast<const WgmmaForm*>(program_.original->code[step.pc].data);
    const auto read = [&](uint32_t slot, bool transposed, uint32_t rows, uint32_t depth, uint32_t units) {
      const OperandRef* ref = step.Source(slot);
      if (ref == nullptr) return true;
      // K-major: units of 16 bytes a row; else lines along K, of units along M or N.
      return ReadOperand(step, warp.U64(step.info(*ref).offset)[0], transposed, transposed ? depth : rows,
                         transposed ? rows / 8 : units, record, clock);
    };
    const auto depth = static_cast<uint32_t>(numerics::WgmmaDepth(form.shape.a));
    const uint32_t more = form.shape.sparse ? 2 : 1;
    if (!form.shape.a_in_registers) fine = read(WgmmaForm::kA, form.shape.transpose_a, 64, depth, 2);
    fine = fine && read(WgmmaForm::kB, form.shape.transpose_b, static_cast<uint32_t>(form.shape.n),
                        depth * more, 2 * more);
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
                            uint32_t units, const AccessRecord& record, const Knowledge& clock) {
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
                     const Knowledge& clock, bool reads_map) {
  const bool shared = access.space == Space::kShared;
  if (!shared && access.space != Space::kGlobal) return true;
  const uint64_t begin = shared ? static_cast<uint64_t>(access.host - access.owner->shared) : access.address;
  CtaState* const owner = shared ? &StateOf(*access.owner) : nullptr;
  const bool async = record.Is(R::kAsync);
  const auto reaches = [this](uint32_t a, uint32_t b, Scope scope) {
    if (scope == Scope::kCta) return agents_[a].program == agents_[b].program;
    return scope == Scope::kAll || agents_[a].cluster == agents_[b].cluster;
  };
  const Proxy proxy = reads_map ? Proxy::kTensorMap : shared ? Proxy::kAsyncShared : Proxy::kAsyncGlobal;
  const bool through_proxy = reads_map || record.Is(R::kAsyncProxy);
  const AccessContext context = {clock, !async && all_ ? StateOf(step.warp).lanes_since : 0,
                                 through_proxy ? &clock.Fenced(proxy) : nullptr, reaches};
  for (uint64_t word = begin / 4; word * 4 < begin + access.bytes; ++word) {
    record.bytes = 0xf;
    if (word * 4 < begin) record.bytes &= static_cast<uint8_t>(0xf << (begin - word * 4));
    if (word * 4 + 4 > begin + access.bytes)
      record.bytes &= static_cast<uint8_t>(0xf >> (word * 4 + 4 - begin - access.bytes));
    AccessCell& cell = shared ? owner->shared[word] : global_.At(word);
    if (!shared && !async && IsCopyOfRead(&cell, &record)) continue;
    AccessRecord before;
    const Conflict conflict = cell.Add(record, context, &before);
    if (conflict != Conflict::kNone && (all_ || async || reads_map || before.Is(R::kAsync))) {
      return Report(step, access, record, before, conflict, reads_map);
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
                       const AccessRecord& before, Conflict conflict, bool reads_map) {
  const Agent& now = agents_[record.agent];
  const Agent& then = agents_[before.agent];
  const char* const space = access.space == Space::kShared ? "shared" : "global";
  const bool missing_wait = then.name != nullptr && then.program == step.warp.cta->index;
  std::string message = absl::StrCat(
      now.name != nullptr ? now.name : "", now.name != nullptr ? ", with " : "",
      reads_map              ? "a tensor copy's read of its map, "
      : record.Is(R::kWrite) ? "a write of "
                             : "a read of ",
      access.bytes, " bytes at 0x", absl::Hex(access.address), " of ", space, " memory, races with ",
      before.Is(R::kWrite) ? "a write" : "a read",
      then.name != nullptr ? absl::StrCat(" of ", then.name) : "", " that ",
      conflict == Conflict::kProxy
          ? (reads_map ? "no fence.proxy.tensormap acquires" : "no fence.proxy.async stands behind")
      : conflict == Conflict::kLanes ? "another lane of the warp made, without bar.warp.sync between"
      : missing_wait                 ? "nothing has waited for"
                                     : "nothing orders before it");
  if (conflict == Conflict::kUnordered && before.Is(R::kAtomic) && record.Is(R::kAtomic)) {
    const bool cta = before.Is(R::kCtaScope) || record.Is(R::kCtaScope);
    absl::StrAppend(&message, cta ? " (a .cta scope does not reach other programs)"
                                  : " (a .cluster scope does not reach other clusters)");
  }
  const AccessFault fault = {access.address, access.bytes, space, record.Is(R::kWrite)};
  const OtherSite other = {before.Is(R::kWrite) ? "earlier write" : "earlier read", before.pc, then.program,
                           then.first_thread + (before.lane == R::kSeveralLanes ? 0 : before.lane)};
  RaiseWithOther(step.warp, access.lane, Reason::kRace, message, &fault, &other);
  return false;
}

}  // namespace trun::device
