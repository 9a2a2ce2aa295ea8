// The services over an in-process channel, on real sessions with fake executors: what their tests have in
// common.
#ifndef TRUN_SERVER_SERVICE_SERVICE_FIXTURE_H_
#define TRUN_SERVER_SERVICE_SERVICE_FIXTURE_H_

#include <cstring>
#include <future>
#include <thread>

#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "common/rpc/status_mapping.h"
#include "gmock/gmock.h"
#include "grpcpp/channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "server/cache/fake_kernel_cache.h"
#include "server/executor/control/fake_executor.h"
#include "server/service/admin_service.h"
#include "server/service/compile_service.h"
#include "server/service/device_service.h"
#include "server/service/launch_service.h"
#include "server/service/session_service.h"
#include "server/service/staging_service.h"
#include "server/service/tensor_service.h"

namespace trun {

// Everybody is the caller that the test names.
class FakePeers final : public PeerDirectory {
 public:
  absl::StatusOr<Caller> Find(const std::string&) const override {
    MutexLock lock(&mu_);
    return caller_;
  }
  void Set(absl::StatusOr<Caller> caller) {
    MutexLock lock(&mu_);
    caller_ = std::move(caller);
  }

 private:
  mutable Mutex mu_;
  absl::StatusOr<Caller> caller_ ABSL_GUARDED_BY(mu_) = Caller{1000, "uid:1000", true};
};

// No toolchain is installed.
class NoToolchains final : public ToolchainRegistry {
 public:
  absl::StatusOr<std::shared_ptr<Toolchain>> Find(absl::string_view) override { return None(); }
  std::vector<std::shared_ptr<Toolchain>> List() override { return {}; }
  absl::StatusOr<std::shared_ptr<Toolchain>> Install(
      absl::string_view, const std::function<void(const ToolchainProgress&)>&) override {
    return None();
  }
  absl::StatusOr<std::shared_ptr<Toolchain>> Adopt(absl::string_view, absl::string_view) override {
    return None();
  }
  absl::Status Remove(absl::string_view) override { return None(); }

 private:
  static absl::Status None() { return NotFound(Reason::kToolchainNotFound, "no toolchain"); }
};

class ServiceTest : public testing::Test {
 protected:
  static constexpr int kThreads = 4;

  ServiceTest() {
    executors_.SetKernel("image", Attributes(), [](const ExecutorLaunch&, FakeExecutors*) {
      ExecutorLaunchResult result;
      result.printed = "hello\n";
      return result;
    });
    executors_.SetKernel("faulty", Attributes(), [](const ExecutorLaunch&, FakeExecutors*) {
      ExecutorLaunchResult result;
      result.status = FailedPrecondition(Reason::kIllegalAddress, "store past the end");
      result.fault.instruction = "st.global.b32";
      result.fault.program = {1, 2, 3};
      return result;
    });
    SessionRegistryOptions options;
    options.default_device = "fake:0";
    options.max_queued_launches = 8;
    sessions_ = SessionRegistry::Create(options, &factory_, Clock::Real());
    context_.sessions = sessions_.get();
    context_.pipeline = &pipeline_;
    context_.toolchains = &toolchains_;
    context_.cache = &cache_;
    context_.executors = &factory_;
    context_.peers = &peers_;
    context_.metrics = &metrics_;
    context_.gate = &gate_;
    context_.workers = &workers_;
    context_.compilers = &workers_;
    context_.uploads = &uploads_;
    context_.tokens = &tokens_;
    context_.kernels = &kernels_;
    context_.launches = &launches_;
    context_.clock = Clock::Real();
    context_.facts.version = "test";
    context_.drain = [this](absl::Duration deadline) { drained_.set_value(deadline); };
    services_ = std::make_unique<Services>(context_);
    grpc::ServerBuilder builder;
    for (grpc::Service* service : services_->All()) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel(grpc::ChannelArguments());
    session_stub_ = v1::SessionService::NewStub(channel_);
    compile_stub_ = v1::CompileService::NewStub(channel_);
    tensor_stub_ = v1::TensorService::NewStub(channel_);
    staging_stub_ = v1::StagingService::NewStub(channel_);
    launch_stub_ = v1::LaunchService::NewStub(channel_);
    admin_stub_ = v1::AdminService::NewStub(channel_);
  }
  ~ServiceTest() override {
    executors_.Release();
    server_->Shutdown(std::chrono::system_clock::now());
    workers_.Shutdown();
  }

