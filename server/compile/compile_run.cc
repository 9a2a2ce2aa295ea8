#include "server/compile/compile_run.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/ir/pass_record_level.h"
#include "server/artifact/metadata.h"
#include "server/compile/pass_record.h"
#include "server/toolchain/source_frontend.h"

namespace trun {
namespace {

CachedError ToCachedError(const absl::Status& status) {
  return CachedError{static_cast<int>(status.code()), std::string(ReasonName(GetReason(status))),
                     std::string(status.message()), GetDetails(status)};
}

// The kernel's name as the compiler says it, for people who look at the cache; empty before it says one.
std::string NameIn(const std::string& metadata_json) {
  const absl::StatusOr<KernelMetadata> metadata = ParseMetadata(metadata_json);
  return metadata.ok() ? metadata->name : std::string();
}

Level NextLevel(Level level, absl::string_view backend) {
  if (IsSourceLevel(level)) return LoweredLevel(level);
  if (level == Level::kLlir && backend != "cuda") return Level::kAmdgcn;
  return static_cast<Level>(static_cast<int>(level) + 1);
}

}  // namespace

CompileContext MakeContext(const CompileRequest& request, const ToolchainChoice& choice) {
  return {request.target,          choice.info.id,          &request.options,
          request.instrumentation, choice.info.frontend_id, {}};
}

// That this toolchain cannot take this file: for as long as both are the same.
bool IsRefusal(const absl::Status& status) {
  return GetReason(status) == Reason::kInvalidIr || GetReason(status) == Reason::kUnsupportedTarget;
}

bool IsDeterministic(const absl::Status& status) {
  switch (GetReason(status)) {
    case Reason::kInvalidIr:
    case Reason::kCompileFailed:
    case Reason::kUnknownOption:
    case Reason::kUnsupportedTarget:
      return true;
    default:
      return false;
  }
}

absl::Status FromCachedError(const CachedError& error) {
  const auto code = static_cast<absl::StatusCode>(error.code);
  if (code == absl::StatusCode::kOk) return Internal("the cache remembers an error that is none");
  return MakeError(code, ReasonFromName(error.reason), error.message, error.details);
}

StageEvent DoneEvent(Level level, absl::Duration time, bool cached, uint64_t bytes) {
  StageEvent event;
  event.level = level;
  event.time = time;
  event.cached = cached;
  event.bytes = bytes;
  return event;
}

CompileRun::CompileRun(const Setting& setting, const CompileRequest& request, const ToolchainChoice& choice,
                       const CacheKey& key, absl::Time deadline,
                       const std::function<void(const StageEvent&)>& on_event)
    : setting_(setting),
      request_(request),
      choice_(choice),
      deadline_(deadline),
      on_event_(on_event),
      context_(MakeContext(request, choice)),
      metadata_(request.metadata_json) {
  made_[request.level] = request.ir;
  way_.push_back(Point{request.level, key, false});
}

CompileRun::~CompileRun() = default;

absl::Status CompileRun::Run() {
  while (way_.back().level < request_.last_level) {
    const absl::Status status = Advance();
    if (!status.ok()) {
      Fail(status);
      return status;
    }
  }
  Store();
  // Only now may others look: they find it in the cache.
  leases_.clear();
  return absl::OkStatus();
}

// One step: what is stored, else what somebody is making, else what the toolchain makes.
absl::Status CompileRun::Advance() {
  // Passes are seen in one go, or not at all.
  if (request_.recompile || request_.passes.record) return RunToolchain();
  const Level before = way_.back().level;
  TRUN_RETURN_IF_ERROR(TakeStored());
  if (way_.back().level != before) return absl::OkStatus();
  const CacheKey key = way_.back().key;
  const bool is_mine =
      std::any_of(leases_.begin(), leases_.end(), [&](const auto& lease) { return lease->key() == key; });
  if (!is_mine) {
    std::unique_ptr<SingleFlight::Lease> lease = setting_.flights->TryLead(key);
    if (lease == nullptr) {
      joined_ = true;
      TRUN_ASSIGN_OR_RETURN(
          const std::optional<SingleFlight::Failure> failure,
          setting_.flights->Wait(key, deadline_ - setting_.clock->Now(), request_.is_cancelled));
      // A failure of a stage that this request needs too. What may go better the next time is tried again.
      const bool is_shared =
          failure.has_value() && failure->reached < request_.last_level &&
          (IsDeterministic(failure->status) || GetReason(failure->status) == Reason::kCompileOutOfMemory);
      return is_shared ? failure->status : absl::OkStatus();
    }
    leases_.push_back(std::move(lease));
    // Its last leader may have ended between the look and the lease.
    TRUN_RETURN_IF_ERROR(TakeStored());
    if (way_.back().level != before) return absl::OkStatus();
  }
  return RunToolchain();
}

// Takes what the cache has under the key of the point where the run stands.
absl::Status CompileRun::TakeStored() {
  const CacheKey key = way_.back().key;
  if (!setting_.cache->Info(key).ok()) return absl::OkStatus();
  absl::StatusOr<CacheEntry> entry = setting_.cache->Read(key);
  if (!entry.ok()) return absl::OkStatus();  // damaged, or gone meanwhile: a miss
  setting_.cache->RecordUse(key);
  if (entry->error.has_value()) return FromCachedError(*entry->error);
  const Level from = way_.back().level;
  Level reached = from;
  for (auto& [level, bytes] : entry->artifacts) {
    if (level <= from || level > request_.last_level) continue;
    Emit(DoneEvent(level, absl::ZeroDuration(), true, bytes.size()));
    if (from != request_.level) ++stages_shared_;
    made_[level] = std::move(bytes);
    reached = level;
  }
  if (reached == from) return absl::OkStatus();
  metadata_ = std::move(entry->metadata_json);
  logs_[reached] = std::move(entry->log);
  way_.back().is_stored = reached == request_.last_level;
  way_.push_back(Point{reached, MakeCompileKey(reached, Digest::Of(made_[reached]), metadata_, context_),
                       reached == request_.last_level});
  return absl::OkStatus();
}

// Null where the request cannot be cancelled.
std::function<bool()> CompileRun::IsAbandoned() const {
  if (request_.is_cancelled == nullptr) return nullptr;
  return [this] {
    return request_.is_cancelled() && std::none_of(leases_.begin(), leases_.end(),
                                                   [](const auto& lease) { return lease->HasWaiters(); });
  };
}

// A tenant's program, in a process of its own; what it gives is IR, which goes on to the ordinary workers.
absl::Status CompileRun::RunFrontend() {
  SourceFrontend* const frontend = choice_.toolchain->frontend();
  if (frontend == nullptr) {
    return InvalidArgument(Reason::kUnsupportedLevel,
                           absl::StrCat("the toolchain ", choice_.info.name, " lowers no source"));
  }
  SourceRequest source;
  source.level = way_.back().level;
  source.bundle = made_.at(source.level);
  source.target = request_.target;
  source.options = request_.options;
  source.deadline = deadline_ - setting_.clock->Now();
  source.is_abandoned = IsAbandoned();
  if (source.deadline <= absl::ZeroDuration()) {
    return DeadlineExceeded(Reason::kCompileTimeout, "the deadline passed before the compile could start");
  }
  EmitStarted(LoweredLevel(source.level));
  EmitWaiting();
  // A front end and a worker start side by side, where there is none yet.
  if (request_.last_level > LoweredLevel(source.level)) choice_.toolchain->Prewarm(1);
  TRUN_ASSIGN_OR_RETURN(StageResult stage, frontend->Lower(source));
  StageDecision ignored;  // the next step begins by looking into the cache
  const absl::Status taken = TakeStage(std::move(stage), &ignored);
  TellDone();
  return taken;
}

absl::Status CompileRun::RunToolchain() {
  if (IsSourceLevel(way_.back().level)) return RunFrontend();
  StageRequest stage;
  stage.from = way_.back().level;
  stage.ir = made_.at(stage.from);
  stage.to = request_.last_level;
  stage.target = request_.target;
  stage.options = request_.options;
  stage.metadata_json = metadata_;
  stage.file_name = request_.file_name;
  stage.deadline = deadline_ - setting_.clock->Now();
  stage.is_abandoned = IsAbandoned();
  if (stage.deadline <= absl::ZeroDuration()) {
    return DeadlineExceeded(Reason::kCompileTimeout, "the deadline passed before the compile could start");
  }
  const auto next = [this](Level level) { return NextLevel(level, request_.target.backend); };
  if (stage.from == request_.level) stage.resume_after = request_.passes.resume_after;
  if (request_.passes.record) {
    made_[kPassRecordLevel] = std::string(kPassRecordMagic);
    stage.on_pass = [this](PassResult pass) { TakePass(std::move(pass)); };
  }
  // A stage's end is told while the next one runs already. One that a second worker begins anew is told once.
  Level started = Level::kUnspecified;
  stage.on_started = [&] {
    TellDone();
    if (std::exchange(started, way_.back().level) != way_.back().level) EmitStarted(next(way_.back().level));
  };
  stage.on_quiet = [this] { EmitWaiting(); };
  absl::Status refused;
  bool is_stopped = false;
  const absl::Status status = choice_.toolchain->Compile(stage, [&](StageResult result) {
    StageDecision decision = StageDecision::kStop;
    if (refused.ok()) refused = TakeStage(std::move(result), &decision);
    is_stopped = decision == StageDecision::kStop;
    return decision;
  });
  TellDone();
  TRUN_RETURN_IF_ERROR(refused);
  TRUN_RETURN_IF_ERROR(status);
  if (request_.passes.record && made_[kPassRecordLevel].size() > kMaxPassRecordBytes) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("the record of the passes is larger than ", kMaxPassRecordBytes,
                                          " bytes: compile to an earlier level"),
                             {{"limit", absl::StrCat(kMaxPassRecordBytes)}});
  }
  if (!is_stopped && way_.back().level < request_.last_level) {
    return Internal(absl::StrCat("the toolchain ", choice_.info.name, " ended at ",
                                 LevelName(way_.back().level), " without an error"));
  }
  return absl::OkStatus();
}

