#include "server/device/emulator/checks/uninitialized_check.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/matrix_definedness.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {
namespace {

std::string NameOf(const RegisterInfo& info) {
  return info.name.empty() ? "a register" : std::string(info.name);
}

}  // namespace

UninitializedCheck::UninitializedCheck(const Program& program, UnwrittenMemory* global)
    : program_(program), global_(global) {
  rules_.reserve(program.code.size());
  for (uint32_t pc = 0; pc < program.code.size(); ++pc) rules_.push_back(RuleOf(program, pc));
}

UninitializedCheck::Rule UninitializedCheck::RuleOf(const Program& program, uint32_t pc) {
  const InstructionWords words(program.sites[pc].text);
  Rule rule;
  rule.flow = FlowOf(program, pc);
  const absl::string_view op = words.opcode;
  const auto uses = [&rule](const char* what, uint32_t slots) {
    rule.use = what;
    rule.use_slots = slots;
  };
  constexpr const char* kAddress = "an address depends on";
  constexpr uint32_t kList = 1u << kFirstListSlot;
  rule.sign_extends = (op == "ld" || op == "ldu") && IsSigned(words.TypeAt(0));
  rule.transposes = words.Has("trans");
  rule.matrices = words.Has("x4") ? 4 : words.Has("x2") ? 2 : 1;
  if (op == "ld" || op == "ldu" || op == "st" || op == "atom" || op == "red") {
    rule.kind = op == "st" ? Kind::kStore : op[0] == 'l' ? Kind::kLoad : Kind::kAtomic;
    uses(kAddress, 1);
  } else if (op == "ldmatrix" || op == "stmatrix") {
    rule.kind = Kind::kMatrix;
    rule.stores = op == "stmatrix";
    if (!rule.stores && words.Has("m16n16")) rule.matrices *= 2;  // registers, of eight rows each
    rule.use_lanes = rule.matrices == 4 ? kFullMask : (1u << (8 * rule.matrices)) - 1;
    uses(kAddress, 1);
  } else if (op == "wmma" && !words.Has("mma")) {
    rule.kind = Kind::kTile;
    rule.stores = words.Has("store");
    uses(kAddress, 3);
  } else if (op == "wgmma" && words.Has("mma_async")) {
    const WgmmaForm& form = *static_cast<const WgmmaForm*>(program.original->code[pc].data);
    uses(kAddress, 1u << WgmmaForm::kB | (form.shape.a_in_registers ? 0 : 1u << WgmmaForm::kA));
  } else if (op == "cp") {
    const bool bulk = words.Has("bulk");
    if (bulk && words.Has("prefetch")) return rule;
    if (bulk && !words.Has("commit_group") && !words.Has("wait_group")) {
      rule.kind = Kind::kBulk;
      uses("where a bulk copy goes depends on", 0x7f | kList);
    } else if (!bulk && words.Has("global")) {
      rule.kind = Kind::kCopy;
      uses("what an asynchronous copy copies depends on", 7);
    } else if (words.Has("mbarrier") || words.Has("mbarrier::arrive")) {
      uses(kAddress, 2);
    }
  } else if (op == "mbarrier") {
    if (!words.Has("pending_count")) uses("an operation on an mbarrier depends on", 0x7f);
  } else if (op == "tensormap") {
    if (words.Has("cp_fenceproxy")) rule.kind = Kind::kMapCopy;
    uses("a tensor map depends on", 0x7f);
  } else if (op == "brx") {
    uses("a branch depends on", 1);
  } else if ((op == "bar" || op == "barrier") && words.Has("red")) {
    rule.kind = Kind::kReduction;
  }
  if (op == "bra" || op == "brx" || op == "exit" || op == "ret") {
    rule.guard = "a branch depends on";
  } else if (rule.use != nullptr || op == "cp") {
    rule.guard = "whether memory is accessed depends on";
  } else if (op == "bar" || op == "barrier" || op == "trap" || op == "call") {
    rule.guard = "whether it is executed depends on";
  }
  return rule;
}

