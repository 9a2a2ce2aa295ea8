#ifndef TRUN_SERVER_SERVICE_LAUNCH_SERVICE_H_
#define TRUN_SERVER_SERVICE_LAUNCH_SERVICE_H_

#include "server/service/call.h"
#include "trun/v1/launch.grpc.pb.h"

namespace trun {

// trun.v1.LaunchService. Thread-safe. `context` outlives it. No call holds a thread while its launch runs.
class LaunchService final : public v1::LaunchService::CallbackService {
 public:
  explicit LaunchService(const ServiceContext& context);

  grpc::ServerUnaryReactor* Launch(grpc::CallbackServerContext* call, const v1::LaunchRequest* request,
                                   v1::LaunchResponse* response) override;
  grpc::ServerBidiReactor<v1::LaunchRequest, v1::LaunchResponse>* LaunchStream(
      grpc::CallbackServerContext* call) override;
  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* call,
                                        const v1::SynchronizeRequest* request,
                                        v1::SynchronizeResponse* response) override;
  grpc::ServerUnaryReactor* Benchmark(grpc::CallbackServerContext* call, const v1::BenchmarkRequest* request,
                                      v1::BenchmarkResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method launch_, stream_, synchronize_, benchmark_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_LAUNCH_SERVICE_H_
