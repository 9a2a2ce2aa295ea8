#include "server/main/grpc_endpoint.h"

#include <chrono>
#include <map>
#include <string>

#include "absl/time/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_posix.h"
#include "server/service/admin_service.h"
#include "server/service/compile_service.h"
#include "server/service/device_service.h"
#include "server/service/launch_service.h"
#include "server/service/session_service.h"
#include "server/service/staging_service.h"
#include "server/service/tensor_service.h"
#include "server/service/toolchain_service.h"

namespace trun {
namespace {

constexpr int kMaxStreamsPerConnection = 1000;
constexpr size_t kMaxBufferedBytes = size_t{1} << 30;
// Only reflection uses gRPC's own threads for its handlers.
constexpr int kMaxGrpcThreads = 16;

class GrpcEndpointImpl final : public GrpcEndpoint {
 public:
  explicit GrpcEndpointImpl(const ServiceContext& context)
      : sessions_(context),
        devices_(context),
        toolchains_(context),
        compiler_(context),
        tensors_(context),
        stagings_(context),
        launches_(context),
        admin_(context) {}

  absl::Status Start() {
    // The library stays up until the process ends: where the last server takes it down, the end may wait for
    // a poll of 10 s that a slow reader has left behind.
    static const bool stays = (grpc_init(), true);
    (void)stays;
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
    grpc::ResourceQuota quota("trund");
    quota.Resize(kMaxBufferedBytes);
    quota.SetMaxThreads(kMaxGrpcThreads);
    builder.SetResourceQuota(quota);
    for (grpc::Service* service : Services()) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return Internal("gRPC did not start");
    return absl::OkStatus();
  }

  ~GrpcEndpointImpl() override {
    if (server_ != nullptr) Shutdown(absl::ZeroDuration());
  }

  void Serve(UniqueFd connection) override {
    grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
  }

  void SetServing(bool serving) override {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    MutexLock lock(&mu_);
    serving_ = serving;
    for (const auto& [device, usable] : usable_) health->SetServingStatus(device, serving && usable);
    for (const char* name :
         {"Session", "Device", "Toolchain", "Compile", "Tensor", "Staging", "Launch", "Admin"}) {
      health->SetServingStatus(std::string("trun.v1.") + name + "Service", serving);
    }
    health->SetServingStatus("", serving);  // last: whoever sees it change sees the others changed
  }

  void SetDeviceServing(const std::string& device, bool usable) override {
    MutexLock lock(&mu_);
    usable_[device] = usable;
    server_->GetHealthCheckService()->SetServingStatus(device, serving_ && usable);
  }

  void Shutdown(absl::Duration timeout) override {
    if (down_) return;
    down_ = true;
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
    server_->Wait();  // the object stays: a device's health may still be told
  }

 private:
  std::vector<grpc::Service*> Services() {
    return {&sessions_, &devices_, &toolchains_, &compiler_, &tensors_, &stagings_, &launches_, &admin_};
  }

  SessionService sessions_;
  DeviceService devices_;
  ToolchainService toolchains_;
  CompileService compiler_;
  TensorService tensors_;
  StagingService stagings_;
  LaunchService launches_;
  AdminService admin_;
  std::unique_ptr<grpc::Server> server_;
  bool down_ = false;

  Mutex mu_;
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, bool> usable_ ABSL_GUARDED_BY(mu_);  // by device
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcEndpoint>> GrpcEndpoint::Create(const ServiceContext& context) {
  auto endpoint = std::make_unique<GrpcEndpointImpl>(context);
  TRUN_RETURN_IF_ERROR(endpoint->Start());
  return std::unique_ptr<GrpcEndpoint>(std::move(endpoint));
}

}  // namespace trun
