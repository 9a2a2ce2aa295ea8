// The services over an in-process channel, on real sessions with fake executors.
#include <fcntl.h>
#include <unistd.h>

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
#include "server/device/shared_memory.h"
#include "server/executor/control/fake_executor.h"
#include "server/service/admin_service.h"
#include "server/service/compile_service.h"
#include "server/service/device_service.h"
#include "server/service/launch_service.h"
#include "server/service/session_service.h"
#include "server/service/staging_service.h"
#include "server/service/tensor_service.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

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

TEST_F(ServiceTest, AConnectionOfNobodyKnownGetsNothing) {
  peers_.Set(MakeError(absl::StatusCode::kUnauthenticated, Reason::kNotPermitted, "nobody known"));
  v1::ListSessionsResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(FromGrpcStatus(session_stub_->ListSessions(&context, {}, &response)).code(),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(ServiceTest, AnotherProtocolVersionIsRefusedWithTheOneThatIsSpoken) {
  v1::OpenSessionRequest request;
  request.set_protocol_version(99);
  v1::OpenSessionResponse response;
  grpc::ClientContext context;
  const absl::Status status = FromGrpcStatus(session_stub_->OpenSession(&context, request, &response));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetDetails(status)["protocol_version"], "1");
}

TEST_F(ServiceTest, LeasesThatAreNegativeOrAbsurdAreRefused) {
  for (const int64_t seconds : {int64_t{-1}, int64_t{3601}, INT64_MAX, INT64_MIN}) {
    v1::OpenSessionRequest request;
    request.set_protocol_version(1);
    request.mutable_lease()->set_seconds(seconds);
    v1::OpenSessionResponse response;
    grpc::ClientContext context;
    EXPECT_EQ(FromGrpcStatus(session_stub_->OpenSession(&context, request, &response)).code(),
              absl::StatusCode::kInvalidArgument)
        << seconds;
  }
}

TEST_F(ServiceTest, ASessionOfAnotherTenantIsNotFoundAndNotListed) {
  const std::string session = Open();
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::KeepAliveRequest request;
  request.set_session(session);
  v1::KeepAliveResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(GetReason(FromGrpcStatus(session_stub_->KeepAlive(&context, request, &response))),
            Reason::kSessionExpired);
  v1::ListSessionsResponse listed;
  grpc::ClientContext list;
  ASSERT_TRUE(session_stub_->ListSessions(&list, {}, &listed).ok());
  EXPECT_EQ(listed.sessions_size(), 0);
}

TEST_F(ServiceTest, WhileDrainingNewWorkIsRefusedAndResultsCanStillBeRead) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  gate_.StartDraining();
  v1::OpenSessionRequest open;
  open.set_protocol_version(1);
  v1::OpenSessionResponse opened;
  grpc::ClientContext first;
  const absl::Status refused = FromGrpcStatus(session_stub_->OpenSession(&first, open, &opened));
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(refused), Reason::kDraining);
  EXPECT_EQ(GetReason(Compile({})), Reason::kDraining);
  v1::ReadRequest read;
  read.set_session(session);
  read.set_tensor(tensor);
  grpc::ClientContext second;
  auto stream = tensor_stub_->Read(&second, read);
  v1::ReadResponse chunk;
  EXPECT_TRUE(stream->Read(&chunk));
  EXPECT_EQ(chunk.data(), std::string(16, '\0'));
  EXPECT_FALSE(stream->Read(&chunk));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, AnImportNeedsATokenOfItsOwnUserForOneDescriptor) {
  v1::ImportRequest request;
  request.set_session(Open());
  request.set_bytes(4 << 20);
  request.mutable_exported()->set_device_address(uint64_t{0x5000'0000'0000});
  const auto import = [&](std::string token) {
    request.mutable_exported()->set_token(std::move(token));
    v1::ImportResponse response;
    grpc::ClientContext context;
    return FromGrpcStatus(tensor_stub_->Import(&context, request, &response));
  };
  EXPECT_EQ(GetReason(import("nonsense")), Reason::kHandle);
  EXPECT_EQ(GetReason(import(tokens_.Put(4711, {}).value())), Reason::kHandle) << "another user's";
  EXPECT_EQ(GetReason(import(tokens_.Put(1000, {}).value())), Reason::kArgument) << "no descriptor";
  std::vector<UniqueFd> one;
  one.emplace_back(open("/dev/null", O_RDWR | O_CLOEXEC));
  const absl::Status no_gpu = import(tokens_.Put(1000, std::move(one)).value());
  EXPECT_EQ(no_gpu.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(no_gpu), Reason::kUnsupportedTarget);
}

