// Everything that looks on at one launch, put together.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_DEBUG_LAUNCH_WATCH_H_
#define TRUN_SERVER_DEVICE_EMULATOR_DEBUG_LAUNCH_WATCH_H_

#include <memory>
#include <string>
#include <vector>

#include "server/device/device.h"
#include "server/device/emulator/debug/trace.h"
#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/memory/unwritten_memory.h"

namespace trun::device {

// Thread-compatible.
class LaunchWatch {
 public:
  static bool Wanted(const CheckOptions& checks, const TraceOptions& trace, const LaunchObserver* observer) {
    return checks.any() || trace.any() || observer != nullptr;
  }

  // REQUIRES: `program` is an instrumented one and outlives this; `observer` is null or a Debugger.
  LaunchWatch(const Program& program, const CheckOptions& checks, const TraceOptions& trace,
              std::shared_ptr<LaunchObserver> observer, UnwrittenMemory* unwritten);

  Instrument* instrument() { return instrument_.get(); }
  std::string TakeTrace() { return tracer_ == nullptr ? std::string() : tracer_->Take(); }

 private:
  const std::shared_ptr<LaunchObserver> observer_;
  Tracer* tracer_ = nullptr;
  std::vector<std::unique_ptr<Watcher>> watchers_;
  std::unique_ptr<Instrument> instrument_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_DEBUG_LAUNCH_WATCH_H_
