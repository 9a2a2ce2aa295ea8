// One compile of one file by one toolchain: the stages that nobody has made yet, each once.
#ifndef TRUN_SERVER_COMPILE_COMPILE_RUN_H_
#define TRUN_SERVER_COMPILE_COMPILE_RUN_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "server/cache/kernel_cache.h"
#include "server/compile/compile_key.h"
#include "server/compile/compile_pipeline.h"
#include "server/compile/single_flight.h"
#include "server/compile/toolchain_choice.h"

namespace trun {

// True for errors that the same request meets again for as long as its toolchain is the same.
bool IsDeterministic(const absl::Status& status);
// Those of them by which a toolchain says that another one may do it.
bool IsRefusal(const absl::Status& status);
absl::Status FromCachedError(const CachedError& error);
StageEvent DoneEvent(Level level, absl::Duration time, bool cached, uint64_t bytes);

// Borrows from both.
CompileContext MakeContext(const CompileRequest& request, const ToolchainChoice& choice);

// Thread-compatible; lives for one call. Borrows all that it is given.
class CompileRun {
 public:
  struct Setting {
    KernelCache* cache = nullptr;
    SingleFlight* flights = nullptr;
    Clock* clock = nullptr;
    absl::Duration error_ttl;
    absl::Duration refusal_ttl;
  };
  // `key` is that of the request, `request.options` are canonical; `deadline` is by `setting.clock`.
  CompileRun(const Setting& setting, const CompileRequest& request, const ToolchainChoice& choice,
             const CacheKey& key, absl::Time deadline,
             const std::function<void(const StageEvent&)>& on_event);
  ~CompileRun();

  // Fills artifacts() up to the request's last level and stores them. Errors as CompilePipeline::Compile.
  absl::Status Run();

  // Of every level from the given one to the last one reached.
  const std::map<Level, std::string>& artifacts() const { return made_; }
  const std::string& metadata_json() const { return metadata_; }
  // What the compiler said on the way from the given level, in order.
  std::string log() const { return LogAfter(request_.level); }

  bool joined() const { return joined_; }
  uint64_t stages_run() const { return stages_run_; }
  uint64_t stages_shared() const { return stages_shared_; }
  bool store_failed() const { return store_failed_; }

 private:
  struct Point {  // a level on the way, and the name of what follows from it
    Level level = Level::kUnspecified;
    CacheKey key;
    bool is_stored = false;  // its entry has all that this run has
  };

  absl::Status Advance();
  absl::Status TakeStored();
  absl::Status RunToolchain();
  absl::Status RunFrontend();
  void TakePass(PassResult pass);
  std::function<bool()> IsAbandoned() const;
  absl::Status TakeStage(StageResult stage, StageDecision* decision);
  void Fail(const absl::Status& status);
  void Store();
  std::string KernelName() const;
  CacheEntry EntryFrom(Level level, const std::string& name) const;
  std::string LogAfter(Level level) const;
  void Emit(const StageEvent& event) const;
  void EmitStarted(Level level) const;
  void EmitWaiting() const;
  void TellDone();

  const Setting setting_;
  const CompileRequest& request_;
  const ToolchainChoice& choice_;
  const absl::Time deadline_;
  const std::function<void(const StageEvent&)>& on_event_;
  const CompileContext context_;  // of the stages after the first: a plan of passes is the first one's own

  std::map<Level, std::string> made_;
  std::string metadata_;
  std::map<Level, std::string> logs_;  // of the stages that ended there
  std::vector<Point> way_;             // the last one is where the run stands
  std::vector<std::unique_ptr<SingleFlight::Lease>> leases_;
  std::vector<StageEvent> untold_;  // ends of stages, until the next one runs
  bool joined_ = false;
  uint64_t stages_run_ = 0;
  uint64_t stages_shared_ = 0;
  bool store_failed_ = false;
};

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_COMPILE_RUN_H_