TEST_F(ServiceTest, AnIpcHandleIsTheDaemonsOwnUsersAlone) {
  v1::ImportRequest request;
  request.set_bytes(4096);
  request.set_ipc_handle("x");
  const auto import = [&] {
    request.set_session(Open());
    v1::ImportResponse response;
    grpc::ClientContext context;
    return FromGrpcStatus(tensor_stub_->Import(&context, request, &response));
  };
  EXPECT_EQ(GetReason(import()), Reason::kUnsupportedTarget) << "there is no GPU, and that is all";
  peers_.Set(Caller{1001, "uid:1001", false});
  const absl::Status foreign = import();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(GetReason(foreign), Reason::kNotPermitted);
}

TEST_F(ServiceTest, CompileRequestsThatMakeNoSenseAreRefusedBeforeAnythingRuns) {
  v1::CompileRequest request;
  EXPECT_EQ(GetReason(Compile(request)), Reason::kSessionExpired);
  request.set_session(Open());
  EXPECT_EQ(GetReason(Compile(request)), Reason::kInvalidIr) << "neither a level nor a file";
  request.set_level(static_cast<v1::Level>(77));
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_level(v1::LEVEL_TTIR);
  EXPECT_EQ(GetReason(Compile(request)), Reason::kInvalidIr) << "no file";
  request.set_digest("nonsense");
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_digest(std::string(64, 'a'));
  EXPECT_EQ(GetReason(Compile(request)), Reason::kHandle);
  request.set_ir(std::string(kMaxInlineIrBytes + 1, 'x'));
  const absl::Status large = Compile(request);
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(large), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(large)["limit"], std::to_string(kMaxInlineIrBytes));
  request.set_ir("x");
  request.mutable_deadline()->set_seconds(-5);
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.clear_deadline();
  request.set_level(v1::LEVEL_CUBIN);
  const absl::Status cubin = Compile(request);
  EXPECT_EQ(cubin.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(cubin), Reason::kUnsupportedLevel);
}

