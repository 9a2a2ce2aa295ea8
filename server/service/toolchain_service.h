#ifndef TRUN_SERVER_SERVICE_TOOLCHAIN_SERVICE_H_
#define TRUN_SERVER_SERVICE_TOOLCHAIN_SERVICE_H_

#include "server/service/call.h"
#include "trun/v1/toolchain.grpc.pb.h"

namespace trun {

// trun.v1.ToolchainService. Thread-safe. `context` outlives it. Only the daemon's own user may change
// toolchains: PERMISSION_DENIED kNotPermitted.
class ToolchainService final : public v1::ToolchainService::CallbackService {
 public:
  explicit ToolchainService(const ServiceContext& context);

  grpc::ServerUnaryReactor* ListToolchains(grpc::CallbackServerContext* call,
                                           const v1::ListToolchainsRequest* request,
                                           v1::ListToolchainsResponse* response) override;
  grpc::ServerWriteReactor<v1::InstallToolchainResponse>* InstallToolchain(
      grpc::CallbackServerContext* call, const v1::InstallToolchainRequest* request) override;
  grpc::ServerUnaryReactor* AdoptToolchain(grpc::CallbackServerContext* call,
                                           const v1::AdoptToolchainRequest* request,
                                           v1::AdoptToolchainResponse* response) override;
  grpc::ServerUnaryReactor* RemoveToolchain(grpc::CallbackServerContext* call,
                                            const v1::RemoveToolchainRequest* request,
                                            v1::RemoveToolchainResponse* response) override;
  grpc::ServerUnaryReactor* DescribeToolchain(grpc::CallbackServerContext* call,
                                              const v1::DescribeToolchainRequest* request,
                                              v1::DescribeToolchainResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method list_, install_, adopt_, remove_, describe_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_TOOLCHAIN_SERVICE_H_