void UninitializedCheck::CtaStarted(Cta& cta) {
  std::unique_ptr<CtaState> state;
  if (spare_.empty()) {
    state = std::make_unique<CtaState>();
  } else {
    state = std::move(spare_.back());
    spare_.pop_back();
  }
  state->warps.resize(cta.warp_count);
  for (RegisterDefinedness& warp : state->warps) warp.Reset(program_.operands->cells);
  state->shared.assign(cta.shared_bytes, 1);
  state->local.assign(size_t{cta.local_stride} * cta.warp_count * 32, 1);
  state->waits_for_wgmma.assign(cta.warp_count, false);
  state->shared_origins.clear();
  state->reductions = {};
  ctas_[&cta] = std::move(state);
}

void UninitializedCheck::CtaEnded(Cta& cta) {
  const auto it = ctas_.find(&cta);
  if (it == ctas_.end()) return;
  // Others of the cluster may still look at its shared memory, which starts again with the next CTA there.
  if (cta.cluster != nullptr) return;
  spare_.push_back(std::move(it->second));
  ctas_.erase(it);
}

bool UninitializedCheck::Report(const WatchedStep& step, uint32_t lane, const OperandRef& ref,
                                uint32_t origin, const char* what, const AccessFault* access) {
  const RegisterInfo& info = step.info(ref);
  std::string message = absl::StrCat(what, " an uninitialised value, in ", NameOf(info));
  OtherSite other;
  if (origin == kNowhere) {
    absl::StrAppend(&message, ", which nothing has written");
  } else {
    other = {"read from memory that nothing has written", origin, step.warp.cta->index,
             ThreadOf(step.warp, lane)};
  }
  // The allocation that nobody wrote is worth more than the one that it was going to be stored to.
  const auto read = origin == kNowhere ? unwritten_reads_.end() : unwritten_reads_.find(origin);
  if (read != unwritten_reads_.end()) {
    access = &read->second[lane];
    // A value that another lane read, or a copy of another thread.
    for (const AccessFault& other_lane : read->second) {
      if (access->bytes == 0) access = &other_lane;
    }
    const AllocationRange* range = step.warp.worker->memory->Find(access->address, access->address + 1);
    if (range != nullptr) {
      absl::StrAppend(&message, ", which came from byte ", access->address - range->begin, " of allocation ",
                      range->id, " of ", range->end - range->begin, " bytes");
    }
  }
  RaiseWithOther(step.warp, lane, Reason::kUninitializedRead, message, access,
                 origin == kNowhere ? nullptr : &other);
  return false;
}

bool UninitializedCheck::Use(const WatchedStep& step, const OperandRef& ref, uint32_t lanes,
                             const char* what) {
  const RegisterInfo& info = step.info(ref);
  if (info.cell == kNoCell) return true;
  const RegisterDefinedness& registers = RegistersOf(step.warp);
  for (; lanes != 0; lanes &= lanes - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    if ((registers.undefined[info.cell][lane] & AllBytes(info.width)) == 0) continue;
    return Report(step, lane, ref, registers.origin[info.cell][lane], what);
  }
  return true;
}

bool UninitializedCheck::ReportMemory(const WatchedStep& step, const char* what, const NotedAccess& access,
                                      uint32_t skipped) {
  const char* const space = access.space == Space::kShared  ? "shared"
                            : access.space == Space::kLocal ? "local"
                                                            : "global";
  const AccessFault fault = {access.address + skipped, access.bytes - skipped, space, false};
  RaiseWithOther(step.warp, access.lane, Reason::kUninitializedRead, what, &fault, nullptr);
  return false;
}

void UninitializedCheck::Gather(const WatchedStep& step, const RegisterDefinedness& registers,
                                SlotBytes* sources) const {
  sources->Clear();
  for (const OperandRef& ref : step.operands()) {
    const RegisterInfo& info = step.info(ref);
    if (ref.is_definition || ref.slot == kGuardSlot || info.cell == kNoCell) continue;
    LaneBytes& to = sources->At(ref.slot);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      to[lane] = registers.undefined[info.cell][lane] & AllBytes(info.width);
      if (to[lane] == 0 || sources->any) continue;
      sources->any = true;
      sources->origin = registers.origin[info.cell][lane];
    }
  }
}