TEST_F(ServiceTest, AnUploadPastTheLimitNamesItAndAFileIsMissingUntilItWasSent) {
  const std::string session = Open();
  const auto upload = [&](size_t bytes, v1::UploadResponse* response) {
    grpc::ClientContext context;
    auto stream = compile_stub_->Upload(&context, response);
    v1::UploadRequest request;
    request.set_session(session);
    for (size_t sent = 0; sent < bytes; sent += request.data().size()) {
      request.set_data(std::string(std::min(bytes - sent, kMaxChunkBytes), 'x'));
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    return FromGrpcStatus(stream->Finish());
  };
  v1::UploadResponse response;
  const absl::Status large = upload(kMaxFileBytes + 1, &response);
  EXPECT_EQ(GetReason(large), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(large)["limit"], std::to_string(kMaxFileBytes));
  EXPECT_EQ(GetReason(upload(0, &response)), Reason::kInvalidIr);
  v1::FindMissingRequest find;
  find.set_session(session);
  find.add_digests(Digest::Of(std::string(3000000, 'x')).ToHex());
  v1::FindMissingResponse missing;
  grpc::ClientContext before;
  ASSERT_TRUE(compile_stub_->FindMissing(&before, find, &missing).ok());
  EXPECT_EQ(missing.missing_size(), 1);
  ASSERT_TRUE(upload(3000000, &response).ok());
  EXPECT_EQ(response.digest(), find.digests(0));
  missing.Clear();
  grpc::ClientContext after;
  ASSERT_TRUE(compile_stub_->FindMissing(&after, find, &missing).ok());
  EXPECT_EQ(missing.missing_size(), 0);
}

TEST_F(ServiceTest, TensorRangesAreCheckedAndLargeTensorsArriveWhole) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 800000);
  const std::string data = [] {
    std::string bytes(3200000, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
    return bytes;
  }();
  const auto write = [&](uint64_t offset, absl::string_view bytes, size_t chunk) {
    grpc::ClientContext context;
    v1::WriteResponse response;
    auto stream = tensor_stub_->Write(&context, &response);
    v1::WriteRequest request;
    request.set_session(session);
    request.set_tensor(tensor);
    request.set_offset(offset);
    do {
      request.set_data(std::string(bytes.substr(0, chunk)));
      bytes.remove_prefix(std::min(chunk, bytes.size()));
      if (!stream->Write(request)) break;
      request.Clear();
    } while (!bytes.empty());
    stream->WritesDone();
    return FromGrpcStatus(stream->Finish());
  };
  EXPECT_EQ(write(3199999, "ab", 2).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(~uint64_t{0}, "ab", 2).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetReason(write(0, data, kMaxChunkBytes + 1)), Reason::kTooLarge);
  ASSERT_TRUE(write(0, data, kMaxChunkBytes).ok());
  v1::ReadRequest read;
  read.set_session(session);
  read.set_tensor(tensor);
  read.set_offset(3199999);
  read.set_bytes(2);
  v1::ReadResponse chunk;
  {
    grpc::ClientContext context;
    auto stream = tensor_stub_->Read(&context, read);
    EXPECT_FALSE(stream->Read(&chunk));
    EXPECT_EQ(FromGrpcStatus(stream->Finish()).code(), absl::StatusCode::kOutOfRange);
  }
  read.set_offset(0);
  read.set_bytes(0);
  grpc::ClientContext context;
  auto stream = tensor_stub_->Read(&context, read);
  std::string back;
  while (stream->Read(&chunk)) back += chunk.data();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(back, data);
}

TEST_F(ServiceTest, WhereTensorsAreSharedMemoryThereIsNoStagingArea) {
  v1::CreateStagingRequest request;
  request.set_session(Open());
  request.set_bytes(4096);
  v1::CreateStagingResponse response;
  const absl::Status status =
      Call(*staging_stub_, &v1::StagingService::Stub::CreateStaging, request, &response);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
}

// Sessions on a device whose memory only it can touch.
class StagingServiceTest : public ServiceTest {
 protected:
  static constexpr uint64_t kGranule = uint64_t{2} << 20;

  StagingServiceTest() {
    executors_.UseDeviceMemory();
    session_ = Open();
    tensor_ = Allocate(session_, 1024);
  }

