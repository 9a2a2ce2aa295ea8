#ifndef TRUN_SERVER_SERVICE_COMPILE_SERVICE_H_
#define TRUN_SERVER_SERVICE_COMPILE_SERVICE_H_

#include <memory>

#include "server/service/call.h"
#include "server/service/tuning_store.h"
#include "trun/v1/compile.grpc.pb.h"

namespace trun {

// trun.v1.CompileService. Thread-safe. `context` outlives it.
class CompileService final : public v1::CompileService::CallbackService {
 public:
  explicit CompileService(const ServiceContext& context);

  grpc::ServerWriteReactor<v1::CompileResponse>* Compile(grpc::CallbackServerContext* call,
                                                         const v1::CompileRequest* request) override;
  grpc::ServerUnaryReactor* FindMissing(grpc::CallbackServerContext* call,
                                        const v1::FindMissingRequest* request,
                                        v1::FindMissingResponse* response) override;
  grpc::ServerReadReactor<v1::UploadRequest>* Upload(grpc::CallbackServerContext* call,
                                                     v1::UploadResponse* response) override;
  grpc::ServerWriteReactor<v1::GetArtifactResponse>* GetArtifact(
      grpc::CallbackServerContext* call, const v1::GetArtifactRequest* request) override;
  grpc::ServerUnaryReactor* FindTuning(grpc::CallbackServerContext* call,
                                       const v1::FindTuningRequest* request,
                                       v1::FindTuningResponse* response) override;
  grpc::ServerUnaryReactor* StoreTuning(grpc::CallbackServerContext* call,
                                        const v1::StoreTuningRequest* request,
                                        v1::StoreTuningResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseKernel(grpc::CallbackServerContext* call,
                                          const v1::ReleaseKernelRequest* request,
                                          v1::ReleaseKernelResponse* response) override;

 private:
  using Stream = EventStream<v1::CompileResponse>;

  // Blocks. What the pipeline is asked for; takes the IR out of `wire`.
  absl::StatusOr<CompileRequest> Decode(v1::CompileRequest& wire, const Session& session,
                                        const CallScope& scope);
  // Blocks. `events` gets what was not pushed yet.
  absl::Status Compile(Stream& stream, v1::CompileRequest& wire, std::vector<v1::CompileResponse>& events);

  const ServiceContext& context_;
  TuningStore tunings_;
  const Method compile_, find_missing_, upload_, get_artifact_, find_tuning_, store_tuning_, release_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_COMPILE_SERVICE_H_
