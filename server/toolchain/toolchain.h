// The seam between the compile pipeline and the compilers: one pinned Triton (with its ptxas).
#ifndef TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_H_
#define TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"
#include "common/ir/target.h"

namespace trun {

class SourceFrontend;

// Option name → JSON value. Canonical: keys sorted, values in minimal JSON.
using CompileOptions = std::map<std::string, std::string>;

struct ToolchainOption {
  std::string name;
  std::string type;  // "int", "bool", "str", "tuple", ...
  std::string default_json;
};

struct ToolchainInfo {
  std::string name;     // "3.9.0", or the name given on adoption
  std::string version;  // Triton's
  std::string
      id;  // hex digest of whatever can change the output: Triton's build, both ptxas, our worker's code
  std::string frontend_id;  // of SourceFrontend::id; "" where it has none
  std::string path;
  bool adopted = false;
  std::vector<std::string> ptxas_versions;
  absl::Status usable;   // kToolchainBroken with the reason otherwise
  int warm_workers = 0;  // idle, ready to compile
  int busy_workers = 0;
};

// One pass of a stage, as the toolchain's own code ran it.
struct PassResult {
  Level stage = Level::kUnspecified;  // being made
  std::string name;                   // "ttgir/accelerate_matmul"; "ttgir/cse#2" is the second of that name
  uint32_t index = 0;                 // from 0, over all stages
  bool changed = false;               // the module's text
  absl::Duration time;
  std::string ir;  // the module after it; empty where it did not change
};

struct StageRequest {
  Level from = Level::kUnspecified;
  std::string ir;  // text of that level
  Level to = Level::kUnspecified;
  Target target;
  CompileOptions options;
  std::string metadata_json;  // given with the file; "" where there is none
  std::string file_name;      // for messages
  absl::Duration deadline = absl::Seconds(120);
  uint64_t memory_limit_bytes = 0;  // of the worker; 0: the pool's default
  // True once nobody waits for the result: asked now and then while it runs, from Compile's thread. Null:
  // never.
  std::function<bool()> is_abandoned;
  // Called, from Compile's thread, whenever the compiler was set to work: at the start, and after each stage
  // that it goes on from. Null: nobody wants to know.
  std::function<void()> on_started;
  // Called, from Compile's thread, when the compiler has been at work for some 20 ms since it was last heard
  // of. What costs time has its place here: short stages have it all to themselves. Null: nothing.
  std::function<void()> on_quiet;
  // Begin after this pass: `ir` is what it left behind. A name as PassResult has it, or its last part where
  // only one pass has that.
  std::string resume_after;
  // Where set, passes run one by one and each is told, from the thread that called Compile.
  std::function<void(PassResult)> on_pass;
};

// One finished stage.
struct StageResult {
  Level level = Level::kUnspecified;
  std::string bytes;
  std::string metadata_json;  // as it stands after this stage, canonical JSON
  absl::Duration time;
  std::string
      log;  // what the compiler said meanwhile (warnings), printable; bounded, and empty more often than not
};

// What to do after a stage: a caller that finds the rest in its cache stops there.
enum class StageDecision { kContinue, kStop };

// Thread-safe. Compile blocks its caller; several run at once, as many as the pool has workers.
class Toolchain {
 public:
  virtual ~Toolchain() = default;

  virtual ToolchainInfo info() const = 0;

  // Every option of this version for a backend ("cuda"). FAILED_PRECONDITION kToolchainBroken.
  virtual absl::StatusOr<std::vector<ToolchainOption>> Options(const std::string& backend) = 0;

  // Runs the stages after `from` up to `to`, and calls `on_stage` after each, from the calling thread.
  // REQUIRES: from < to. INVALID_ARGUMENT: kInvalidIr (details: line, column), kUnknownOption (details:
  // option, and pass for a pass that is none), kUnsupportedLevel, kMetadata. FAILED_PRECONDITION:
  // kCompileFailed (details: crashed, when its worker died of it; message ends with the log's tail),
  // kUnsupportedTarget, kToolchainBroken. DEADLINE_EXCEEDED: kCompileTimeout. RESOURCE_EXHAUSTED:
  // kCompileOutOfMemory. UNAVAILABLE: kWorkerLost (killed from outside: worth a retry). CANCELLED kCancelled:
  // it was abandoned. Whatever happens to the worker, the pool is whole for the next call.
  virtual absl::Status Compile(const StageRequest& request,
                               const std::function<StageDecision(StageResult)>& on_stage) = 0;

  // Lowers Python and Gluon source with this Triton; null where the toolchain has none. Lives as long as
  // this.
  virtual SourceFrontend* frontend() { return nullptr; }

  // Gets ready to run `workers` compiles at once, in the background. A hint: an implementation may ignore it.
  virtual void Prewarm(int workers) {}
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_H_