  absl::Status Create(const std::string& session, uint64_t bytes, v1::CreateStagingResponse* response) {
    v1::CreateStagingRequest request;
    request.set_session(session);
    request.set_bytes(bytes);
    return Call(*staging_stub_, &v1::StagingService::Stub::CreateStaging, request, response);
  }
  v1::CreateStagingResponse Create(uint64_t bytes = 1) {
    v1::CreateStagingResponse response;
    const absl::Status status = Create(session_, bytes, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }
  v1::TransferRequest TransferOf(const std::string& staging, uint64_t bytes = 4096) {
    v1::TransferRequest request;
    request.set_session(session_);
    request.set_staging(staging);
    request.set_direction(v1::TRANSFER_DIRECTION_TO_TENSOR);
    v1::TransferRange* range = request.add_ranges();
    range->set_tensor(tensor_);
    range->set_bytes(bytes);
    return request;
  }
  absl::Status Transfer(const v1::TransferRequest& request) {
    v1::TransferResponse response;
    return Call(*staging_stub_, &v1::StagingService::Stub::Transfer, request, &response);
  }
  absl::Status Free(const std::string& session, const std::string& staging) {
    v1::FreeStagingRequest request;
    request.set_session(session);
    request.set_staging(staging);
    v1::FreeStagingResponse response;
    return Call(*staging_stub_, &v1::StagingService::Stub::FreeStaging, request, &response);
  }

  std::string session_, tensor_;
};

TEST_F(StagingServiceTest, RequestsThatMakeNoSenseAreRefused) {
  v1::CreateStagingResponse none;
  for (const uint64_t bytes : {uint64_t{0}, (uint64_t{16} << 30) + 1, ~uint64_t{0}}) {
    const absl::Status status = Create(session_, bytes, &none);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << bytes;
  }
  const std::string staging = Create().staging();
  v1::TransferRequest odd = TransferOf(staging);
  for (const int direction : {0, 3, -1}) {
    odd.set_direction(static_cast<v1::TransferDirection>(direction));
    EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << direction;
    EXPECT_EQ(GetReason(Transfer(odd)), Reason::kArgument) << direction;
  }
  odd = TransferOf(staging);
  odd.clear_ranges();
  EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << "no range";
  for (int i = 0; i < 1025; ++i) *odd.add_ranges() = TransferOf(staging, 4).ranges(0);
  EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << "1025 ranges";
  odd.mutable_ranges()->RemoveLast();
  EXPECT_TRUE(Transfer(odd).ok());
}

TEST_F(StagingServiceTest, RangesPastTheEndOfTheAreaOrTheTensorAreRefused) {
  const v1::CreateStagingResponse staging = Create();
  ASSERT_EQ(staging.bytes(), kGranule) << "rounded up";
  const auto move = [&](uint64_t staging_offset, uint64_t tensor_offset, uint64_t bytes) {
    v1::TransferRequest request = TransferOf(staging.staging(), bytes);
    request.mutable_ranges(0)->set_staging_offset(staging_offset);
    request.mutable_ranges(0)->set_tensor_offset(tensor_offset);
    return Transfer(request);
  };
  for (const absl::Status& status : {move(kGranule - 8, 0, 16), move(~uint64_t{0}, 0, 16), move(0, 4088, 16),
                                     move(0, ~uint64_t{0}, 16), move(16, 0, ~uint64_t{0})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
  }
  EXPECT_TRUE(move(kGranule - 16, 4080, 16).ok());
}

TEST_F(StagingServiceTest, AnAreaOfAnotherSessionOrTenantOrAFreedOneIsNotFound) {
  const std::string staging = Create().staging();
  const std::string other = Open();
  EXPECT_EQ(GetReason(Free(other, staging)), Reason::kHandle);
  v1::TransferRequest foreign = TransferOf(staging);
  foreign.set_session(other);
  EXPECT_EQ(GetReason(Transfer(foreign)), Reason::kHandle);
  foreign = TransferOf(staging);
  foreign.mutable_ranges(0)->set_tensor(Allocate(other, 16));
  EXPECT_EQ(GetReason(Transfer(foreign)), Reason::kHandle) << "a tensor of another session";
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::CreateStagingResponse none;
  EXPECT_EQ(GetReason(Create(session_, 1, &none)), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Transfer(TransferOf(staging))), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Free(session_, staging)), Reason::kSessionExpired);
  peers_.Set(Caller{1000, "uid:1000", true});
  EXPECT_TRUE(Free(session_, staging).ok()) << "nothing of that touched it";
  EXPECT_EQ(GetReason(Free(session_, staging)), Reason::kHandle);
  EXPECT_EQ(GetReason(Transfer(TransferOf(staging))), Reason::kHandle);
}

