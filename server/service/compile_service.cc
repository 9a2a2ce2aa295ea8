#include "server/service/compile_service.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/ir/amd_target.h"
#include "common/rpc/limits.h"
#include "server/artifact/level_detection.h"
#include "server/service/byte_stream.h"
#include "server/service/wire.h"

namespace trun {
namespace {

constexpr int kMaxOptions = 256;
constexpr size_t kMaxOptionBytes = size_t{64} << 10;
constexpr int kMaxDigests = 10000;

absl::Status TooLarge(absl::string_view what, size_t limit, absl::string_view advice) {
  return ResourceExhausted(Reason::kTooLarge, absl::StrCat(what, " is larger than ", limit, " bytes", advice),
                           {{"limit", absl::StrCat(limit)}});
}

absl::Status CheckSizes(const v1::CompileRequest& wire) {
  if (wire.ir().size() > kMaxInlineIrBytes) {
    return TooLarge("a file inside the request", kMaxInlineIrBytes,
                    ": upload it first (CompileService.Upload)");
  }
  if (wire.metadata_json().size() > kMaxMetadataJsonBytes)
    return TooLarge("the metadata", kMaxMetadataJsonBytes, "");
  for (const std::string* name : {&wire.file_name(), &wire.target(), &wire.toolchain(), &wire.kernel_name(),
                                  &wire.resume_after_pass()}) {
    if (name->size() > kMaxNameBytes) return TooLarge("a name in the request", kMaxNameBytes, "");
  }
  if (wire.options_size() > kMaxOptions) {
    return InvalidArgument(Reason::kUnknownOption,
                           absl::StrCat("more than ", kMaxOptions, " compile options"));
  }
  for (const auto& [name, value] : wire.options()) {
    if (name.size() + value.size() > kMaxOptionBytes)
      return TooLarge("a compile option", kMaxOptionBytes, "");
  }
  return absl::OkStatus();
}

// Whether a file of `level`, which may be unknown, can be what `pass` left behind, and a compile from there
// to `last_level` does anything. A file after a pass of a stage is of the stage's own level or of the one
// before; a bare name is looked up by the toolchain.
absl::Status CheckResumePoint(absl::string_view pass, Level level, Level last_level) {
  if (pass.empty()) return absl::OkStatus();
  const absl::string_view stage = pass.substr(0, pass.find('/') == pass.npos ? 0 : pass.find('/'));
  const bool known = level != Level::kUnspecified;
  const bool module = level == Level::kTtir || level == Level::kTtgir;
  bool fits = !known || module;
  Level first = Level::kTtgir;  // the first level that a compile from there makes
  if (stage == "ttir") fits = !known || level == Level::kTtir;
  if (stage == "llir") {
    fits = !known || level == Level::kTtgir || level == Level::kLlir;
    first = Level::kLlir;
  }
  const ErrorDetails details = {{"argument", "resume_after_pass"}};
  if (!fits) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("a file of level ", LevelName(level), " cannot be what the pass ", pass,
                     " left behind: correct the level (--level, or the extension of the file's name) or the "
                     "pass (--from-pass)"),
        details);
  }
  if (last_level < first) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("after the pass ", pass, " the first level that is made is ", LevelName(first), ", and ",
                     LevelName(last_level), " was asked for: ask for a later one (--to)"),
        details);
  }
  return absl::OkStatus();
}

// The build as the session's device wants it: with the bytes of the level that it loads, where the build has
// that level but holds a later one.
absl::StatusOr<std::shared_ptr<const KernelBuild>> WithDeviceLevel(CompilePipeline& pipeline,
                                                                   std::shared_ptr<const KernelBuild> build,
                                                                   Level device_level) {
  if (build->kernel.artifacts.count(device_level) != 0) return build;
  const auto listed = std::any_of(build->artifacts.begin(), build->artifacts.end(),
                                  [&](const ArtifactDescription& a) { return a.level == device_level; });
  if (!listed) return build;
  TRUN_ASSIGN_OR_RETURN(std::string bytes, pipeline.ReadArtifact(*build, device_level));
  auto copy = std::make_shared<KernelBuild>(*build);
  copy->kernel.artifacts[device_level] = Artifact{device_level, std::move(bytes)};
  return std::shared_ptr<const KernelBuild>(std::move(copy));
}

