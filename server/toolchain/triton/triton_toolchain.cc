#include "server/toolchain/triton/triton_toolchain.h"

#include <filesystem>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "server/toolchain/triton/worker_json.h"
#include "server/toolchain/triton/worker_message.h"

namespace trun {
namespace {

constexpr absl::Duration kOptionsTimeout = absl::Seconds(60);
constexpr uint32_t kMaxPasses = 10000;
constexpr size_t kMaxPassName = 200;

// What a worker's error frame may say, and the code it gets.
absl::Status FromErrorFrame(const nlohmann::json& header) {
  const auto [kind, message, details] = ReadWorkerError(header);
  const Reason reason = ReasonFromName(kind);
  switch (reason) {
    case Reason::kInvalidIr:
    case Reason::kUnknownOption:
    case Reason::kUnsupportedLevel:
    case Reason::kMetadata:
      return InvalidArgument(reason, message, details);
    case Reason::kCompileFailed:
    case Reason::kUnsupportedTarget:
    case Reason::kToolchainBroken:
      return FailedPrecondition(reason, message, details);
    case Reason::kCompileOutOfMemory:
      return ResourceExhausted(reason, message, details);
    default:
      return FailedPrecondition(Reason::kCompileFailed, absl::StrCat("the compile worker says: ", message),
                                details);
  }
}

absl::StatusOr<nlohmann::json> RequestHeader(const StageRequest& request) {
  if (request.from == Level::kUnspecified || request.to == Level::kUnspecified ||
      request.from >= request.to) {
    return InvalidArgument(Reason::kUnsupportedLevel,
                           absl::StrCat("there is no way from level '", LevelName(request.from), "' to '",
                                        LevelName(request.to), "'"));
  }
  TRUN_ASSIGN_OR_RETURN(nlohmann::json options, OptionsToJson(request.options));
  nlohmann::json metadata = nullptr;
  if (!request.metadata_json.empty() && !ParseJsonObject(request.metadata_json, &metadata)) {
    return InvalidArgument(Reason::kMetadata, "the metadata is not a JSON object");
  }
  return nlohmann::json{
      {"op", "compile"},
      {"from", std::string(LevelName(request.from))},
      {"to", std::string(LevelName(request.to))},
      {"target", TargetToJson(request.target)},
      {"options", std::move(options)},
      {"metadata", std::move(metadata)},
      {"file", request.file_name},
      {"passes", request.on_pass != nullptr},
      {"resume_after", request.resume_after},
  };
}

// Nothing unless the frame is a stage that may follow `last` on the way to `to`.
std::optional<StageResult> ReadStage(WorkerAnswer* answer, Level last, Level to) {
  StageResult result;
  const absl::StatusOr<Level> level = LevelFromName(JsonString(answer->header, "level"));
  const int64_t ns = JsonInteger(answer->header, "ns", -1);
  nlohmann::json metadata;
  if (!level.ok() || *level <= last || *level > to || ns < 0 || answer->body.empty() ||
      !ParseJsonObject(JsonString(answer->header, "metadata"), &metadata)) {
    return std::nullopt;
  }
  result.level = *level;
  result.bytes = std::move(answer->body);
  result.metadata_json = CanonicalJson(metadata);
  result.time = absl::Nanoseconds(ns);
  return result;
}

// Nothing unless the frame is the pass that may come next.
std::optional<PassResult> ReadPass(WorkerAnswer* answer, const StageRequest& request, uint32_t next) {
  const absl::StatusOr<Level> stage = LevelFromName(JsonString(answer->header, "stage"));
  const auto changed = answer->header.find("changed");
  const int64_t ns = JsonInteger(answer->header, "ns", -1);
  PassResult pass;
  pass.name = PrintableText(JsonString(answer->header, "name"));
  const bool is_sound = request.on_pass != nullptr && stage.ok() && *stage >= request.from &&
                        *stage <= request.to && changed != answer->header.end() && changed->is_boolean() &&
                        ns >= 0 && JsonInteger(answer->header, "index", -1) == next && next < kMaxPasses &&
                        !pass.name.empty() && pass.name.size() <= kMaxPassName &&
                        changed->get<bool>() != answer->body.empty();
  if (!is_sound) return std::nullopt;
  pass.stage = *stage;
  pass.index = next;
  pass.changed = changed->get<bool>();
  pass.time = absl::Nanoseconds(ns);
  pass.ir = std::move(answer->body);
  return pass;
}

}  // namespace

TritonToolchain::TritonToolchain(TritonToolchainOptions options)
    : options_(std::move(options)), pool_(options_.pool) {}

TritonToolchain::~TritonToolchain() {
  if (!delete_when_unused_) return;
  std::error_code ignored;  // what is left is deleted by the registry's next start
  std::filesystem::remove_all(options_.info.path, ignored);
}

ToolchainInfo TritonToolchain::info() const {
  ToolchainInfo info = options_.info;
  if (options_.frontend != nullptr) info.frontend_id = options_.frontend->id();
  const WorkerPool::Load load = pool_.load();
  info.warm_workers = load.warm;
  info.busy_workers = load.busy;
  return info;
}

void TritonToolchain::Prewarm(int workers) {
  if (options_.info.usable.ok()) pool_.Prewarm(workers);
}

absl::Status TritonToolchain::Check() {
  TRUN_RETURN_IF_ERROR(options_.info.usable);
  auto worker = pool_.Acquire(options_.pool.command.start_timeout);
  if (!worker.ok()) return worker.status();
  if ((*worker)->triton_version() == options_.info.version) return absl::OkStatus();
  return FailedPrecondition(Reason::kToolchainBroken,
                            absl::StrCat(options_.info.path, " holds Triton ", (*worker)->triton_version(),
                                         ", not ", options_.info.version));
}

absl::StatusOr<std::vector<ToolchainOption>> TritonToolchain::Options(const std::string& backend) {
  TRUN_RETURN_IF_ERROR(options_.info.usable);
  {
    MutexLock lock(&mu_);
    const auto it = option_lists_.find(backend);
    if (it != option_lists_.end()) return it->second;
  }
  auto worker = pool_.Acquire(kOptionsTimeout);
  if (!worker.ok()) return worker.status();
  const WorkerLimits limits{Clock::Real()->Now() + kOptionsTimeout, options_.memory_limit_bytes};
  TRUN_RETURN_IF_ERROR((*worker)->Send({{"op", "options"}, {"backend", backend}}, "", limits));
  TRUN_ASSIGN_OR_RETURN(const WorkerAnswer answer, (*worker)->Receive(limits));
  const std::string op = JsonString(answer.header, "op");
  if (op == "error") return FromErrorFrame(answer.header);
  const auto rows = answer.header.find("options");
  if (op != "options" || rows == answer.header.end() || !rows->is_array())
    return (*worker)->Distrust("no option list");
  std::vector<ToolchainOption> list;
  for (const nlohmann::json& row : *rows) {
    nlohmann::json value;
    if (!row.is_object() || !ParseJsonValue(JsonString(row, "default"), &value)) {
      return (*worker)->Distrust("an option without a default");
    }
    list.push_back({PrintableText(JsonString(row, "name")), PrintableText(JsonString(row, "type")),
                    CanonicalJson(value)});
  }
  MutexLock lock(&mu_);
  return option_lists_[backend] = std::move(list);
}

absl::Status TritonToolchain::Compile(const StageRequest& request,
                                      const std::function<StageDecision(StageResult)>& on_stage) {
  TRUN_RETURN_IF_ERROR(options_.info.usable);
  TRUN_ASSIGN_OR_RETURN(const nlohmann::json header, RequestHeader(request));
  // Idle workers may have been killed just before they were taken, all of them at once (a killed process
  // takes a while to go): that is no reason to fail this request.
  bool delivered = false;
  absl::Status status;
  for (int tries = 0; tries <= pool_.max_workers(); ++tries) {
    status = CompileOnce(header, request, on_stage, &delivered);
    if (delivered || GetReason(status) != Reason::kWorkerLost) break;
  }
  return status;
}

absl::Status TritonToolchain::CompileOnce(const nlohmann::json& header, const StageRequest& request,
                                          const std::function<StageDecision(StageResult)>& on_stage,
                                          bool* delivered) {
  auto worker = pool_.Acquire(request.deadline);
  if (!worker.ok()) return worker.status();
  if (request.is_abandoned != nullptr && request.is_abandoned()) {
    return MakeError(absl::StatusCode::kCancelled, Reason::kCancelled,
                     "nobody waits for this compile any more; it was not begun");
  }
  const WorkerLimits limits{
      Clock::Real()->Now() + request.deadline,
      request.memory_limit_bytes != 0 ? request.memory_limit_bytes : options_.memory_limit_bytes,
      request.is_abandoned, request.on_quiet};
  (*worker)->TakeLog();
  TRUN_RETURN_IF_ERROR((*worker)->Send(header, request.ir, limits));
  if (request.on_started != nullptr) request.on_started();
  Level last = request.from;
  bool stopped = false;
  uint32_t passes = 0;
  while (true) {
    TRUN_ASSIGN_OR_RETURN(WorkerAnswer answer, (*worker)->Receive(limits));
    const std::string op = JsonString(answer.header, "op");
    if (op == "error") return FromErrorFrame(answer.header);
    if (op == "done") {
      if (!stopped && last != request.to) return (*worker)->Distrust("it left out stages");
      return absl::OkStatus();
    }
    if (op == "pass") {
      std::optional<PassResult> pass = stopped ? std::nullopt : ReadPass(&answer, request, passes++);
      if (!pass) return (*worker)->Distrust("its answer is not of the protocol");
      *delivered = true;
      request.on_pass(*std::move(pass));
      continue;
    }
    std::optional<StageResult> stage =
        op == "stage" && !stopped ? ReadStage(&answer, last, request.to) : std::nullopt;
    if (!stage) return (*worker)->Distrust("its answer is not of the protocol");
    last = stage->level;
    stage->log = (*worker)->TakeLog();
    *delivered = true;
    stopped = on_stage(*std::move(stage)) == StageDecision::kStop;
    if (last == request.to) {
      stopped = true;  // the last stage is not answered
      continue;
    }
    TRUN_RETURN_IF_ERROR((*worker)->Send({{"op", stopped ? "stop" : "continue"}}, "", limits));
    if (!stopped && request.on_started != nullptr) request.on_started();
  }
}

}  // namespace trun
