#include "server/device/emulator/checks/uninitialized_check.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/matrix_definedness.h"
#include "server/device/emulator/numerics/matrix.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {
namespace {

constexpr uint32_t kFirstListSlot = 7;

bool HasUndefined(const uint8_t* undefined, uint32_t bytes) {
  return undefined != nullptr && std::memchr(undefined, 1, bytes) != nullptr;
}

// The operands of a list (ld, st, ldmatrix …) in the order of their slots.
std::vector<const OperandRef*> ListOf(const WatchedStep& step, bool definitions) {
  std::vector<const OperandRef*> list;
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition == definitions && ref.slot >= kFirstListSlot && ref.slot != kGuardSlot)
      list.push_back(&ref);
  }
  std::sort(list.begin(), list.end(),
            [](const OperandRef* a, const OperandRef* b) { return a->slot < b->slot; });
  return list;
}

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
  rule.is_load = op == "ld" || op == "ldu";
  rule.is_store = op == "st";
  rule.is_atomic = op == "atom" || op == "red";
  rule.is_matrix = (op == "ldmatrix" || op == "stmatrix") && !words.Has("m8n16") && !words.Has("m16n8");
  rule.is_bulk = op == "cp" && (words.Has("bulk") || words.Has("reduce"));
  rule.is_cp_async = op == "cp" && !rule.is_bulk && words.Has("async") && words.Has("global");
  rule.address = rule.is_load || rule.is_store || rule.is_atomic || rule.is_matrix;
  rule.sign_extends = rule.is_load && IsSigned(words.TypeAt(0));
  rule.transposes = words.Has("trans");
  rule.matrices = words.Has("x4") ? 4 : words.Has("x2") ? 2 : 1;
  if (op == "bra" || op == "brx" || op == "exit" || op == "ret") {
    rule.guard = "a branch depends on";
  } else if (rule.address || op == "cp" || op == "mbarrier") {
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
  const RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  for (; lanes != 0; lanes &= lanes - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    if ((registers.undefined[info.cell][lane] & AllBytes(info.width)) == 0) continue;
    return Report(step, lane, ref, registers.origin[info.cell][lane], what);
  }
  return true;
}

bool UninitializedCheck::Before(const WatchedStep& step) {
  const Rule& rule = rules_[step.pc];
  const RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition) continue;
    if (ref.slot == kGuardSlot && rule.guard != nullptr && !Use(step, ref, step.active, rule.guard))
      return false;
    if (ref.slot == 0 && rule.address && !Use(step, ref, step.mask, "an address depends on")) return false;
    if (ref.slot == 0 && program_.sites[step.pc].text.substr(0, 3) == "brx" &&
        !Use(step, ref, step.mask, "a branch depends on")) {
      return false;
    }
  }
  Propagate(rule.flow, step, registers, &pending_);
  if (rule.flow.flow == Flow::kMultiply) {
    fragments_.clear();
    for (const OperandRef& ref : step.operands()) {
      LaneBytes bytes = {};
      const RegisterInfo& info = step.info(ref);
      if (!ref.is_definition && info.cell != kNoCell) {
        bytes = registers.undefined[info.cell];
        for (uint16_t& lane : bytes) lane &= AllBytes(info.width);
      }
      fragments_.push_back(bytes);
    }
  }
  return true;
}

bool UninitializedCheck::After(const WatchedStep& step) {
  if (step.result == Step::kWait) return true;
  const Rule& rule = rules_[step.pc];
  if (rule.flow.flow == Flow::kMultiply) {
    Multiply(step);
    return true;
  }
  Commit(step);
  return rule.flow.flow != Flow::kMemory || AfterMemory(step, rule);
}

