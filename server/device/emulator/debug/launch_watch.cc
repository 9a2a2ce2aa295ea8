#include "server/device/emulator/debug/launch_watch.h"

#include <utility>

#include "server/device/emulator/checks/late_products.h"
#include "server/device/emulator/checks/race_check.h"
#include "server/device/emulator/checks/uninitialized_check.h"
#include "server/device/emulator/debug/debugger.h"

namespace trun::device {

LaunchWatch::LaunchWatch(const Program& program, const CheckOptions& checks, const TraceOptions& trace,
                         std::shared_ptr<LaunchObserver> observer, UnwrittenMemory* unwritten)
    : observer_(std::move(observer)) {
  // The trace first: it shows the instruction that a check then ends.
  if (trace.any()) {
    auto tracer = std::make_unique<Tracer>(trace);
    tracer_ = tracer.get();
    watchers_.push_back(std::move(tracer));
  }
  if (checks.uninitialized) watchers_.push_back(std::make_unique<UninitializedCheck>(program, unwritten));
  const bool races = checks.races || checks.late_async;
  if (races) watchers_.push_back(std::make_unique<RaceCheck>(program, checks.races));
  // Behind the check, which sees what a copy of a register that is still to be written is.
  if (checks.late_async) watchers_.push_back(std::make_unique<LateProducts>(program));
  std::vector<Watcher*> all;
  if (observer_ != nullptr) all.push_back(static_cast<Debugger*>(observer_.get())->watcher());
  for (const auto& watcher : watchers_) all.push_back(watcher.get());
  instrument_ = std::make_unique<Instrument>(std::move(all), races);
}

}  // namespace trun::device
