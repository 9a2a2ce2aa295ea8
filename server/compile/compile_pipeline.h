// From a kernel file of any level to a later one: which stages to run, each once, every result cached.
#ifndef TRUN_SERVER_COMPILE_COMPILE_PIPELINE_H_
#define TRUN_SERVER_COMPILE_COMPILE_PIPELINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"
#include "common/ir/target.h"
#include "server/cache/kernel_cache.h"
#include "server/toolchain/toolchain.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

// What is asked of the passes of a compile.
struct PassPlan {
  bool record = false;  // they run one by one, and a record of them is an artifact (kPassRecordLevel)
  std::string
      resume_after;  // `ir` is what this pass left behind: "ttgir/coalesce"; empty: from the beginning

  // Part of the key; empty where nothing is asked.
  std::string Canonical() const {
    if (!record && resume_after.empty()) return "";
    return (record ? "recorded, after " : "after ") + resume_after;
  }
};

struct CompileRequest {
  Level level = Level::kUnspecified;  // of `ir`
  std::string ir;
  std::string file_name;      // for messages; not part of the key
  std::string metadata_json;  // given with the file; "" where there is none
  Target target;
  std::string toolchain;                   // name; empty: chosen (CompileOutcome::toolchain_reason says why)
  CompileOptions options;                  // values are JSON; brought into canonical form here
  Level last_level = Level::kUnspecified;  // REQUIRED: what the caller's device loads, or later than that
  std::string kernel_name;                 // of a file with several; empty: the only one
  absl::Duration deadline =
      absl::ZeroDuration();  // for the whole call; zero: CompilePipelineOptions' default
  // True once the caller wants no result any more; asked now and then, from the calling thread. Null: never.
  std::function<bool()> is_cancelled;
  bool recompile = false;       // do not look into the cache; the result replaces what it has
  std::string tenant;           // who asks: recorded in the cache entry
  std::string instrumentation;  // canonical text of an instrumentation plan; "" for none. Part of the key.
  PassPlan passes;              // part of the key
};

// What happens during a compile, in order: kStarted before a stage that a toolchain runs, kDone after each
// stage (`cached`: taken from the cache, with no kStarted before it), kPass after each pass of a compile that
// records them. kWaiting says nothing new: the compiler is at work and there is time to pass on what was
// told.
struct StageEvent {
  enum class Kind { kStarted, kDone, kPass, kWaiting };
  Kind kind = Kind::kDone;
  Level level = Level::kUnspecified;
  absl::Duration time;
  bool cached = false;
  uint64_t bytes = 0;
  std::string pass;      // kPass: its name, as in PassResult
  uint32_t index = 0;    // kPass
  bool changed = false;  // kPass
};

struct ArtifactDescription {
  Level level = Level::kUnspecified;
  uint64_t bytes = 0;
  Digest digest;
};

// A finished kernel, shared between everybody who asked for it. Immutable.
struct KernelBuild {
  // `kernel.artifacts` has the last level's bytes at least; the others are fetched by
  // CompilePipeline::ReadArtifact.
  CompiledKernel kernel;
  std::vector<ArtifactDescription> artifacts;  // every level of it, from the given one on
  Level last_level = Level::kUnspecified;
  std::string toolchain;  // name; empty when nothing had to be compiled (last_level is the given one)
  CacheKey key;
  std::string log;  // warnings of the toolchain
};

struct CompileOutcome {
  std::shared_ptr<const KernelBuild> build;
  std::string toolchain_reason;  // why this toolchain, for people
  bool cached = false;           // nothing had to be compiled
  absl::Duration total_time;
};

struct CompilePipelineOptions {
  uint64_t max_ir_bytes = uint64_t{64} << 20;
  uint64_t max_metadata_bytes = uint64_t{1} << 20;
  absl::Duration default_deadline = absl::Seconds(120);
  absl::Duration max_deadline = absl::Hours(1);
  absl::Duration error_ttl = absl::Minutes(5);        // how long a deterministic error is remembered
  uint64_t parsed_bytes = uint64_t{64} << 20;         // bound of the table of finished kernels
  absl::Duration refusal_ttl = absl::Hours(24 * 30);  // that a toolchain refuses a file
  int max_failures = 3;  // of toolchains that fail on a file, when none is named: each may cost seconds
};

struct CompileStatistics {
  uint64_t requests = 0;
  uint64_t cached = 0;  // answered without a compile
  uint64_t failed = 0;
  uint64_t joined = 0;          // waited for somebody else's compile of the same key
  uint64_t stages_run = 0;      // by toolchains
  uint64_t stages_shared = 0;   // found in the cache in the middle of a compile
  uint64_t store_failures = 0;  // results that were returned but could not be stored
};

// Thread-safe. A call blocks its thread for as long as the compile takes: never call it on an RPC thread.
class CompilePipeline {
 public:
  // `cache`, `toolchains` and `clock` outlive it.
  CompilePipeline(KernelCache* cache, ToolchainRegistry* toolchains, Clock* clock,
                  const CompilePipelineOptions& options = {});
  CompilePipeline(const CompilePipeline&) = delete;
  CompilePipeline& operator=(const CompilePipeline&) = delete;
  // REQUIRES: no call is running.
  ~CompilePipeline();

  // `on_event` (may be null) is called from the calling thread, in order. Equal requests at the same time are
  // one compile; each keeps its own deadline. A result that cannot be stored is still returned.
  // INVALID_ARGUMENT: kInvalidIr (empty file too; details: line, column), kUnknownOption, kUnsupportedLevel
  // (no way from the one to the other), kMetadata, kArgument. RESOURCE_EXHAUSTED: kTooLarge (details: limit),
  // kCompileOutOfMemory. NOT_FOUND: kToolchainNotFound. FAILED_PRECONDITION: kCompileFailed,
  // kUnsupportedTarget, kToolchainBroken. DEADLINE_EXCEEDED: kCompileTimeout. UNAVAILABLE: kWorkerLost
  // (retry). CANCELLED: kCancelled, and the worker is free again, when the request is cancelled and no other
  // waits for what it makes.
  absl::StatusOr<CompileOutcome> Compile(const CompileRequest& request,
                                         const std::function<void(const StageEvent&)>& on_event);

  // The bytes of one level of a build. NOT_FOUND kHandle: no such level, or no longer stored.
  absl::StatusOr<std::string> ReadArtifact(const KernelBuild& build, Level level);

  CompileStatistics Statistics();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_COMPILE_PIPELINE_H_