void Describe(const CompileOutcome& outcome, std::string handle, v1::CompiledKernel* wire) {
  const KernelBuild& build = *outcome.build;
  wire->set_kernel(std::move(handle));
  EncodeKernel(build.kernel, wire->mutable_info());
  for (const ArtifactDescription& artifact : build.artifacts) {
    v1::ArtifactInfo* made = wire->add_artifacts();
    made->set_level(static_cast<v1::Level>(artifact.level));
    made->set_bytes(artifact.bytes);
    made->set_digest(artifact.digest.ToHex());
  }
  wire->set_toolchain(build.toolchain);
  wire->set_toolchain_reason(WireText(outcome.toolchain_reason, kMaxNameBytes));
  wire->set_cached(outcome.cached);
  wire->set_cache_key(build.key.ToHex());
  EncodeDuration(outcome.total_time, wire->mutable_total_time());
  wire->set_log(WireText(build.log, kMaxChunkBytes));
}

}  // namespace

CompileService::CompileService(const ServiceContext& context)
    : context_(context),
      tunings_(context.cache),
      compile_(context, "CompileService/Compile", WhileDraining::kRefused),
      find_missing_(context, "CompileService/FindMissing", WhileDraining::kRefused),
      upload_(context, "CompileService/Upload", WhileDraining::kRefused),
      get_artifact_(context, "CompileService/GetArtifact", WhileDraining::kServed),
      find_tuning_(context, "CompileService/FindTuning", WhileDraining::kRefused),
      store_tuning_(context, "CompileService/StoreTuning", WhileDraining::kRefused),
      release_(context, "CompileService/ReleaseKernel", WhileDraining::kServed) {}

grpc::ServerWriteReactor<v1::CompileResponse>* CompileService::Compile(grpc::CallbackServerContext* call,
                                                                       const v1::CompileRequest* request) {
  // Shared, since the body must be copyable; its own, since a cancelled call frees the request under the
  // compile, which goes on as long as somebody else waits for it.
  auto wire = std::make_shared<v1::CompileRequest>(*request);
  return Stream::RunOn(context_.compilers, context_, compile_, call,
                       [this, wire = std::move(wire)](const std::shared_ptr<Stream>& stream) {
                         std::vector<v1::CompileResponse> events;
                         const absl::Status status = Compile(*stream, *wire, events);
                         stream->CloseWith(std::move(events), status);
                       });
}

absl::Status CompileService::Compile(Stream& stream, v1::CompileRequest& wire,
                                     std::vector<v1::CompileResponse>& events) {
  const Caller& caller = stream.scope().caller();
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                        context_.sessions->Find(wire.session(), caller.tenant));
  TRUN_ASSIGN_OR_RETURN(CompileRequest request, Decode(wire, *session, stream.scope()));
  request.tenant = caller.tenant;
  request.is_cancelled = [&stream] { return stream.cancelled(); };
  // Each message is a wake-up here and at the client, on the processor of the compiler perhaps: what a short
  // compile has to tell goes with its end.
  TRUN_ASSIGN_OR_RETURN(CompileOutcome outcome,
                        context_.pipeline->Compile(request, [&stream, &events](const StageEvent& event) {
                          if (event.kind != StageEvent::Kind::kWaiting) {
                            EncodeStage(event, &events.emplace_back());
                            return;
                          }
                          for (v1::CompileResponse& each : events) stream.Push(std::move(each));
                          events.clear();
                        }));
  // Each event is a message, a wake-up and a system call of its own: a hit is one, and its artifacts say the
  // rest.
  if (outcome.cached) events.clear();
  if (stream.cancelled()) return CancelledByClient();
  const Level device_level = session->device_info().module_level;
  TRUN_ASSIGN_OR_RETURN(outcome.build,
                        WithDeviceLevel(*context_.pipeline, std::move(outcome.build), device_level));
  context_.kernels->Add(outcome.build);
  TRUN_ASSIGN_OR_RETURN(std::string handle, session->AddKernel(KernelTable::KernelOf(outcome.build)));
  // No toolchain looks at a file of the device's own level: the device does, before anybody launches it.
  if (request.level == device_level && request.last_level == device_level) {
    const absl::Status loaded = session->PrepareKernel(handle).status();
    if (!loaded.ok()) {
      session->ReleaseKernel(handle).IgnoreError();  // it may be closed by now
      return loaded;
    }
  }
  events.emplace_back();
  Describe(outcome, std::move(handle), events.back().mutable_kernel());
  return absl::OkStatus();
}

