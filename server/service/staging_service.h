#ifndef TRUN_SERVER_SERVICE_STAGING_SERVICE_H_
#define TRUN_SERVER_SERVICE_STAGING_SERVICE_H_

#include "server/service/call.h"
#include "server/service/service_context.h"
#include "trun/v1/staging.grpc.pb.h"

namespace trun {

// Thread-safe. `context` outlives it.
class StagingService final : public v1::StagingService::CallbackService {
 public:
  explicit StagingService(const ServiceContext& context);

  grpc::ServerUnaryReactor* CreateStaging(grpc::CallbackServerContext* call,
                                          const v1::CreateStagingRequest* request,
                                          v1::CreateStagingResponse* response) override;
  grpc::ServerUnaryReactor* Transfer(grpc::CallbackServerContext* call, const v1::TransferRequest* request,
                                     v1::TransferResponse* response) override;
  grpc::ServerUnaryReactor* FreeStaging(grpc::CallbackServerContext* call,
                                        const v1::FreeStagingRequest* request,
                                        v1::FreeStagingResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method create_;
  const Method transfer_;
  const Method free_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_STAGING_SERVICE_H_