void CompileRun::TakePass(PassResult pass) {
  std::string& record = made_[kPassRecordLevel];
  // Once over the limit nothing more is kept; the error is told when the toolchain has ended.
  if (record.size() <= kMaxPassRecordBytes) AppendPass(pass, &record);
  StageEvent event;
  event.kind = StageEvent::Kind::kPass;
  event.level = pass.stage;
  event.time = pass.time;
  event.bytes = pass.ir.size();
  event.pass = std::move(pass.name);
  event.index = pass.index;
  event.changed = pass.changed;
  Emit(event);
}

absl::Status CompileRun::TakeStage(StageResult stage, StageDecision* decision) {
  if (stage.level <= way_.back().level || stage.level > request_.last_level || stage.bytes.empty()) {
    return Internal(absl::StrCat("the toolchain ", choice_.info.name, " answered with a stage '",
                                 LevelName(stage.level), "' of ", stage.bytes.size(), " bytes after ",
                                 LevelName(way_.back().level)));
  }
  ++stages_run_;
  untold_.push_back(DoneEvent(stage.level, stage.time, false, stage.bytes.size()));
  metadata_ = std::move(stage.metadata_json);
  logs_[stage.level] = std::move(stage.log);
  const CacheKey key = MakeCompileKey(stage.level, Digest::Of(stage.bytes), metadata_, context_);
  made_[stage.level] = std::move(stage.bytes);
  way_.push_back(Point{stage.level, key, stage.level == request_.last_level});
  *decision = StageDecision::kContinue;
  if (stage.level == request_.last_level || request_.recompile || request_.passes.record)
    return absl::OkStatus();
  if (setting_.cache->Info(key).ok()) {
    *decision = StageDecision::kStop;  // the rest is there already
    return absl::OkStatus();
  }
  if (std::unique_ptr<SingleFlight::Lease> lease = setting_.flights->TryLead(key)) {
    leases_.push_back(std::move(lease));
  } else {
    *decision = StageDecision::kStop;  // somebody is making the rest
  }
  return absl::OkStatus();
}

