#include "server/device/emulator/debug/debugger.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/memory/address_space.h"

namespace trun::device {
namespace {

constexpr uint64_t kMaxRead = uint64_t{1} << 20;

std::array<uint32_t, 3> IndexOf(const Warp& warp, uint32_t lane) {
  const std::array<uint32_t, 3>& block = warp.worker->launch->dimensions.block;
  const uint32_t thread = ThreadOf(warp, lane);
  return {thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]};
}

// Registers that a lane has written, by value; lanes of one warp side by side.
using Written = std::map<uint32_t, uint32_t>;

class StopAt final : public Stop {
 public:
  // `pc`: the instruction that has not run yet.
  StopAt(Warp& warp, uint32_t lane, uint32_t pc, const Written& written)
      : warp_(warp), lane_(lane), pc_(pc), written_(written) {}

  absl::StatusOr<uint64_t> ReadRegister(absl::string_view name) const override {
    const OperandMap& map = *warp_.program->operands;
    bool known = false, alive = false;
    for (uint32_t v = 0; v < map.values.size(); ++v) {
      const RegisterInfo& info = map.values[v];
      if (info.name != name) continue;
      known = true;
      if (info.cell != kNoCell && !info.AliveAt(pc_)) continue;
      alive = true;
      if (info.cell != kNoCell && !WrittenBy(v)) continue;
      return Bits(info);
    }
    if (!known) {
      return NotFound(Reason::kArgument, absl::StrCat("the kernel has no register '", name,
                                                      "'; here it has: ", absl::StrJoin(Registers(), ", ")));
    }
    return FailedPrecondition(
        Reason::kArgument, absl::StrCat("register ", name,
                                        alive ? " has not been written by this thread"
                                              : " holds no value here: nothing reads it any more, or yet"));
  }

  std::vector<std::string> Registers() const override {
    std::vector<std::string> names;
    const OperandMap& map = *warp_.program->operands;
    for (uint32_t v = 0; v < map.values.size(); ++v) {
      const RegisterInfo& info = map.values[v];
      if (!info.name.empty() && info.AliveAt(pc_) && WrittenBy(v)) names.emplace_back(info.name);
    }
    return names;
  }

  absl::StatusOr<std::string> ReadMemory(absl::string_view space, uint64_t address,
                                         uint64_t bytes) const override {
    if (bytes > kMaxRead) {
      return InvalidArgument(Reason::kTooLarge,
                             absl::StrCat("at most ", kMaxRead, " bytes are read at once"));
    }
    if (space == "shared") address += kSharedWindow;
    if (space == "local") address += kLocalWindow;
    if (space == "param") address += kParamWindow;
    const uint8_t* from = ResolveGeneric(warp_, lane_, address, bytes);
    if (from == nullptr) {
      return MakeError(absl::StatusCode::kOutOfRange, Reason::kIllegalAddress,
                       absl::StrCat(bytes, " bytes at 0x", absl::Hex(address), " cannot be read"));
    }
    return std::string(reinterpret_cast<const char*>(from), bytes);
  }

 private:
  bool WrittenBy(uint32_t value) const {
    const auto it = written_.find(value);
    return it != written_.end() && (it->second >> lane_ & 1) != 0;
  }
  uint64_t Bits(const RegisterInfo& info) const {
    switch (info.width) {
      case Width::kPredicate:
        return warp_.Predicate(info.offset) >> lane_ & 1;
      case Width::k32:
        return warp_.U32(info.offset)[lane_];
      default:
        return warp_.U64(info.offset)[lane_];
    }
  }

  Warp& warp_;
  const uint32_t lane_;
  const uint32_t pc_;
  const Written& written_;
};

}  // namespace

class Debugger::Impl final : public Watcher {
 public:
  explicit Impl(OnStop on_stop) : on_stop_(std::move(on_stop)) {}

  void CtaStarted(Cta& cta) override {
    written_[&cta].assign(cta.warp_count, {});
    if (stepping_ != DebugAction::kContinue && step_cta_ == &cta) stepping_ = DebugAction::kContinue;
  }

  bool Before(const WatchedStep& step) override {
    if (stepping_ != DebugAction::kContinue && Follows(step)) {
      const InstructionSite& site = step.site();
      const bool line =
          site.source_line != 0 && (site.source_line != step_line_ || site.source_file != step_file_);
      if (stepping_ == DebugAction::kStepInstruction || line) {
        stepping_ = DebugAction::kContinue;
        if (!StopHere(step, step_lane_, step.pc, StopReason::kStep, 0)) return false;
        return true;
      }
    }
    for (const auto& [number, breakpoint] : breakpoints_) {
      if (!Fits(step, breakpoint)) continue;
      const int lane = LaneOf(step, breakpoint.threads, step.mask);
      if (lane >= 0 && ComesAnew(step, static_cast<uint32_t>(lane), number) &&
          !StopHere(step, static_cast<uint32_t>(lane), step.pc, StopReason::kBreakpoint, number)) {
        return false;
      }
    }
    return true;
  }

  bool After(const WatchedStep& step) override {
    if (step.result == Step::kWait) return true;
    std::vector<Written>& warps = written_[step.warp.cta];
    for (const OperandRef& ref : step.operands()) {
      if (ref.is_definition) warps[step.warp.index][ref.value] |= step.mask;
    }
    last_[&step.warp] = step.pc;
    for (const auto& [number, watchpoint] : watchpoints_) {
      const uint32_t lanes = LanesThatWrote(step, watchpoint);
      const int lane = lanes == 0 ? -1 : LaneOf(step, watchpoint.threads, lanes);
      if (lane >= 0 &&
          !StopHere(step, static_cast<uint32_t>(lane), step.pc + 1, StopReason::kWatchpoint, number))
        return false;
    }
    return true;
  }

