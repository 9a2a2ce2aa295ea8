#include "server/compile/compile_pipeline.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/ir/amd_target.h"
#include "common/ir/pass_record_level.h"
#include "server/artifact/level_detection.h"
#include "server/artifact/metadata.h"
#include "server/compile/build_table.h"
#include "server/compile/compile_key.h"
#include "server/compile/compile_run.h"
#include "server/compile/kernel_reading.h"
#include "server/compile/single_flight.h"
#include "server/compile/toolchain_choice.h"
#include "server/toolchain/source_frontend.h"

namespace trun {
namespace {

bool IsLevelOf(Level level, absl::string_view backend) {
  switch (level) {
    case Level::kPython:
    case Level::kGluon:
    case Level::kTtir:
    case Level::kTtgir:
    case Level::kLlir:
      return true;
    case Level::kPtx:
    case Level::kCubin:
      return backend == "cuda";
    case Level::kAmdgcn:
    case Level::kHsaco:
      return backend == "hip";
    default:
      return false;
  }
}

absl::Status TooLarge(absl::string_view what, uint64_t bytes, uint64_t limit) {
  return ResourceExhausted(Reason::kTooLarge,
                           absl::StrCat(what, " has ", bytes, " bytes; the limit is ", limit),
                           {{"limit", absl::StrCat(limit)}});
}

absl::Status CheckRequest(const CompileRequest& request, const CompilePipelineOptions& options) {
  const std::string file = request.file_name.empty() ? "the kernel file" : request.file_name;
  if (request.ir.empty()) return InvalidArgument(Reason::kInvalidIr, absl::StrCat(file, " is empty"));
  if (request.ir.size() > options.max_ir_bytes)
    return TooLarge(file, request.ir.size(), options.max_ir_bytes);
  if (request.metadata_json.size() > options.max_metadata_bytes) {
    return TooLarge("the metadata", request.metadata_json.size(), options.max_metadata_bytes);
  }
  const absl::string_view backend = request.target.backend;
  if (!IsLevelOf(request.level, backend) || !IsLevelOf(request.last_level, backend) ||
      request.level > request.last_level ||
      (IsSourceLevel(request.level) && request.last_level < LoweredLevel(request.level) &&
       request.last_level != request.level)) {
    return InvalidArgument(Reason::kUnsupportedLevel,
                           absl::StrCat("there is no way from '", LevelName(request.level), "' to '",
                                        LevelName(request.last_level), "' for ", request.target.ToString()));
  }
  return absl::OkStatus();
}

// TTIR and TTGIR say what they are of: metadata of another kernel is refused, not compiled with. What else is
// wrong with the file, the compiler says better.
absl::Status CheckGivenMetadata(const CompileRequest& request) {
  if (request.metadata_json.empty() || IsAmd(request.target) ||
      (request.level != Level::kTtir && request.level != Level::kTtgir)) {
    return absl::OkStatus();
  }
  absl::Status read =
      ReadMetadata(request.metadata_json, request.level, request.ir, request.kernel_name).status();
  return GetReason(read) == Reason::kMetadata ? read : absl::OkStatus();
}

std::vector<ArtifactDescription> Describe(const std::map<Level, std::string>& artifacts) {
  std::vector<ArtifactDescription> out;
  for (const auto& [level, bytes] : artifacts) {
    out.push_back(ArtifactDescription{level, bytes.size(), Digest::Of(bytes)});
  }
  return out;
}

// Where the names and types of a kernel's arguments stand: source says them only once it is lowered.
Level TypedLevel(Level level) { return IsSourceLevel(level) ? LoweredLevel(level) : level; }

// `typed` is the request's file, or what the front end made of it.
KernelSource SourceOf(const CompileRequest& request, absl::string_view typed) {
  return KernelSource{TypedLevel(request.level), typed, request.target, !request.passes.resume_after.empty()};
}

// A file after a pass is of the level that its stage starts from, whatever it looks like.
Level LevelAfterPass(Level given, absl::string_view pass) {
  if (absl::StartsWith(pass, "ttir/") || absl::StartsWith(pass, "ttgir/")) return Level::kTtir;
  if (absl::StartsWith(pass, "llir/")) return Level::kTtgir;
  return given;
}

}  // namespace

struct CompilePipeline::State {
  State(KernelCache* cache, ToolchainRegistry* toolchains, Clock* clock,
        const CompilePipelineOptions& options)
      : cache(cache), toolchains(toolchains), clock(clock), options(options), builds(options.parsed_bytes) {}