TEST_F(StagingServiceTest, AnAreaThatNobodyCouldMapIsFreedAgain) {
  for (size_t i = 0; i < 40; ++i) Create();
  session_ = Open();
  v1::CreateStagingResponse none;
  absl::Status status;
  size_t made = 0;
  for (; made < 40 && status.ok(); ++made) status = Create(session_, 1, &none);
  EXPECT_EQ(made, TokenStore::kMaxTokensPerUser - 40 + 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetReason(status), Reason::kQuota);
  EXPECT_EQ(executors_.staging_areas(), static_cast<int>(TokenStore::kMaxTokensPerUser - 40));
}

TEST_F(StagingServiceTest, WhileDrainingThereAreNoNewAreasAndCopiesGoOn) {
  const std::string staging = Create().staging();
  gate_.StartDraining();
  v1::CreateStagingResponse none;
  EXPECT_EQ(GetReason(Create(session_, 1, &none)), Reason::kDraining);
  EXPECT_TRUE(Transfer(TransferOf(staging)).ok());
  EXPECT_TRUE(Free(session_, staging).ok());
}

TEST_F(StagingServiceTest, WhyTheDriverRegistersNoMemoryIsSaid) {
  executors_.RefuseToRegister("no more locked memory");
  EXPECT_EQ(Create().unregistered_reason(), "no more locked memory");
}

TEST_F(StagingServiceTest, TheTokenIsOneOfASealedDescriptorAndBytesGoBothWays) {
  const v1::CreateStagingResponse staging = Create();
  EXPECT_EQ(GetReason(tokens_.Take(staging.token(), 1001).status()), Reason::kHandle) << "another user";
  auto descriptors = tokens_.Take(staging.token(), 1000);
  ASSERT_TRUE(descriptors.ok()) << descriptors.status();
  ASSERT_EQ(descriptors->size(), 1u);
  EXPECT_EQ(GetReason(tokens_.Take(staging.token(), 1000).status()), Reason::kHandle) << "a second time";
  EXPECT_NE(ftruncate(descriptors->front().get(), 0), 0) << "a peer could take pages away";
  const device::MappedMemory ours = *device::MappedMemory::Map(descriptors->front(), staging.bytes());
  for (int i = 0; i < 4096; ++i) ours.data()[100 + i] = static_cast<char>(i * 31 >> 2);
  v1::TransferRequest request = TransferOf(staging.staging());
  request.mutable_ranges(0)->set_staging_offset(100);
  ASSERT_TRUE(Transfer(request).ok());
  request.set_direction(v1::TRANSFER_DIRECTION_FROM_TENSOR);
  request.mutable_ranges(0)->set_staging_offset(1 << 20);
  ASSERT_TRUE(Transfer(request).ok());
  EXPECT_EQ(absl::string_view(ours.data() + 100, 4096), absl::string_view(ours.data() + (1 << 20), 4096));
}

TEST_F(ServiceTest, ADescriptorOfMoreDimensionsThanAnyTensorHasIsRefused) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  v1::TensorDescriptor shape, corner, steps;
  for (int i = 0; i < 65; ++i) {
    shape.add_shape(1);
    corner.mutable_im2col()->add_lower_corner(-1);
    steps.mutable_im2col()->add_element_strides(1);
  }
  for (const v1::TensorDescriptor& bad : {shape, corner, steps}) {
    v1::LaunchRequest request = LaunchOf(session, AddKernel(session, "image"), tensor);
    *request.mutable_arguments(0)->mutable_tensor_descriptor() = bad;
    v1::LaunchResponse response;
    const absl::Status status = Call(*launch_stub_, &v1::LaunchService::Stub::Launch, request, &response);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
  }
}

TEST_F(ServiceTest, AFaultOfALaunchArrivesWithItsReportAndItsNumber) {
  const std::string session = Open();
  v1::LaunchResponse response;
  grpc::ClientContext context;
  const absl::Status status = FromGrpcStatus(launch_stub_->Launch(
      &context, LaunchOf(session, AddKernel(session, "faulty"), Allocate(session, 4)), &response));
  EXPECT_EQ(GetReason(status), Reason::kIllegalAddress);
  ASSERT_TRUE(GetFault(status).has_value());
  EXPECT_EQ(GetFault(status)->instruction(), "st.global.b32");
  EXPECT_EQ(GetFault(status)->sequence(), 1u);
  EXPECT_EQ(GetFault(status)->program(2), 3u);
}