bool UninitializedCheck::Before(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  const RegisterDefinedness& registers = RegistersOf(step.warp);
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition) continue;
    if (ref.slot == kGuardSlot) {
      if (rule.guard != nullptr && !Use(step, ref, step.active, rule.guard)) return false;
    } else if (rule.use != nullptr && (rule.use_slots >> std::min(ref.slot, kFirstListSlot) & 1) != 0) {
      if (!Use(step, ref, step.mask & rule.use_lanes, rule.use)) return false;
    }
  }
  Propagate(rule.flow, step, registers, &pending_);
  if (rule.flow.flow == Flow::kMultiply) Gather(step, registers, &sources_);
  if (rule.kind == Kind::kReduction) Reduce(step, true);
  return true;
}

bool UninitializedCheck::After(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  if (rule.flow.flow == Flow::kWarpgroup) {
    Wgmma(step);
    return true;
  }
  if (step.result == Step::kWait) return true;
  if (rule.flow.flow == Flow::kMultiply) {
    PropagateProduct(step, sources_, &results_);
    results_.origin = sources_.origin;
    CommitResults(step, step.warp, results_);
    return true;
  }
  Commit(step);
  if (rule.kind == Kind::kReduction) Reduce(step, false);
  return rule.flow.flow != Flow::kMemory || AfterMemory(step, rule);
}

// For all lanes: such instructions are a whole warp's.
void UninitializedCheck::CommitResults(const WatchedStep& step, const Warp& warp, const SlotBytes& results) {
  RegisterDefinedness& registers = RegistersOf(warp);
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition) continue;
    const RegisterInfo& info = step.info(ref);
    registers.undefined[info.cell] = results.Get(ref.slot);
    registers.origin[info.cell].fill(results.origin);
  }
}

// A predicate of one thread that is undefined makes the result of all undefined.
void UninitializedCheck::Reduce(const WatchedStep& step, bool before) {
  CtaState& state = StateOf(*step.warp.cta);
  if (before) {
    const OperandRef *id = step.Source(0), *predicate = step.Source(3);
    barrier_ = id == nullptr ? 0 : step.warp.U32(step.info(*id).offset)[__builtin_ctz(step.mask | 1u << 31)];
    if (barrier_ >= state.reductions.size()) return;
    phase_ =
        step.warp.barrier >= 0 ? step.warp.barrier_generation : step.warp.cta->barriers[barrier_].generation;
    if (predicate == nullptr || step.info(*predicate).cell == kNoCell) return;
    const RegisterDefinedness& registers = RegistersOf(step.warp);
    const uint32_t cell = step.info(*predicate).cell;
    for (uint32_t lanes = step.mask; lanes != 0; lanes &= lanes - 1) {
      const auto lane = static_cast<uint32_t>(__builtin_ctz(lanes));
      if ((registers.undefined[cell][lane] & 1) == 0) continue;
      state.reductions[barrier_][phase_ & 1] = {phase_, registers.origin[cell][lane]};
    }
    return;
  }
  if (barrier_ >= state.reductions.size()) return;
  const UnsureReduction& unsure = state.reductions[barrier_][phase_ & 1];
  if (unsure.phase != phase_) return;
  SlotBytes results;
  results.origin = unsure.origin;
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition) results.At(ref.slot).fill(AllBytes(step.info(ref).width));
  }
  CommitResults(step, step.warp, results);
}

