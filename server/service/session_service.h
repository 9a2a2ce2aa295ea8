#ifndef TRUN_SERVER_SERVICE_SESSION_SERVICE_H_
#define TRUN_SERVER_SERVICE_SESSION_SERVICE_H_

#include "server/service/call.h"
#include "trun/v1/session.grpc.pb.h"

namespace trun {

// trun.v1.SessionService. Thread-safe. `context` outlives it.
class SessionService final : public v1::SessionService::CallbackService {
 public:
  explicit SessionService(const ServiceContext& context);

  grpc::ServerUnaryReactor* OpenSession(grpc::CallbackServerContext* call,
                                        const v1::OpenSessionRequest* request,
                                        v1::OpenSessionResponse* response) override;
  grpc::ServerUnaryReactor* KeepAlive(grpc::CallbackServerContext* call, const v1::KeepAliveRequest* request,
                                      v1::KeepAliveResponse* response) override;
  grpc::ServerUnaryReactor* CloseSession(grpc::CallbackServerContext* call,
                                         const v1::CloseSessionRequest* request,
                                         v1::CloseSessionResponse* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* call,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ExportDescriptors(grpc::CallbackServerContext* call,
                                              const v1::ExportDescriptorsRequest* request,
                                              v1::ExportDescriptorsResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method open_, keep_alive_, close_, list_, export_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_SESSION_SERVICE_H_