// An undefined guard leaves the destination undefined: old value or new.
void UninitializedCheck::Commit(const WatchedStep& step) {
  RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
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

void UninitializedCheck::Load(const WatchedStep& step, const NotedAccess& access, const Rule& rule) {
  RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  const uint8_t* undefined = Undefined(step, access);
  const std::vector<const OperandRef*> list = ListOf(step, true);
  if (list.empty() || !HasUndefined(undefined, access.bytes)) return;
  if (access.space == Space::kGlobal) {
    const auto* first = std::find_if(undefined, undefined + access.bytes, [](uint8_t b) { return b != 0; });
    const auto before = static_cast<uint32_t>(first - undefined);
    unwritten_reads_[step.pc][access.lane] = {access.address + before, access.bytes - before, "global",
                                              false};
  }
  const uint32_t element = access.bytes / static_cast<uint32_t>(list.size());
  for (size_t k = 0; k < list.size(); ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    uint16_t bytes = 0;
    for (uint32_t i = 0; i < element; ++i) {
      if (undefined[k * element + i] != 0) bytes |= static_cast<uint16_t>(1 << i);
    }
    if (rule.sign_extends && (bytes >> (element - 1) & 1) != 0)
      bytes |= static_cast<uint16_t>(AllBytes(info.width) & ~((1 << element) - 1));
    registers.undefined[info.cell][access.lane] = bytes;
    registers.origin[info.cell][access.lane] = step.pc;
  }
}

bool UninitializedCheck::Store(const WatchedStep& step, const NotedAccess& access) {
  const RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  const std::vector<const OperandRef*> list = ListOf(step, false);
  if (list.empty()) return true;
  const uint32_t element = access.bytes / static_cast<uint32_t>(list.size());
  std::vector<uint8_t> bytes(access.bytes, 0);
  for (size_t k = 0; k < list.size(); ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    if (info.cell == kNoCell) continue;
    const uint16_t undefined = registers.undefined[info.cell][access.lane] & AllBytes(info.width);
    if (access.space == Space::kGlobal && (undefined & ((1u << element) - 1)) != 0) {
      const AccessFault fault = {access.address, access.bytes, "global", true};
      return Report(step, access.lane, *list[k], registers.origin[info.cell][access.lane],
                    "a store to global memory of", &fault);
    }
    for (uint32_t i = 0; i < element; ++i) bytes[k * element + i] = undefined >> i & 1;
  }
  SetUndefined(step, access, bytes.data());
  return true;
}

bool UninitializedCheck::Atomic(const WatchedStep& step, const NotedAccess& access) {
  RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  const uint8_t* undefined = Undefined(step, access);
  const bool memory = HasUndefined(undefined, access.bytes);
  const bool replaces = program_.sites[step.pc].text.find(".exch") != absl::string_view::npos;
  if (memory && !replaces && access.space == Space::kGlobal) {
    const AccessFault fault = {access.address, access.bytes, "global", true};
    RaiseWithOther(step.warp, access.lane, Reason::kUninitializedRead,
                   "an atomic operation on global memory that nothing has written", &fault, nullptr);
    return false;
  }
  bool value = false;
  for (const OperandRef* ref : ListOf(step, false)) {
    const RegisterInfo& info = step.info(*ref);
    if (info.cell == kNoCell || (registers.undefined[info.cell][access.lane] & AllBytes(info.width)) == 0)
      continue;
    if (access.space == Space::kGlobal) {
      const AccessFault fault = {access.address, access.bytes, "global", true};
      return Report(step, access.lane, *ref, registers.origin[info.cell][access.lane],
                    "an atomic operation on global memory with", &fault);
    }
    value = true;
  }
  for (const OperandRef* ref : ListOf(step, true)) {
    const RegisterInfo& info = step.info(*ref);
    if (!memory) continue;
    registers.undefined[info.cell][access.lane] = AllBytes(info.width);
    registers.origin[info.cell][access.lane] = step.pc;
  }
  const std::vector<uint8_t> after(access.bytes, value || (memory && !replaces) ? 1 : 0);
  SetUndefined(step, access, after.data());
  return true;
}

// The bytes of a shared row that are undefined go through the same shuffle as the row.
void UninitializedCheck::LoadMatrix(const WatchedStep& step, const Rule& rule) {
  RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  const size_t rows = 8 * static_cast<size_t>(rule.matrices);
  if (step.accesses.size() != rows) return;
  std::vector<uint8_t> undefined(rows * 16, 0);
  const uint8_t* pointers[32];
  for (size_t r = 0; r < rows; ++r) {
    pointers[r] = undefined.data() + 16 * r;
    if (const uint8_t* from = Undefined(step, step.accesses[r]); from != nullptr)
      std::memcpy(undefined.data() + 16 * r, from, 16);
  }
  alignas(64) uint32_t lanes[4][32];
  uint32_t* to[4] = {lanes[0], lanes[1], lanes[2], lanes[3]};
  numerics::LoadMatrices(rule.matrices, rule.transposes, pointers, to);
  const std::vector<const OperandRef*> list = ListOf(step, true);
  for (size_t k = 0; k < list.size() && k < 4; ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint16_t bytes = 0;
      for (int i = 0; i < 4; ++i) bytes |= static_cast<uint16_t>((lanes[k][lane] >> (8 * i) & 1) << i);
      registers.undefined[info.cell][lane] = bytes;
      if (bytes != 0) registers.origin[info.cell][lane] = step.pc;
    }
  }
}