TEST_F(ServiceTest, ALaunchThatItsClientGaveUpEndsAtOnceAndIsForgotten) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  v1::LaunchResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  EXPECT_EQ(launch_stub_->Launch(&context, launch, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
  executors_.Release();
  v1::SynchronizeRequest synchronize;
  synchronize.set_session(session);
  v1::SynchronizeResponse done;
  grpc::ClientContext after;
  const absl::Status synchronized = FromGrpcStatus(launch_stub_->Synchronize(&after, synchronize, &done));
  EXPECT_TRUE(synchronized.ok()) << synchronized;
  EXPECT_EQ(done.last_sequence(), 1u);
}

TEST_F(ServiceTest, WaitingCallsHoldNoThread) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < kThreads + 3; ++i) {
    clients.emplace_back([&] {
      v1::LaunchResponse response;
      grpc::ClientContext context;
      if (launch_stub_->Launch(&context, launch, &response).ok() && response.result().printed() == "hello\n")
        ++good;
    });
  }
  while (launches_.load() < kThreads + 3) std::this_thread::yield();
  EXPECT_FALSE(Allocate(session, 4).empty())
      << "a pool thread is free although more launches wait than it has";
  executors_.Release();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good.load(), kThreads + 3);
}

TEST_F(ServiceTest, AStreamAnswersEveryLaunchInOrderAndWaitsForRoom) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  const v1::LaunchRequest good = LaunchOf(session, AddKernel(session, "image"), tensor);
  v1::LaunchRequest bad = good;
  bad.clear_arguments();
  executors_.Hold();
  grpc::ClientContext context;
  auto stream = launch_stub_->LaunchStream(&context);
  constexpr int kCount = 100;  // many times what the session queues
  std::thread writer([&] {
    for (int i = 0; i < kCount; ++i) {
      v1::LaunchRequest request = i % 10 == 3 ? bad : good;
      if (i > 0) request.clear_session();
      EXPECT_TRUE(stream->Write(request));
    }
    stream->WritesDone();
  });
  while (launches_.load() < 5) std::this_thread::yield();
  executors_.Release();
  v1::LaunchResponse response;
  uint64_t sequence = 0;
  for (int i = 0; i < kCount; ++i) {
    ASSERT_TRUE(stream->Read(&response));
    if (i % 10 == 3) {
      EXPECT_EQ(response.status().reason(), "ARGUMENT");
    } else {
      EXPECT_EQ(response.status().code(), 0) << response.status().message();
      EXPECT_EQ(response.sequence(), ++sequence);
    }
  }
  EXPECT_FALSE(stream->Read(&response));
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, AStreamWhoseClientVanishesEnds) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  {
    grpc::ClientContext context;
    auto stream = launch_stub_->LaunchStream(&context);
    for (int i = 0; i < 20; ++i) stream->Write(launch);
    while (launches_.load() < 8) std::this_thread::yield();
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  executors_.Release();
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
}

TEST_F(ServiceTest, OnlyTheOwnerLooksAfterTheDaemon) {
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::DrainResponse response;
  grpc::ClientContext foreign;
  EXPECT_EQ(FromGrpcStatus(admin_stub_->Drain(&foreign, {}, &response)).code(),
            absl::StatusCode::kPermissionDenied);
  v1::VerifyCacheResponse verified;
  grpc::ClientContext verify;
  EXPECT_EQ(GetReason(FromGrpcStatus(admin_stub_->VerifyCache(&verify, {}, &verified))),
            Reason::kNotPermitted);
  peers_.Set(Caller{1000, "uid:1000", true});
  v1::DrainRequest request;
  request.mutable_deadline()->set_seconds(7);
  grpc::ClientContext owner;
  EXPECT_TRUE(admin_stub_->Drain(&owner, request, &response).ok());
  EXPECT_EQ(drained_.get_future().get(), absl::Seconds(7));
}

