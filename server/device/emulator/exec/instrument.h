// What looks on while a launch runs: checks, traces, debuggers.
//
// A launch without one runs a program of plain operations and pays nothing. A launch with one runs a copy of
// the program in which every instruction is one operation that asks the watchers before and after the plain
// one; such a launch is on one thread, and every access to memory goes through Resolve, which notes it here.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_INSTRUMENT_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_INSTRUMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/program/form.h"
#include "server/device/emulator/program/operand_map.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {

// One access of a lane, allowed and about to be made.
struct NotedAccess {
  uint32_t lane = 0;
  Space space = Space::kGlobal;  // kGlobal, kShared, kLocal or kParam
  Cta* owner = nullptr;          // of shared memory
  uint64_t address = 0;          // as the kernel has it
  uint8_t* host = nullptr;
  uint32_t bytes = 0;
  bool is_write = false;
  uint32_t old_at = 0;  // of a write: where its old bytes are in WatchedStep::old_bytes
};

// One instruction of one warp.
struct WatchedStep {
  Warp& warp;
  uint32_t pc = 0;
  uint32_t mask = 0;                       // lanes that run it
  uint32_t active = 0;                     // lanes that came to it, those included whose guard is off
  Step result = Step::kNext;               // after it
  absl::Span<const NotedAccess> accesses;  // after it
  const uint8_t* old_bytes = nullptr;

  const InstructionSite& site() const { return warp.program->sites[pc]; }
  absl::Span<const OperandRef> operands() const { return warp.program->operands->At(pc); }
  // The source in a slot; null: there is none.
  const OperandRef* Source(uint32_t slot) const {
    for (const OperandRef& ref : operands()) {
      if (!ref.is_definition && ref.slot == slot) return &ref;
    }
    return nullptr;
  }
  const RegisterInfo& info(const OperandRef& ref) const { return warp.program->operands->values[ref.value]; }
};

// Thread-compatible; one launch. Before and After return false after raising a fault, which ends the launch.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void CtaStarted(Cta&) {}
  virtual void CtaEnded(Cta&) {}
  virtual bool Before(const WatchedStep&) { return true; }
  // Also when the instruction has to wait (result kWait), and will be asked for again.
  virtual bool After(const WatchedStep&) { return true; }
};

// Thread-compatible; one launch.
class Instrument {
 public:
  // Does not own the watchers. With `keep_old_bytes` writes carry what they overwrote.
  explicit Instrument(std::vector<Watcher*> watchers, bool keep_old_bytes)
      : watchers_(std::move(watchers)), keep_old_bytes_(keep_old_bytes) {}

  void CtaStarted(Cta& cta);
  void CtaEnded(Cta& cta);
  void Note(const NotedAccess& access);
  Step Run(Warp& warp, uint32_t mask);

 private:
  const std::vector<Watcher*> watchers_;
  const bool keep_old_bytes_;
  std::vector<NotedAccess> accesses_;
  std::vector<uint8_t> old_bytes_;
};

// The copy of `program` that a launch with an instrument runs. `program` is kept alive by it.
std::shared_ptr<const Program> InstrumentProgram(std::shared_ptr<const Program> program);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_INSTRUMENT_H_