void CompileRun::TellDone() {
  for (const StageEvent& event : std::exchange(untold_, {})) Emit(event);
}

void CompileRun::EmitStarted(Level level) const {
  StageEvent event;
  event.kind = StageEvent::Kind::kStarted;
  event.level = level;
  Emit(event);
}

void CompileRun::EmitWaiting() const {
  StageEvent event;
  event.kind = StageEvent::Kind::kWaiting;
  Emit(event);
}

void CompileRun::Emit(const StageEvent& event) const {
  if (on_event_ != nullptr) on_event_(event);
}

CacheEntry CompileRun::EntryFrom(Level level, const std::string& name) const {
  CacheEntry entry;
  entry.kernel_name = name;
  entry.toolchain = choice_.info.name;
  entry.target = request_.target.ToString();
  entry.source_level = level;
  entry.tenant = request_.tenant;
  entry.metadata_json = metadata_;
  entry.log = LogAfter(level);
  for (const auto& [made, bytes] : made_) {
    if (made >= level) entry.artifacts.emplace(made, bytes);
  }
  return entry;
}

std::string CompileRun::KernelName() const {
  return request_.kernel_name.empty() ? NameIn(metadata_) : request_.kernel_name;
}

std::string CompileRun::LogAfter(Level level) const {
  std::string all;
  for (const auto& [made, log] : logs_) {
    if (made > level && !log.empty()) absl::StrAppend(&all, all.empty() ? "" : "\n", log);
  }
  return all;
}

