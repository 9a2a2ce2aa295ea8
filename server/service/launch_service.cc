#include "server/service/launch_service.h"

#include <utility>

#include "common/base/status.h"
#include "server/service/launch_stream.h"
#include "server/service/wire.h"

namespace trun {
namespace {

// What a launch needs once its request may be gone.
struct LaunchJob {
  std::string session;
  absl::StatusOr<SessionLaunch> launch;
  bool wait = false;
  uint32_t warmup = 0;
};

absl::Status StartLaunch(const ServiceContext& context, const std::shared_ptr<UnaryCall>& call,
                         LaunchJob& job, v1::LaunchResponse* response) {
  TRUN_RETURN_IF_ERROR(job.launch.status());
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                        context.sessions->Find(job.session, call->scope().caller().tenant));
  job.launch->observed = job.wait;
  context.launches->fetch_add(1, std::memory_order_relaxed);
  if (!job.wait) {
    TRUN_ASSIGN_OR_RETURN(const uint64_t sequence, session->Launch(*job.launch, [](LaunchResult) {}));
    if (!call->Claim()) return absl::OkStatus();
    response->set_sequence(sequence);
    call->EndClaimed(absl::OkStatus());
    return absl::OkStatus();
  }
  call->Hold(session);
  return session
      ->Launch(*job.launch,
               [call, response](LaunchResult result) {
                 if (!call->Claim()) return;
                 response->set_sequence(result.sequence);
                 EncodeResult(result, response->mutable_result());
                 call->EndClaimed(StatusOf(result));
               })
      .status();
}

absl::Status StartBenchmark(const ServiceContext& context, const std::shared_ptr<UnaryCall>& call,
                            LaunchJob& job, v1::BenchmarkResponse* response) {
  TRUN_RETURN_IF_ERROR(job.launch.status());
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                        context.sessions->Find(job.session, call->scope().caller().tenant));
  job.launch->observed = true;
  context.launches->fetch_add(1, std::memory_order_relaxed);
  call->Hold(session);
  return session
      ->Benchmark(*job.launch, job.warmup,
                  [call, response](LaunchResult result) {
                    if (!call->Claim()) return;
                    for (const absl::Duration time : result.device_times) {
                      EncodeDuration(time, response->add_device_times());
                    }
                    response->set_warp_instructions(result.warp_instructions);
                    call->EndClaimed(StatusOf(result));
                  })
      .status();
}

}  // namespace

LaunchService::LaunchService(const ServiceContext& context)
    : context_(context),
      launch_(context, "LaunchService/Launch", WhileDraining::kRefused),
      stream_(context, "LaunchService/LaunchStream", WhileDraining::kRefused),
      synchronize_(context, "LaunchService/Synchronize", WhileDraining::kServed),
      benchmark_(context, "LaunchService/Benchmark", WhileDraining::kRefused) {}

grpc::ServerUnaryReactor* LaunchService::Launch(grpc::CallbackServerContext* call,
                                                const v1::LaunchRequest* request,
                                                v1::LaunchResponse* response) {
  auto job =
      std::make_shared<LaunchJob>(LaunchJob{request->session(), DecodeLaunch(*request), request->wait(), 0});
  return UnaryCall::RunAsync(context_.workers, context_, launch_, call,
                             [this, job = std::move(job), response](const std::shared_ptr<UnaryCall>& made) {
                               const absl::Status started = StartLaunch(context_, made, *job, response);
                               if (!started.ok()) made->Complete(started);
                             });
}

grpc::ServerBidiReactor<v1::LaunchRequest, v1::LaunchResponse>* LaunchService::LaunchStream(
    grpc::CallbackServerContext* call) {
  return trun::LaunchStream::Start(context_, stream_, call);
}

grpc::ServerUnaryReactor* LaunchService::Synchronize(grpc::CallbackServerContext* call,
                                                     const v1::SynchronizeRequest* request,
                                                     v1::SynchronizeResponse* response) {
  return UnaryCall::RunAsync(
      nullptr, context_, synchronize_, call,
      [this, id = request->session(), response](const std::shared_ptr<UnaryCall>& made) {
        const absl::StatusOr<std::shared_ptr<Session>> session =
            context_.sessions->Find(id, made->scope().caller().tenant);
        if (!session.ok()) return made->Complete(session.status());
        made->Hold(*session);
        (*session)->Synchronize([made, response](SynchronizeResult result) {
          if (!made->Claim()) return;
          response->set_last_sequence(result.last_sequence);
          response->set_printed(WireText(result.printed, size_t{1} << 20));
          made->EndClaimed(StatusOf(result));
        });
      });
}

grpc::ServerUnaryReactor* LaunchService::Benchmark(grpc::CallbackServerContext* call,
                                                   const v1::BenchmarkRequest* request,
                                                   v1::BenchmarkResponse* response) {
  auto job = std::make_shared<LaunchJob>(
      LaunchJob{request->launch().session(), DecodeLaunch(request->launch()), true, request->warmup()});
  if (job->launch.ok()) job->launch->repetitions = request->repetitions();
  return UnaryCall::RunAsync(context_.workers, context_, benchmark_, call,
                             [this, job = std::move(job), response](const std::shared_ptr<UnaryCall>& made) {
                               const absl::Status started = StartBenchmark(context_, made, *job, response);
                               if (!started.ok()) made->Complete(started);
                             });
}

}  // namespace trun