// An undefined guard leaves the destination undefined: old value or new.
void UninitializedCheck::Commit(const WatchedStep& step) {
  RegisterDefinedness& registers = RegistersOf(step.warp);
  const OperandRef* guard = nullptr;
  size_t k = 0;
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition && ref.slot == kGuardSlot && step.info(ref).cell != kNoCell) guard = &ref;
  }
  LaneBytes unsure = {};
  LaneOrigins unsure_from = {};
  if (guard != nullptr) {
    unsure = registers.undefined[step.info(*guard).cell];
    unsure_from = registers.origin[step.info(*guard).cell];
  }
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition) continue;
    const RegisterInfo& info = step.info(ref);
    const FlowResult* result = k < pending_.size() ? &pending_[k] : nullptr;
    ++k;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint16_t& undefined = registers.undefined[info.cell][lane];
      if ((step.mask >> lane & 1) != 0) {
        undefined = result != nullptr ? result->undefined[lane] : 0;
        if (undefined != 0) registers.origin[info.cell][lane] = result->origin[lane];
      }
      if ((step.active >> lane & 1) != 0 && (unsure[lane] & 1) != 0) {
        undefined = AllBytes(info.width);
        registers.origin[info.cell][lane] = unsure_from[lane];
      }
    }
  }
}

const uint8_t* UninitializedCheck::Undefined(const WatchedStep& step, const NotedAccess& access) {
  switch (access.space) {
    case Space::kShared:
      return StateOf(*access.owner).shared.data() + (access.host - access.owner->shared);
    case Space::kLocal:
      return StateOf(*step.warp.cta).local.data() + (access.host - step.warp.cta->local);
    case Space::kGlobal:
      bytes_.resize(access.bytes);
      return global_->Read(access.address, access.bytes, bytes_.data()) ? bytes_.data() : nullptr;
    default:
      return nullptr;
  }
}

void UninitializedCheck::SetUndefined(const WatchedStep& step, const NotedAccess& access,
                                      const uint8_t* undefined) {
  if (access.space == Space::kGlobal) {
    global_->MarkWritten(access.address, access.bytes);
    return;
  }
  if (access.space != Space::kShared && access.space != Space::kLocal) return;
  uint8_t* to = const_cast<uint8_t*>(Undefined(step, access));
  if (undefined == nullptr) {
    std::memset(to, 0, access.bytes);
  } else {
    std::memmove(to, undefined, access.bytes);
  }
}

uint32_t UninitializedCheck::OriginOf(const WatchedStep& step, const NotedAccess& access,
                                      const uint8_t* undefined) {
  if (access.space != Space::kShared) return step.pc;
  const std::vector<uint32_t>& origins = StateOf(*access.owner).shared_origins;
  const void* const first = origins.empty() ? nullptr : std::memchr(undefined, 1, access.bytes);
  if (first == nullptr) return step.pc;
  const uint32_t origin = origins[static_cast<size_t>(access.host - access.owner->shared) +
                                  static_cast<size_t>(static_cast<const uint8_t*>(first) - undefined)];
  return origin == kNowhere ? step.pc : origin;
}

void UninitializedCheck::SetOrigin(const NotedAccess& access, const uint8_t* undefined, uint32_t origin) {
  if (access.space != Space::kShared || !HasUndefined(undefined, access.bytes)) return;
  CtaState& owner = StateOf(*access.owner);
  if (owner.shared_origins.empty()) {
    if (origin == kNowhere) return;
    owner.shared_origins.assign(owner.shared.size(), kNowhere);
  }
  uint32_t* const to = owner.shared_origins.data() + (access.host - access.owner->shared);
  for (uint32_t i = 0; i < access.bytes; ++i) {
    if (undefined[i] != 0) to[i] = origin;
  }
}

void UninitializedCheck::NoteUnwrittenRead(const WatchedStep& step, uint32_t lanes, const NotedAccess& access,
                                           const uint8_t* undefined) {
  if (access.space != Space::kGlobal) return;
  const auto* first = std::find_if(undefined, undefined + access.bytes, [](uint8_t b) { return b != 0; });
  const auto before = static_cast<uint32_t>(first - undefined);
  std::array<AccessFault, 32>& reads = unwritten_reads_[step.pc];
  for (; lanes != 0; lanes &= lanes - 1) {
    reads[static_cast<size_t>(__builtin_ctz(lanes))] = {access.address + before, access.bytes - before,
                                                        "global", false};
  }
}

}  // namespace trun::device