  using OnEvent = std::function<void(const StageEvent&)>;

  // Null: a miss.
  absl::StatusOr<std::shared_ptr<const KernelBuild>> FindStored(const CompileRequest& request,
                                                                const CacheKey& key, const OnEvent& on_event);
  absl::StatusOr<std::shared_ptr<const KernelBuild>> BuildAsGiven(const CompileRequest& request,
                                                                  const Digest& ir);
  absl::StatusOr<CompileOutcome> CompileWith(const CompileRequest& request, const ToolchainChoice& choice,
                                             const Digest& ir, absl::Time deadline, const OnEvent& on_event);
  absl::StatusOr<CompileOutcome> TryChoices(const CompileRequest& request, const ToolchainQuestion& question,
                                            const std::vector<ToolchainChoice>& choices, const Digest& ir,
                                            absl::Time start, const OnEvent& on_event);
  absl::StatusOr<CompileOutcome> Compile(const CompileRequest& given, const OnEvent& on_event);
  void Count(const std::function<void(CompileStatistics&)>& change) {
    MutexLock lock(&mu);
    change(counts);
  }

  KernelCache* const cache;
  ToolchainRegistry* const toolchains;
  Clock* const clock;
  const CompilePipelineOptions options;
  SingleFlight flights;
  BuildTable builds;

