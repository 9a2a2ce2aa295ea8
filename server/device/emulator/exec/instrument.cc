#include "server/device/emulator/exec/instrument.h"

#include <utility>

#include "absl/strings/string_view.h"

namespace trun::device {
namespace {

// Operations that may wait, or merge lanes: the interpreter looks at their guard.
bool KeepsGuard(absl::string_view text) {
  for (const absl::string_view opcode :
       {"shfl", "vote", "match", "redux", "elect", "bar", "barrier", "mma", "wmma", "wgmma", "ldmatrix",
        "stmatrix", "movmatrix", "activemask"}) {
    if (text.substr(0, opcode.size()) == opcode &&
        (text.size() == opcode.size() || text[opcode.size()] == '.')) {
      return true;
    }
  }
  return false;
}

Step RunWatched(Warp& warp, const Instruction&, uint32_t mask) {
  return warp.worker->instrument->Run(warp, mask);
}

}  // namespace

void Instrument::CtaStarted(Cta& cta) {
  for (Watcher* watcher : watchers_) watcher->CtaStarted(cta);
}

void Instrument::CtaEnded(Cta& cta) {
  for (Watcher* watcher : watchers_) watcher->CtaEnded(cta);
}

void Instrument::Note(const NotedAccess& access) {
  accesses_.push_back(access);
  if (access.is_write && keep_old_bytes_) {
    accesses_.back().old_at = static_cast<uint32_t>(old_bytes_.size());
    old_bytes_.insert(old_bytes_.end(), access.host, access.host + access.bytes);
  }
}

Step Instrument::Run(Warp& warp, uint32_t mask) {
  const uint32_t pc = warp.pc;
  const Instruction& in = warp.program->original->code[pc];
  WatchedStep step{warp, pc, mask, warp.active, Step::kNext, {}, nullptr};
  if (warp.program->code[pc].guard < 0 && in.guard >= 0) {
    const uint32_t guard = warp.Predicate(static_cast<uint32_t>(in.guard & ~1));
    step.mask &= (in.guard & 1) != 0 ? ~guard : guard;
  }
  accesses_.clear();
  old_bytes_.clear();
  for (Watcher* watcher : watchers_) {
    if (!watcher->Before(step)) return Step::kFault;
  }
  if (step.mask == 0) return Step::kNext;
  uint32_t allowed = ~0u;  // by the guard, as it was before the instruction
  if (in.guard >= 0) {
    const uint32_t guard = warp.Predicate(static_cast<uint32_t>(in.guard & ~1));
    allowed = (in.guard & 1) != 0 ? ~guard : guard;
  }
  step.result = in.run(warp, in, step.mask);
  if (step.result == Step::kFault) return Step::kFault;
  if (step.result == Step::kNext && warp.program->code[pc].guard < 0 && in.guard < 0) step.mask = warp.active;
  if (step.result == Step::kNext && warp.program->code[pc].guard >= 0) step.mask = warp.active & allowed;
  step.active |= step.mask;
  step.accesses = accesses_;
  step.old_bytes = old_bytes_.data();
  const uint32_t next = std::exchange(warp.pc, pc);  // a fault is at this instruction
  for (Watcher* watcher : watchers_) {
    if (!watcher->After(step)) return Step::kFault;
  }
  warp.pc = next;
  return step.result;
}

std::shared_ptr<const Program> InstrumentProgram(std::shared_ptr<const Program> program) {
  auto copy = std::make_shared<Program>(*program);
  for (size_t i = 0; i < copy->code.size(); ++i) {
    copy->code[i].run = &RunWatched;
    if (!KeepsGuard(copy->sites[i].text)) copy->code[i].guard = -1;
  }
  copy->original = std::move(program);
  return copy;
}

}  // namespace trun::device