absl::StatusOr<CompileRequest> CompileService::Decode(v1::CompileRequest& wire, const Session& session,
                                                      const CallScope& scope) {
  TRUN_RETURN_IF_ERROR(CheckSizes(wire));
  CompileRequest request;
  TRUN_ASSIGN_OR_RETURN(request.level, DecodeLevel(wire.level(), "level"));
  TRUN_ASSIGN_OR_RETURN(request.last_level, DecodeLevel(wire.last_level(), "last_level"));
  const device::DeviceInfo& device = session.device_info();
  request.target = device.target;
  if (!wire.target().empty()) {
    TRUN_ASSIGN_OR_RETURN(request.target, Target::Parse(wire.target()));
  }
  TRUN_ASSIGN_OR_RETURN(request.deadline, DecodeDuration(wire.deadline(), "deadline", absl::Hours(1)));
  if (request.deadline == absl::ZeroDuration()) request.deadline = context_.compile_deadline;
  request.deadline = std::min(request.deadline, std::max(scope.TimeLeft(), absl::Milliseconds(1)));
  switch (wire.source_case()) {
    case v1::CompileRequest::kIr:
      request.ir = std::move(*wire.mutable_ir());
      break;
    case v1::CompileRequest::kDigest: {
      TRUN_ASSIGN_OR_RETURN(const Digest digest, Digest::FromHex(wire.digest()));
      TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const std::string> file,
                            context_.uploads->Find(scope.caller().tenant, digest));
      request.ir = *file;
      break;
    }
    case v1::CompileRequest::SOURCE_NOT_SET:
      return InvalidArgument(Reason::kInvalidIr, "the request holds no file");
  }
  request.file_name = std::move(*wire.mutable_file_name());
  const Level given = request.level;
  // After a pass a file may look like no level, or like the wrong one: the pass says where it is.
  if (request.level == Level::kUnspecified && !wire.resume_after_pass().empty()) request.level = Level::kTtir;
  if (request.level == Level::kUnspecified) {
    TRUN_ASSIGN_OR_RETURN(request.level, DetectLevel(request.ir, request.file_name));
  }
  if (request.last_level == Level::kUnspecified) {
    if (request.level == Level::kCubin && device.module_level == Level::kPtx) {
      return FailedPrecondition(Reason::kUnsupportedLevel,
                                absl::StrCat(session.device(),
                                             " runs PTX and cannot run a cubin, which is machine "
                                             "code: give the PTX (or an earlier level) of this kernel"));
    }
    request.last_level = IsAmd(request.target) ? Level::kHsaco : device.module_level;
  }
  TRUN_RETURN_IF_ERROR(CheckResumePoint(wire.resume_after_pass(), given, request.last_level));
  request.metadata_json = std::move(*wire.mutable_metadata_json());
  request.toolchain = std::move(*wire.mutable_toolchain());
  request.kernel_name = std::move(*wire.mutable_kernel_name());
  for (auto& [name, value] : *wire.mutable_options()) request.options[name] = std::move(value);
  request.recompile = wire.recompile();
  request.passes.record = wire.record_passes();
  request.passes.resume_after = std::move(*wire.mutable_resume_after_pass());
  return request;
}