  static device::KernelAttributes Attributes() {
    device::KernelAttributes attributes;
    attributes.name = "k";
    attributes.parameters = {{0, 8, 8}, {8, 4, 4}};
    attributes.parameter_bytes = 12;
    attributes.required_block = {128, 1, 1};
    return attributes;
  }

  template <typename Stub, typename Request, typename Response>
  absl::Status Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    return FromGrpcStatus((stub.*method)(&context, request, response));
  }

  std::string Open() {
    v1::OpenSessionRequest request;
    request.set_protocol_version(1);
    v1::OpenSessionResponse response;
    grpc::ClientContext context;
    const absl::Status status = FromGrpcStatus(session_stub_->OpenSession(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return response.session();
  }

  // A handle for a kernel whose image is `image`, past the pipeline.
  std::string AddKernel(const std::string& session, const std::string& image) {
    auto kernel = std::make_shared<CompiledKernel>();
    kernel->signature.name = kernel->metadata.name = "k";
    kernel->signature.arguments.push_back({"p", KernelArgument::Kind::kPointer, ScalarType::kF32, 8, 1, ""});
    kernel->signature.arguments.push_back({"n", KernelArgument::Kind::kScalar, ScalarType::kI32, 4, 1, ""});
    kernel->metadata.num_warps = 4;
    kernel->metadata.target.arch = 80;
    kernel->artifacts[Level::kPtx] = {Level::kPtx, image};
    return sessions_->Find(session, "uid:1000").value()->AddKernel(kernel).value();
  }

  std::string Allocate(const std::string& session, uint64_t floats) {
    v1::AllocateRequest request;
    request.set_session(session);
    v1::TensorSpec* spec = request.add_tensors();
    spec->set_dtype(v1::DTYPE_F32);
    spec->add_shape(floats);
    v1::AllocateResponse response;
    grpc::ClientContext context;
    const absl::Status status = FromGrpcStatus(tensor_stub_->Allocate(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return response.tensors_size() == 1 ? response.tensors(0).tensor() : "";
  }

  v1::LaunchRequest LaunchOf(const std::string& session, const std::string& kernel,
                             const std::string& tensor) {
    v1::LaunchRequest request;
    request.set_session(session);
    request.set_kernel(kernel);
    request.add_grid(1);
    request.add_arguments()->mutable_tensor()->set_tensor(tensor);
    request.add_arguments()->set_int_value(4);
    request.set_wait(true);
    return request;
  }

  absl::Status Compile(const v1::CompileRequest& request) {
    grpc::ClientContext context;
    auto events = compile_stub_->Compile(&context, request);
    v1::CompileResponse event;
    while (events->Read(&event)) {
    }
    return FromGrpcStatus(events->Finish());
  }

  struct Services {
    explicit Services(const ServiceContext& context)
        : session(context),
          device(context),
          compile(context),
          tensor(context),
          staging(context),
          launch(context),
          admin(context) {}
    std::vector<grpc::Service*> All() {
      return {&session, &device, &compile, &tensor, &staging, &launch, &admin};
    }
    SessionService session;
    DeviceService device;
    CompileService compile;
    TensorService tensor;
    StagingService staging;
    LaunchService launch;
    AdminService admin;
  };

  FakePeers peers_;
  FakeExecutors executors_;
  FakeExecutorFactory factory_{&executors_};
  FakeKernelCache cache_;
  NoToolchains toolchains_;
  CompilePipeline pipeline_{&cache_, &toolchains_, Clock::Real()};
  std::unique_ptr<SessionRegistry> sessions_;
  Metrics metrics_;
  CallGate gate_;
  UploadStore uploads_{UploadLimits{kMaxFileBytes, kMaxUploadedBytesPerTenant, uint64_t{1} << 30},
                       Clock::Real()};
  TokenStore tokens_{Clock::Real()};
  KernelTable kernels_;
  std::atomic<uint64_t> launches_{0};
  std::promise<absl::Duration> drained_;
  ServiceContext context_;
  std::unique_ptr<Services> services_;
  CallPool workers_{"calls", kThreads, 1000};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SessionService::Stub> session_stub_;
  std::unique_ptr<v1::CompileService::Stub> compile_stub_;
  std::unique_ptr<v1::TensorService::Stub> tensor_stub_;
  std::unique_ptr<v1::StagingService::Stub> staging_stub_;
  std::unique_ptr<v1::LaunchService::Stub> launch_stub_;
  std::unique_ptr<v1::AdminService::Stub> admin_stub_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_SERVICE_FIXTURE_H_