TEST_F(ServiceTest, CacheEntriesAreNamedByAnUnambiguousPrefix) {
  CacheEntry entry;
  entry.kernel_name = "k";
  entry.tenant = "uid:1000";
  entry.metadata_json = "{\"a\":1}";
  entry.artifacts[Level::kPtx] = std::string(2500000, 'p');
  const CacheKey key = Digest::Of("one");
  ASSERT_TRUE(cache_.Put(key, entry, absl::InfiniteDuration()).ok());
  v1::GetCacheEntryRequest request;
  v1::GetCacheEntryResponse response;
  const auto get = [&](const std::string& prefix) {
    request.set_key(prefix);
    grpc::ClientContext context;
    return FromGrpcStatus(admin_stub_->GetCacheEntry(&context, request, &response));
  };
  EXPECT_EQ(get(key.ToHex().substr(0, 5)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(get("zzzzzzzz").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(get(std::string(64, '0')).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(get(key.ToHex().substr(0, 6)).ok());
  EXPECT_EQ(response.entry().key(), key.ToHex());
  EXPECT_EQ(response.metadata_json(), "{\"a\":1}");
  peers_.Set(Caller{1001, "uid:1001", false});
  EXPECT_EQ(get(key.ToHex()).code(), absl::StatusCode::kNotFound) << "another tenant's entry";
  peers_.Set(Caller{1000, "uid:1000", false});
  v1::GetCacheBlobRequest blob;
  blob.set_key(key.ToHex());
  blob.set_level(v1::LEVEL_PTX);
  grpc::ClientContext context;
  auto stream = admin_stub_->GetCacheBlob(&context, blob);
  v1::GetCacheBlobResponse chunk;
  std::string bytes;
  while (stream->Read(&chunk)) bytes += chunk.data();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(bytes, entry.artifacts[Level::kPtx]);
}

TEST_F(ServiceTest, ACacheGoesOutAsAStreamAndComesBackAndADamagedOneIsRefusedWhole) {
  CacheEntry entry;
  entry.kernel_name = "k";
  for (int i = 0; i < 20; ++i) {
    entry.artifacts[Level::kPtx] = std::string(300000, static_cast<char>('a' + i));
    ASSERT_TRUE(cache_.Put(Digest::Of(std::to_string(i)), entry, absl::InfiniteDuration()).ok());
  }
  context_.facts.cache_path = "/tmp";
  grpc::ClientContext out;
  auto stream = admin_stub_->ExportCache(&out, {});
  v1::ExportCacheResponse part;
  std::vector<std::string> parts;
  while (stream->Read(&part)) parts.push_back(part.data());
  ASSERT_TRUE(stream->Finish().ok());
  const auto import = [&](v1::ImportCacheResponse* response) {
    grpc::ClientContext context;
    auto upload = admin_stub_->ImportCache(&context, response);
    v1::ImportCacheRequest request;
    for (const std::string& data : parts) {
      request.set_data(data);
      if (!upload->Write(request)) break;
    }
    upload->WritesDone();
    return FromGrpcStatus(upload->Finish());
  };
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(cache_.Remove(Digest::Of(std::to_string(i)), false).ok());
  v1::ImportCacheResponse response;
  const std::string whole = parts.back();
  parts.back()[parts.back().size() / 2] ^= 1;
  EXPECT_EQ(GetReason(import(&response)), Reason::kCorrupt);
  EXPECT_EQ(cache_.Statistics().entries, 15u);
  parts.back() = whole;
  const absl::Status imported = import(&response);
  ASSERT_TRUE(imported.ok()) << imported;
  EXPECT_EQ(response.imported(), 5u);
  EXPECT_EQ(response.already_there(), 15u);
}

TEST_F(ServiceTest, CallsAreCounted) {
  Open();
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("trun_rpcs_total{method=\"SessionService/OpenSession\",code=\"OK\"} 1"));
}

}  // namespace
}  // namespace trun
