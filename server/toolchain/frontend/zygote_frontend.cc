#include "server/toolchain/frontend/zygote_frontend.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/status.h"
#include "server/toolchain/frontend/frontend_source.h"
#include "server/toolchain/triton/worker_json.h"
#include "server/toolchain/triton/worker_message.h"

namespace trun {
namespace {

constexpr size_t kMaxLogBytes = 64 << 10;
constexpr uint64_t kTritonMemoryBytes = uint64_t{2} << 30;  // what the zygote and its copy have anyhow

absl::Status FromErrorFrame(const nlohmann::json& header) {
  const auto [kind, message, details] = ReadWorkerError(header);
  if (kind == "UNCONFINED") return FailedPrecondition(Reason::kNotPermitted, message, details);
  const Reason reason = ReasonFromName(kind);
  switch (reason) {
    case Reason::kInvalidIr:
    case Reason::kUnknownOption:
    case Reason::kUnsupportedLevel:
      return InvalidArgument(reason, message, details);
    case Reason::kNotPermitted:
      return MakeError(absl::StatusCode::kPermissionDenied, reason, message, details);
    case Reason::kUnsupportedTarget:
    case Reason::kToolchainBroken:
      return FailedPrecondition(reason, message, details);
    case Reason::kCompileOutOfMemory:
      return ResourceExhausted(reason, message, details);
    case Reason::kWorkerLost:
      return Unavailable(reason, message, details);
    default:
      return FailedPrecondition(Reason::kCompileFailed, message, details);
  }
}

absl::Status WriteScripts(const std::string& folder) {
  for (const std::string& place : {folder, folder + "/trun_worker"}) {
    if (mkdir(place.c_str(), 0700) != 0 && errno != EEXIST) {
      return FromErrno(errno, absl::StrCat("cannot make ", place), Reason::kUnavailable);
    }
  }
  for (const auto& [name, content] : FrontendSource()) {
    const std::string path = absl::StrCat(folder, "/", name);
    const std::string temporary = absl::StrCat(path, ".", getpid());
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file || rename(temporary.c_str(), path.c_str()) != 0) {
      return FromErrno(errno, absl::StrCat("cannot write ", path), Reason::kUnavailable);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> RequestHeader(const SourceRequest& request) {
  TRUN_ASSIGN_OR_RETURN(nlohmann::json options, OptionsToJson(request.options));
  return nlohmann::json{
      {"op", "lower"},
      {"from", std::string(LevelName(request.level))},
      {"target", TargetToJson(request.target)},
      {"options", std::move(options)},
  };
}

}  // namespace

absl::StatusOr<std::shared_ptr<ZygoteFrontend>> ZygoteFrontend::Create(const ZygoteFrontendOptions& options) {
  Hasher hasher;
  hasher.Add("trun-frontend-1");
  for (const auto& [name, content] : FrontendSource()) hasher.Add(name).Add(content);
  const std::string id = hasher.Finish().ToHex();
  const std::string folder = absl::StrCat(options.scratch_directory, "/frontend-", id.substr(0, 16));
  TRUN_RETURN_IF_ERROR(WriteScripts(folder));
  WorkerPoolOptions pool;
  pool.command.argv = {options.python,
                       "-s",
                       "-B",
                       "-X",
                       "utf8",
                       absl::StrCat(folder, "/trun_frontend.py"),
                       absl::StrCat("--memory=", options.memory_bytes),
                       absl::StrCat("--layers=", options.layers),
                       absl::StrCat("--unconfined=", options.allow_unconfined ? "allowed" : "refused")};
  pool.command.scratch_directory = options.scratch_directory;
  pool.max_workers = options.max_zygotes;
  pool.idle_retirement = options.idle_retirement;
  return std::shared_ptr<ZygoteFrontend>(new ZygoteFrontend(options, id, std::move(pool)));
}

absl::StatusOr<StageResult> ZygoteFrontend::Lower(const SourceRequest& request) {
  TRUN_ASSIGN_OR_RETURN(const nlohmann::json header, RequestHeader(request));
  // Idle zygotes may have been killed just before they were taken, all of them at once.
  absl::StatusOr<StageResult> result = Internal("no try was made");
  for (int tries = 0; tries <= pool_.max_workers(); ++tries) {
    result = LowerOnce(header, request);
    if (result.ok() || GetReason(result.status()) != Reason::kWorkerLost) break;
  }
  return result;
}

absl::StatusOr<StageResult> ZygoteFrontend::LowerOnce(const nlohmann::json& header,
                                                      const SourceRequest& request) {
  auto zygote = pool_.Acquire(request.deadline);
  if (!zygote.ok()) return zygote.status();
  const absl::Duration allowed = std::min(request.deadline, options_.longest);
  const WorkerLimits limits{Clock::Real()->Now() + allowed, options_.memory_bytes + kTritonMemoryBytes,
                            request.is_abandoned};
  TRUN_RETURN_IF_ERROR((*zygote)->Send(header, request.bundle, limits));
  absl::StatusOr<WorkerAnswer> answer = (*zygote)->Receive(limits);
  if (!answer.ok()) {
    if (GetReason(answer.status()) != Reason::kCompileTimeout) return answer.status();
    return DeadlineExceeded(
        Reason::kCompileTimeout,
        absl::StrCat("lowering the source took longer than ", absl::FormatDuration(allowed),
                     " and was ended: does something in it loop for ever?"));
  }
  if (JsonString(answer->header, "op") == "error") return FromErrorFrame(answer->header);
  StageResult result;
  result.level = LoweredLevel(request.level);
  const int64_t ns = JsonInteger(answer->header, "ns", -1);
  nlohmann::json metadata;
  if (JsonString(answer->header, "op") != "stage" ||
      JsonString(answer->header, "level") != LevelName(result.level) || ns < 0 || answer->body.empty() ||
      !ParseJsonObject(JsonString(answer->header, "metadata"), &metadata)) {
    return (*zygote)->Distrust("its answer is not of the protocol");
  }
  result.bytes = std::move(answer->body);
  result.metadata_json = CanonicalJson(metadata);
  result.time = absl::Nanoseconds(ns);
  result.log = PrintableText(JsonString(answer->header, "log").substr(0, kMaxLogBytes));
  return result;
}

}  // namespace trun