grpc::ServerUnaryReactor* CompileService::FindMissing(grpc::CallbackServerContext* call,
                                                      const v1::FindMissingRequest* request,
                                                      v1::FindMissingResponse* response) {
  return UnaryCall::Run(context_, find_missing_, call, [&](const Caller& caller) -> absl::Status {
    if (request->digests_size() > kMaxDigests) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("ask for at most ", kMaxDigests, " digests at a time"));
    }
    TRUN_RETURN_IF_ERROR(context_.sessions->Find(request->session(), caller.tenant).status());
    for (const std::string& hex : request->digests()) {
      TRUN_ASSIGN_OR_RETURN(const Digest digest, Digest::FromHex(hex));
      if (!context_.uploads->Find(caller.tenant, digest).ok()) response->add_missing(hex);
    }
    return absl::OkStatus();
  });
}

grpc::ServerReadReactor<v1::UploadRequest>* CompileService::Upload(grpc::CallbackServerContext* call,
                                                                   v1::UploadResponse* response) {
  struct State {
    std::shared_ptr<Session> session;
    std::optional<UploadStore::Upload> upload;
  };
  auto state = std::make_shared<State>();
  return ClientStream<v1::UploadRequest>::RunOn(
      context_.workers, context_, upload_, call,
      [this, state](const Caller& caller, const v1::UploadRequest& request) -> absl::Status {
        if (state->session == nullptr) {
          TRUN_ASSIGN_OR_RETURN(state->session, context_.sessions->Find(request.session(), caller.tenant));
          state->upload.emplace(context_.uploads, caller.tenant);
        }
        if (request.data().size() > kMaxChunkBytes) return TooLarge("a chunk", kMaxChunkBytes, "");
        return state->upload->Append(request.data());
      },
      [state, response](const Caller& /*caller*/) -> absl::Status {
        if (!state->upload) return InvalidArgument(Reason::kInvalidIr, "nothing was sent");
        TRUN_ASSIGN_OR_RETURN(const Digest digest, state->upload->Finish());
        response->set_digest(digest.ToHex());
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<v1::GetArtifactResponse>* CompileService::GetArtifact(
    grpc::CallbackServerContext* call, const v1::GetArtifactRequest* request) {
  return StreamBytes<v1::GetArtifactResponse>(
      context_, get_artifact_, call, [this, request](const Caller& caller) -> absl::StatusOr<std::string> {
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        TRUN_ASSIGN_OR_RETURN(const Level level, DecodeLevel(request->level(), "level"));
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const CompiledKernel> kernel,
                              session->FindKernel(request->kernel()));
        const std::shared_ptr<const KernelBuild> build = context_.kernels->Find(kernel.get());
        if (build == nullptr) return Internal("a session's kernel is not in the kernel table");
        return context_.pipeline->ReadArtifact(*build, level);
      });
}

grpc::ServerUnaryReactor* CompileService::FindTuning(grpc::CallbackServerContext* call,
                                                     const v1::FindTuningRequest* request,
                                                     v1::FindTuningResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, find_tuning_, call,
                          [this, request, response](const Caller& caller) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                                                  context_.sessions->Find(request->session(), caller.tenant));
                            TRUN_ASSIGN_OR_RETURN(
                                *response->mutable_value(),
                                tunings_.Find(caller.tenant, session->device_info(), request->key()));
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* CompileService::StoreTuning(grpc::CallbackServerContext* call,
                                                      const v1::StoreTuningRequest* request,
                                                      v1::StoreTuningResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, store_tuning_, call, [this, request](const Caller& caller) -> absl::Status {
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        return tunings_.Store(caller.tenant, session->device_info(), request->key(), request->value());
      });
}

grpc::ServerUnaryReactor* CompileService::ReleaseKernel(grpc::CallbackServerContext* call,
                                                        const v1::ReleaseKernelRequest* request,
                                                        v1::ReleaseKernelResponse* /*response*/) {
  return UnaryCall::RunOn(context_.workers, context_, release_, call,
                          [this, request](const Caller& caller) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                                                  context_.sessions->Find(request->session(), caller.tenant));
                            return session->ReleaseKernel(request->kernel());
                          });
}

}  // namespace trun