void UninitializedCheck::StoreMatrix(const WatchedStep& step, const Rule& rule) {
  const RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  const size_t rows = 8 * static_cast<size_t>(rule.matrices);
  if (step.accesses.size() != rows) return;
  alignas(64) uint32_t lanes[4][32] = {};
  const std::vector<const OperandRef*> list = ListOf(step, false);
  for (size_t k = 0; k < list.size() && k < 4; ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    for (uint32_t lane = 0; lane < 32 && info.cell != kNoCell; ++lane) {
      for (int i = 0; i < 4; ++i)
        lanes[k][lane] |= uint32_t{registers.undefined[info.cell][lane]} >> i << (8 * i) & (1u << (8 * i));
    }
  }
  std::vector<uint8_t> undefined(rows * 16, 0);
  uint8_t* pointers[32];
  for (size_t r = 0; r < rows; ++r) pointers[r] = undefined.data() + 16 * r;
  const uint32_t* from[4] = {lanes[0], lanes[1], lanes[2], lanes[3]};
  numerics::StoreMatrices(rule.matrices, rule.transposes, from, pointers);
  for (size_t r = 0; r < rows; ++r) SetUndefined(step, step.accesses[r], pointers[r]);
}

bool UninitializedCheck::AfterMemory(const WatchedStep& step, const Rule& rule) {
  if (rule.is_matrix) {
    if (program_.sites[step.pc].text.substr(0, 2) == "ld") {
      LoadMatrix(step, rule);
    } else {
      StoreMatrix(step, rule);
    }
    return true;
  }
  for (size_t i = 0; i < step.accesses.size(); ++i) {
    const NotedAccess& access = step.accesses[i];
    if (rule.is_load) {
      Load(step, access, rule);
    } else if (rule.is_store) {
      if (!Store(step, access)) return false;
    } else if (rule.is_atomic) {
      if (!Atomic(step, access)) return false;
    } else if (rule.is_cp_async && access.is_write) {
      // The destination, then the source where anything is read; what is not read becomes zero.
      std::vector<uint8_t> bytes(access.bytes, 0);
      if (i + 1 < step.accesses.size() && !step.accesses[i + 1].is_write) {
        const NotedAccess& source = step.accesses[i + 1];
        if (const uint8_t* from = Undefined(step, source); from != nullptr)
          std::memcpy(bytes.data(), from, std::min(source.bytes, access.bytes));
      }
      SetUndefined(step, access, bytes.data());
    } else if (access.is_write) {
      SetUndefined(step, access, nullptr);
    }
  }
  return true;
}

void UninitializedCheck::Multiply(const WatchedStep& step) {
  // The fragments' places in the list of an mma (ops/matrix.cc).
  constexpr uint32_t kA = kFirstListSlot + 8, kB = kFirstListSlot + 16, kC = kFirstListSlot + 20;
  RegisterDefinedness& registers = StateOf(*step.warp.cta).warps[step.warp.index];
  MatrixFragments fragments;
  bool some = false;
  uint32_t origin = kNowhere;
  size_t k = 0;
  for (const OperandRef& ref : step.operands()) {
    const LaneBytes& bytes = fragments_[k++];
    if (ref.is_definition || ref.slot == kGuardSlot || ref.slot < kA) continue;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if (bytes[lane] == 0) continue;
      if (!some) origin = registers.origin[step.info(ref).cell][lane];
      some = true;
    }
    const auto put = [&](auto& fragment, uint32_t first) {
      if (ref.slot - first < fragment.size()) fragment[ref.slot - first] = bytes;
    };
    if (ref.slot >= kC) {
      put(fragments.c, kC);
    } else if (ref.slot >= kB) {
      put(fragments.b, kB);
    } else {
      put(fragments.a, kA);
    }
  }
  if (some) PropagateMma(step.site().text, &fragments);
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition) continue;
    const RegisterInfo& info = step.info(ref);
    const uint32_t at = ref.slot - kFirstListSlot;
    registers.undefined[info.cell] = at < fragments.d.size() ? fragments.d[at] : LaneBytes{};
    registers.origin[info.cell].fill(origin);
  }
}

}  // namespace trun::device