  Mutex mu;
  CompileStatistics counts ABSL_GUARDED_BY(mu);
};

absl::StatusOr<std::shared_ptr<const KernelBuild>> CompilePipeline::State::FindStored(
    const CompileRequest& request, const CacheKey& key, const OnEvent& on_event) {
  std::shared_ptr<const KernelBuild> build;
  const Level typed = TypedLevel(request.level);
  std::vector<Level> levels = {request.last_level};
  if (typed != request.level && typed != request.last_level) levels.push_back(typed);
  const auto entry = cache->Get(key, levels);
  if (!entry.ok()) return build;  // also when it was damaged: it is removed by now
  if ((*entry)->error.has_value()) return FromCachedError(*(*entry)->error);
  const auto last = (*entry)->artifacts.find(request.last_level);
  const auto types = (*entry)->artifacts.find(typed);
  if (last == (*entry)->artifacts.end()) return build;
  if (typed != request.level && types == (*entry)->artifacts.end()) return build;
  const BuildTable::Name name(key, request.last_level, request.kernel_name);
  build = builds.Find(name, *entry);
  if (build == nullptr) {
    const absl::StatusOr<CacheEntryInfo> info = cache->Info(key);
    if (!info.ok()) return build;  // evicted between the two
    auto made = std::make_shared<KernelBuild>();
    TRUN_ASSIGN_OR_RETURN(
        made->kernel,
        ReadKernel(SourceOf(request, typed == request.level ? request.ir : types->second), request.last_level,
                   last->second, (*entry)->metadata_json, request.kernel_name));
    for (const CacheBlobInfo& blob : info->blobs) {
      if (blob.level > request.last_level && blob.level != kPassRecordLevel) continue;
      made->artifacts.push_back(ArtifactDescription{blob.level, blob.bytes, blob.digest});
    }
    made->last_level = request.last_level;
    made->toolchain = (*entry)->toolchain;
    made->key = key;
    made->log = (*entry)->log;
    build = made;
    builds.Insert(name, *entry, build);
  }
  if (on_event != nullptr) {
    for (const ArtifactDescription& artifact : build->artifacts) {
      if (artifact.level <= request.level || artifact.level == kPassRecordLevel) continue;
      on_event(DoneEvent(artifact.level, absl::ZeroDuration(), true, artifact.bytes));
    }
  }
  return build;
}

// The file is what the device loads: it is read, not compiled, and no toolchain is needed.
absl::StatusOr<std::shared_ptr<const KernelBuild>> CompilePipeline::State::BuildAsGiven(
    const CompileRequest& request, const Digest& ir) {
  const CompileContext context{request.target, {}, &request.options, request.instrumentation, {}, {}};
  const CacheKey key = MakeCompileKey(request.level, ir, request.metadata_json, context);
  const BuildTable::Name name(key, request.last_level, request.kernel_name);
  if (std::shared_ptr<const KernelBuild> build = builds.Find(name, nullptr)) return build;
  TRUN_RETURN_IF_ERROR(CheckLevel(request.level, request.ir, request.file_name));
  auto build = std::make_shared<KernelBuild>();
  TRUN_ASSIGN_OR_RETURN(build->kernel, ReadKernel(SourceOf(request, request.ir), request.last_level,
                                                  request.ir, request.metadata_json, request.kernel_name));
  build->artifacts.push_back(ArtifactDescription{request.level, request.ir.size(), ir});
  build->last_level = request.last_level;
  build->key = key;
  builds.Insert(name, nullptr, build);
  return std::shared_ptr<const KernelBuild>(build);
}

absl::StatusOr<CompileOutcome> CompilePipeline::State::CompileWith(const CompileRequest& request,
                                                                   const ToolchainChoice& choice,
                                                                   const Digest& ir, absl::Time deadline,
                                                                   const OnEvent& on_event) {
  CompileContext context = MakeContext(request, choice);
  const std::string passes = request.passes.Canonical();
  context.passes = passes;
  const CacheKey key = MakeCompileKey(request.level, ir, request.metadata_json, context);
  CompileOutcome outcome;
  outcome.toolchain_reason = choice.reason;
  if (!request.recompile) {
    TRUN_ASSIGN_OR_RETURN(outcome.build, FindStored(request, key, on_event));
    if (outcome.build != nullptr) {
      outcome.cached = true;
      return outcome;
    }
  }
  if (request.passes.resume_after.empty()) {
    TRUN_RETURN_IF_ERROR(CheckLevel(request.level, request.ir, request.file_name));
    TRUN_RETURN_IF_ERROR(CheckGivenMetadata(request));
  }
  CompileRun run({cache, &flights, clock, options.error_ttl, options.refusal_ttl}, request, choice, key,
                 deadline, on_event);
  const absl::Status status = run.Run();
  Count([&](CompileStatistics& counts) {
    counts.joined += run.joined() ? 1 : 0;
    counts.stages_run += run.stages_run();
    counts.stages_shared += run.stages_shared();
    counts.store_failures += run.store_failed() ? 1 : 0;
  });
  TRUN_RETURN_IF_ERROR(status);
  auto build = std::make_shared<KernelBuild>();
  TRUN_ASSIGN_OR_RETURN(
      build->kernel,
      ReadKernel(SourceOf(request, run.artifacts().at(TypedLevel(request.level))), request.last_level,
                 run.artifacts().at(request.last_level), run.metadata_json(), request.kernel_name));
  build->artifacts = Describe(run.artifacts());
  // What could not be stored can only be had from here.
  if (run.store_failed()) {
    for (const auto& [level, bytes] : run.artifacts())
      build->kernel.artifacts[level] = Artifact{level, bytes};
  }
  build->last_level = request.last_level;
  build->toolchain = choice.info.name;
  build->log = run.log();
  build->key = key;
  outcome.cached = run.stages_run() == 0;
  outcome.build = std::move(build);
  return outcome;
}

absl::StatusOr<CompileOutcome> CompilePipeline::State::Compile(const CompileRequest& given,
                                                               const OnEvent& on_event) {
  const absl::Time start = clock->Now();
  TRUN_RETURN_IF_ERROR(CheckRequest(given, options));
  // The file is copied only when its options are not in canonical form: never on the way to a hit without
  // options.
  const CompileRequest* request = &given;
  CompileRequest canonical;
  TRUN_ASSIGN_OR_RETURN(CompileOptions compile_options, CanonicalOptions(given.options));
  const Level level = LevelAfterPass(given.level, given.passes.resume_after);
  if (compile_options != given.options || level != given.level) {
    canonical = given;
    canonical.options = std::move(compile_options);
    canonical.level = level;
    request = &canonical;
    TRUN_RETURN_IF_ERROR(CheckRequest(canonical, options));
  }
  const Digest ir = Digest::Of(request->ir);
  if (request->level == request->last_level) {
    CompileOutcome outcome;
    TRUN_ASSIGN_OR_RETURN(outcome.build, BuildAsGiven(*request, ir));
    outcome.toolchain_reason = "none is needed: the file is of the asked level";
    outcome.cached = true;
    outcome.total_time = clock->Now() - start;
    return outcome;
  }
  std::string triton_version;
  if (request->toolchain.empty() && !request->metadata_json.empty() && !IsAmd(request->target)) {
    TRUN_ASSIGN_OR_RETURN(const KernelMetadata metadata, ParseMetadata(request->metadata_json));
    triton_version = metadata.triton_version;
  }
  const ToolchainQuestion question{request->toolchain, triton_version, request->level, request->ir,
                                   request->target};
  TRUN_ASSIGN_OR_RETURN(const std::vector<ToolchainChoice> choices, ChooseToolchains(*toolchains, question));
  return TryChoices(*request, question, choices, ir, start, on_event);
}

// A refusal costs a parse, and is remembered: every toolchain may be asked. A failure may cost a compile.
absl::StatusOr<CompileOutcome> CompilePipeline::State::TryChoices(const CompileRequest& request,
                                                                  const ToolchainQuestion& question,
                                                                  const std::vector<ToolchainChoice>& choices,
                                                                  const Digest& ir, absl::Time start,
                                                                  const OnEvent& on_event) {
  absl::Duration allowed = request.deadline;
  if (allowed <= absl::ZeroDuration()) allowed = options.default_deadline;
  const absl::Time deadline = start + std::min(allowed, options.max_deadline);
  absl::Status first_error;
  std::string others;
  int failures = 0;
  for (const ToolchainChoice& choice : choices) {
    absl::StatusOr<CompileOutcome> outcome = CompileWith(request, choice, ir, deadline, on_event);
    if (outcome.ok()) {
      if (!first_error.ok()) {
        outcome->toolchain_reason =
            absl::StrCat("the newest that takes the file; ", choices.front().info.name,
                         " refuses it: ", first_error.message().substr(0, 200));
      }
      outcome->total_time = clock->Now() - start;
      return outcome;
    }
    const absl::Status& status = outcome.status();
    // What ended one worker may end others: a request is not given a second one to try.
    const bool is_failure =
        GetReason(status) == Reason::kCompileFailed && GetDetails(status).count("crashed") == 0;
    if (first_error.ok()) {
      first_error = status;
    } else {
      absl::StrAppend(&others, others.empty() ? "" : ", ", choice.info.name);
    }
    // What is wrong with source is told by the newest Triton alone.
    if (IsSourceLevel(request.level)) return status;
    if (!IsRefusal(status) && !(is_failure && ++failures < options.max_failures)) break;
  }
  // One that was named has been given its chance: which other could help is worth saying, for a file that it
  // refuses.
  const std::string advice = IsRefusal(first_error) ? InstallAdvice(*toolchains, question) : "";
  if (others.empty() && advice.empty()) return first_error;
  return MakeError(first_error.code(), GetReason(first_error),
                   absl::StrCat(first_error.message(),
                                others.empty() ? ""
                                               : absl::StrCat("\n(so say ", choices.front().info.name,
                                                              "; refused by ", others, " too)"),
                                advice),
                   GetDetails(first_error));
}

CompilePipeline::CompilePipeline(KernelCache* cache, ToolchainRegistry* toolchains, Clock* clock,
                                 const CompilePipelineOptions& options)
    : state_(std::make_unique<State>(cache, toolchains, clock, options)) {}

CompilePipeline::~CompilePipeline() = default;

absl::StatusOr<CompileOutcome> CompilePipeline::Compile(
    const CompileRequest& request, const std::function<void(const StageEvent&)>& on_event) {
  absl::StatusOr<CompileOutcome> outcome = state_->Compile(request, on_event);
  state_->Count([&](CompileStatistics& counts) {
    ++counts.requests;
    if (!outcome.ok()) ++counts.failed;
    if (outcome.ok() && outcome->cached) ++counts.cached;
  });
  return outcome;
}

absl::StatusOr<std::string> CompilePipeline::ReadArtifact(const KernelBuild& build, Level level) {
  const auto held = build.kernel.artifacts.find(level);
  if (held != build.kernel.artifacts.end()) return held->second.bytes;
  for (const ArtifactDescription& artifact : build.artifacts) {
    if (artifact.level != level) continue;
    absl::StatusOr<std::string> bytes = state_->cache->GetBlob(build.key, level);
    // Replaced by other bytes since: a build promises those that it described.
    if (bytes.ok() && Digest::Of(*bytes) == artifact.digest) return bytes;
    return NotFound(Reason::kHandle, absl::StrCat("the ", LevelName(level),
                                                  " of this kernel is no longer stored: compile it again"));
  }
  return NotFound(Reason::kHandle, absl::StrCat("this kernel was compiled without a ", LevelName(level)));
}

CompileStatistics CompilePipeline::Statistics() {
  MutexLock lock(&state_->mu);
  return state_->counts;
}

}  // namespace trun