// Each point on the way gets an entry with all that follows from it, in one write.
void CompileRun::Store() {
  const std::string name = KernelName();
  std::vector<CacheEntry> entries;
  std::vector<CacheKey> keys;
  const bool is_partial_record = request_.passes.record && way_.back().level != request_.last_level;
  for (const Point& point : way_) {
    if (point.is_stored || point.level >= way_.back().level || is_partial_record) continue;
    if (request_.passes.record && &point != &way_.front())
      break;  // later points promise nothing about passes
    entries.push_back(EntryFrom(point.level, name));
    keys.push_back(point.key);
  }
  std::vector<CachePut> puts;
  for (size_t i = 0; i < entries.size(); ++i) puts.push_back(CachePut{keys[i], &entries[i]});
  if (!puts.empty() && !setting_.cache->PutAll(puts).ok()) store_failed_ = true;
}

void CompileRun::Fail(const absl::Status& status) {
  if (stages_run_ > 0) Store();  // the stages before the failed one are good
  // What a later stage says of a compile whose passes were looked at belongs to the whole of it.
  const Point& reached = request_.passes.record ? way_.front() : way_.back();
  const absl::Duration ttl = IsRefusal(status) ? setting_.refusal_ttl : setting_.error_ttl;
  if (IsDeterministic(status) && !setting_.cache->Info(reached.key).ok()) {
    CacheEntry entry = EntryFrom(kPassRecordLevel, KernelName());
    entry.artifacts.clear();
    entry.source_level = reached.level;
    entry.error = ToCachedError(status);
    if (!setting_.cache->Put(reached.key, entry, ttl).ok()) store_failed_ = true;
  }
  for (auto& lease : leases_) lease->SetFailure({status, way_.back().level});
  leases_.clear();
}

}  // namespace trun