  OnStop on_stop_;
  std::map<int, Breakpoint> breakpoints_;
  std::map<int, Watchpoint> watchpoints_;
  int next_ = 1;

 private:
  bool Follows(const WatchedStep& step) const {
    return step.warp.cta == step_cta_ && step.warp.index == step_warp_ &&
           (step.active >> step_lane_ & 1) != 0;
  }

  // Instructions side by side of one line are one stop.
  bool ComesAnew(const WatchedStep& step, uint32_t, int number) {
    const Breakpoint& breakpoint = breakpoints_[number];
    const auto last = last_.find(&step.warp);
    if (last == last_.end() || last->second + 1 != step.pc) return true;
    const InstructionSite& before = step.warp.program->sites[last->second];
    return breakpoint.ptx_line != 0 ? before.line != breakpoint.ptx_line
                                    : before.source_line != breakpoint.source_line ||
                                          before.source_file != step.site().source_file;
  }

  static bool Fits(const WatchedStep& step, const Breakpoint& breakpoint) {
    const InstructionSite& site = step.site();
    if (breakpoint.ptx_line != 0) return site.line == breakpoint.ptx_line;
    if (site.source_line != breakpoint.source_line) return false;
    if (breakpoint.source_file.empty()) return true;
    const auto file = step.warp.program->files.find(site.source_file);
    return file != step.warp.program->files.end() &&
           (file->second == breakpoint.source_file ||
            absl::EndsWith(file->second, absl::StrCat("/", breakpoint.source_file)));
  }

  // The lowest lane of `lanes` that the filter lets through; -1: none.
  static int LaneOf(const WatchedStep& step, const ThreadFilter& filter, uint32_t lanes) {
    if (filter.program && *filter.program != step.warp.cta->index) return -1;
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      if (!filter.thread || *filter.thread == IndexOf(step.warp, static_cast<uint32_t>(lane))) return lane;
    }
    return -1;
  }

  static uint32_t LanesThatWrote(const WatchedStep& step, const Watchpoint& watchpoint) {
    uint32_t lanes = 0;
    if (!watchpoint.reg.empty()) {
      for (const OperandRef& ref : step.operands()) {
        if (ref.is_definition && step.info(ref).name == watchpoint.reg) lanes |= step.mask;
      }
      return lanes;
    }
    for (const NotedAccess& access : step.accesses) {
      if (access.is_write && access.space == Space::kGlobal &&
          access.address < watchpoint.address + watchpoint.bytes &&
          watchpoint.address < access.address + access.bytes) {
        lanes |= 1u << access.lane;
      }
    }
    return lanes;
  }

  // False: the launch is to end.
  bool StopHere(const WatchedStep& step, uint32_t lane, uint32_t pc, StopReason reason, int number) {
    StopAt stop(step.warp, lane, pc, written_[step.warp.cta][step.warp.index]);
    const InstructionSite& site = step.site();
    stop.reason = reason;
    stop.number = number;
    stop.program = step.warp.cta->index;
    stop.thread = IndexOf(step.warp, lane);
    stop.instruction = std::string(site.text);
    stop.ptx_line = site.line;
    const auto file = step.warp.program->files.find(site.source_file);
    if (file != step.warp.program->files.end()) stop.source_file = file->second;
    stop.source_line = site.source_line;
    stepping_ = on_stop_(stop);
    step_cta_ = step.warp.cta;
    step_warp_ = step.warp.index;
    step_lane_ = lane;
    step_line_ = site.source_line;
    step_file_ = site.source_file;
    if (stepping_ != DebugAction::kEnd) return true;
    Raise(step.warp, lane, Reason::kCancelled, "the debugger ended the launch");
    return false;
  }

  std::map<const Cta*, std::vector<Written>> written_;  // by warp
  std::map<const Warp*, uint32_t> last_;                // instruction
  DebugAction stepping_ = DebugAction::kContinue;
  const Cta* step_cta_ = nullptr;
  uint32_t step_warp_ = 0;
  uint32_t step_lane_ = 0;
  uint32_t step_line_ = 0;
  uint32_t step_file_ = 0;
};

Debugger::Debugger(OnStop on_stop) : impl_(std::make_unique<Impl>(std::move(on_stop))) {}
Debugger::~Debugger() = default;

absl::StatusOr<int> Debugger::Add(const Breakpoint& breakpoint) {
  if ((breakpoint.ptx_line != 0) == (breakpoint.source_line != 0)) {
    return InvalidArgument(Reason::kArgument, "a breakpoint is at a PTX line or at a source line");
  }
  impl_->breakpoints_[impl_->next_] = breakpoint;
  return impl_->next_++;
}

absl::StatusOr<int> Debugger::Add(const Watchpoint& watchpoint) {
  if (watchpoint.reg.empty() == (watchpoint.bytes == 0)) {
    return InvalidArgument(Reason::kArgument, "a watchpoint is for a register or for bytes of memory");
  }
  impl_->watchpoints_[impl_->next_] = watchpoint;
  return impl_->next_++;
}

absl::Status Debugger::Remove(int number) {
  if (impl_->breakpoints_.erase(number) + impl_->watchpoints_.erase(number) == 0) {
    return NotFound(Reason::kArgument, absl::StrCat("there is no breakpoint or watchpoint ", number));
  }
  return absl::OkStatus();
}

Watcher* Debugger::watcher() { return impl_.get(); }

}  // namespace trun::device
