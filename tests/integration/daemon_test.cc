// A real trund with real executors and workers: its process, its sockets, its end, and the main job once.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/descriptor_socket.h"
#include "common/rpc/runtime_directory.h"
#include "common/rpc/status_mapping.h"
#include "common/rpc/unix_socket.h"
#include "common/subprocess/subprocess.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "trun/v1/admin.grpc.pb.h"
#include "trun/v1/compile.grpc.pb.h"
#include "trun/v1/launch.grpc.pb.h"
#include "trun/v1/session.grpc.pb.h"
#include "trun/v1/tensor.grpc.pb.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string BinFolder() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  return absl::StrCat(std::filesystem::path(std::string(path, length)).parent_path().parent_path().string(),
                      "/bin");
}

std::string ToolchainsFolder() {
  const char* given = std::getenv("TRUN_TOOLCHAINS_DIR");
  return given != nullptr ? given : std::filesystem::absolute("build/toolchains").string();
}

// One trund under test.
class Daemon {
 public:
  Daemon(const std::string& socket, const std::string& cache, std::vector<std::string> flags = {})
      : socket_(socket) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    ready_ = UniqueFd(ends[0]);
    const UniqueFd writer(ends[1]);
    errors_ = socket + ".stderr";
    const UniqueFd errors(open(errors_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    SubprocessOptions options;
    options.argv = {
        BinFolder() + "/trund", "--socket",   socket,          "--cache-dir", cache, "--toolchains-dir",
        ToolchainsFolder(),     "--log-file", socket + ".log", "--ready-fd",  "3"};
    options.argv.insert(options.argv.end(), flags.begin(), flags.end());
    options.descriptors = {{3, writer.get()}};
    options.stderr_fd = errors.get();
    options.env = {{"HOME", "/nonexistent"}, {"PATH", "/usr/bin:/bin"}};
    process_ = Subprocess::Start(options).value();
  }

  // False when it ended instead.
  bool WaitReady() {
    char byte;
    return read(ready_.get(), &byte, 1) == 1;
  }
  ExitStatus WaitEnd() {
    const absl::StatusOr<ExitStatus> exit = process_->Wait(absl::Seconds(60));
    EXPECT_TRUE(exit.ok()) << exit.status();
    return exit.ok() ? *exit : ExitStatus{};
  }
  void Signal(int number) { ASSERT_EQ(kill(process_->pid(), number), 0); }
  pid_t pid() const { return process_->pid(); }
  std::string errors() const { return ReadFile(errors_); }
  std::string log() const { return ReadFile(socket_ + ".log"); }

 private:
  const std::string socket_;
  std::string errors_;
  UniqueFd ready_;
  std::unique_ptr<Subprocess> process_;
};

constexpr char kEndlessPtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry endless()
.reqntid 32, 1, 1
{
$L:
  bra.uni $L;
}
)";
constexpr char kEndlessMetadata[] =
    R"({"name": "endless", "num_warps": 1, "num_ctas": 1, "shared": 0,
        "target": {"backend": "cuda", "arch": 80, "warp_size": 32}})";

class Client {
 public:
  explicit Client(const std::string& socket)
      : channel(MakeUnixChannel(socket)),
        sessions(v1::SessionService::NewStub(channel)),
        compiler(v1::CompileService::NewStub(channel)),
        tensors(v1::TensorService::NewStub(channel)),
        launches(v1::LaunchService::NewStub(channel)),
        admin(v1::AdminService::NewStub(channel)) {}

  absl::StatusOr<v1::OpenSessionResponse> Open() {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::OpenSessionRequest request;
    request.set_protocol_version(1);
    v1::OpenSessionResponse response;
    TRUN_RETURN_IF_ERROR(FromGrpcStatus(sessions->OpenSession(&context, request, &response)));
    return response;
  }
  std::string Allocate(const std::string& session, uint64_t floats) {
    grpc::ClientContext context;
    v1::AllocateRequest request;
    request.set_session(session);
    request.add_tensors()->set_dtype(v1::DTYPE_F32);
    request.mutable_tensors(0)->add_shape(floats);
    v1::AllocateResponse response;
    const absl::Status status = FromGrpcStatus(tensors->Allocate(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? response.tensors(0).tensor() : "";
  }
  void Write(const std::string& session, const std::string& tensor, const std::vector<float>& values) {
    grpc::ClientContext context;
    v1::WriteResponse response;
    auto stream = tensors->Write(&context, &response);
    v1::WriteRequest request;
    request.set_session(session);
    request.set_tensor(tensor);
    request.set_data(values.data(), values.size() * sizeof(float));
    EXPECT_TRUE(stream->Write(request));
    stream->WritesDone();
    const absl::Status status = FromGrpcStatus(stream->Finish());
    EXPECT_TRUE(status.ok()) << status;
  }
  std::vector<float> Read(const std::string& session, const std::string& tensor) {
    grpc::ClientContext context;
    v1::ReadRequest request;
    request.set_session(session);
    request.set_tensor(tensor);
    auto stream = tensors->Read(&context, request);
    v1::ReadResponse chunk;
    std::string bytes;
    while (stream->Read(&chunk)) bytes += chunk.data();
    EXPECT_TRUE(stream->Finish().ok());
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
  }
  std::string CompilePtx(const std::string& session, const std::string& ptx, const std::string& metadata) {
    grpc::ClientContext context;
    v1::CompileRequest request;
    request.set_session(session);
    request.set_level(v1::LEVEL_PTX);
    request.set_ir(ptx);
    request.set_metadata_json(metadata);
    auto events = compiler->Compile(&context, request);
    v1::CompileResponse event;
    std::string kernel;
    while (events->Read(&event)) kernel = event.kernel().kernel();
    const absl::Status status = FromGrpcStatus(events->Finish());
    EXPECT_TRUE(status.ok()) << status;
    return kernel;
  }
  uint64_t Launches(const std::string& session) {
    grpc::ClientContext context;
    v1::ListSessionsResponse listed;
    EXPECT_TRUE(sessions->ListSessions(&context, {}, &listed).ok());
    for (const v1::SessionInfo& each : listed.sessions()) {
      if (each.session() == session) return each.launches();
    }
    return 0;
  }
  absl::StatusOr<v1::ExportDescriptorsResponse> Export(const std::string& session,
                                                       const std::string& tensor) {
    grpc::ClientContext context;
    v1::ExportDescriptorsRequest request;
    request.set_session(session);
    request.add_tensors(tensor);
    v1::ExportDescriptorsResponse response;
    TRUN_RETURN_IF_ERROR(FromGrpcStatus(sessions->ExportDescriptors(&context, request, &response)));
    return response;
  }
  // grpc.health.v1.HealthCheckResponse.status: 1 SERVING, 2 NOT_SERVING. Its proto is not installed: the
  // request is field 1, a string; the response field 1, an enum.
  int Health(const std::string& service) {
    grpc::GenericStub stub(channel);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    grpc::Slice slice(
        absl::StrCat(std::string(1, '\x0a'), std::string(1, static_cast<char>(service.size())), service));
    auto call =
        stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, this);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    queue.Shutdown();
    while (queue.Next(&tag, &ok)) {
    }
    std::vector<grpc::Slice> parts;
    if (!status.ok() || !answer.Dump(&parts).ok() || parts.empty() || parts[0].size() < 2) return -1;
    return parts[0].begin()[1];
  }

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::SessionService::Stub> sessions;
  std::unique_ptr<v1::CompileService::Stub> compiler;
  std::unique_ptr<v1::TensorService::Stub> tensors;
  std::unique_ptr<v1::LaunchService::Stub> launches;
  std::unique_ptr<v1::AdminService::Stub> admin;
};

class DaemonTest : public testing::Test {
 protected:
  DaemonTest() {
    char path[] = "/tmp/trun_daemon_XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    folder_ = path;
    socket_ = folder_ + "/s";
    cache_ = folder_ + "/cache";
  }
  ~DaemonTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_, socket_, cache_;
};

TEST_F(DaemonTest, ASecondDaemonOnTheSameSocketIsToldWhoHasItAndTheFirstGoesOn) {
  Daemon first(socket_, cache_);
  ASSERT_TRUE(first.WaitReady()) << first.errors();
  Daemon second(socket_, folder_ + "/other");
  EXPECT_FALSE(second.WaitReady());
  EXPECT_EQ(second.WaitEnd().code, 1);
  EXPECT_THAT(second.errors(), HasSubstr(absl::StrCat("process ", first.pid())));
  EXPECT_TRUE(Client(socket_).Open().ok());
}

TEST_F(DaemonTest, ASecondDaemonOnTheSameCacheEndsWithAClearError) {
  Daemon first(socket_, cache_);
  ASSERT_TRUE(first.WaitReady()) << first.errors();
  Daemon second(folder_ + "/t", cache_);
  EXPECT_FALSE(second.WaitReady());
  EXPECT_EQ(second.WaitEnd().code, 1);
  EXPECT_THAT(second.errors(), HasSubstr(cache_));
}

TEST_F(DaemonTest, TwoStartedAtOnceGiveOne) {
  Daemon first(socket_, cache_);
  Daemon second(socket_, cache_);
  const bool one = first.WaitReady();
  const bool other = second.WaitReady();
  EXPECT_NE(one, other) << first.errors() << second.errors();
  EXPECT_TRUE(Client(socket_).Open().ok());
}

TEST_F(DaemonTest, TheSocketsOfAKilledDaemonAreTakenOver) {
  {
    Daemon killed(socket_, cache_);
    ASSERT_TRUE(killed.WaitReady()) << killed.errors();
    killed.Signal(SIGKILL);
    killed.WaitEnd();
    EXPECT_TRUE(std::filesystem::exists(socket_));
  }
  Daemon next(socket_, cache_);
  ASSERT_TRUE(next.WaitReady()) << next.errors();
  EXPECT_TRUE(Client(socket_).Open().ok());
}

TEST_F(DaemonTest, SocketsLockAndLogAreOpenToTheUserOnlyAndTheTenantIsThePeersUser) {
  Daemon daemon(socket_, cache_);
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  for (const std::string& path :
       {socket_, DescriptorSocketPath(socket_), DaemonLockPath(socket_), socket_ + ".log"}) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << path;
  }
  Client client(socket_);
  ASSERT_TRUE(client.Open().ok());
  v1::ListSessionsResponse listed;
  grpc::ClientContext context;
  ASSERT_TRUE(client.sessions->ListSessions(&context, {}, &listed).ok());
  ASSERT_EQ(listed.sessions_size(), 1);
  EXPECT_EQ(listed.sessions(0).tenant(), absl::StrCat("uid:", geteuid()));
}

TEST_F(DaemonTest, BytesThatAreNoProtocolHurtNobody) {
  Daemon daemon(socket_, cache_);
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  for (const std::string& path : {socket_, DescriptorSocketPath(socket_)}) {
    for (int seed = 0; seed < 20; ++seed) {
      const UniqueFd fd = ConnectUnix(path).value();
      std::string noise;
      for (int i = 0; i < 4096; ++i) noise.push_back(static_cast<char>((seed * 7919 + i * i * 31) >> 3));
      send(fd.get(), noise.data(), noise.size(), MSG_NOSIGNAL);
    }
  }
  Client client(socket_);
  EXPECT_TRUE(client.Open().ok());
  EXPECT_EQ(client.Health(""), 1);
}

TEST_F(DaemonTest, ATokenWorksOnceForTensorsOfItsOwnSessionOnly) {
  Daemon daemon(socket_, cache_);
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  Client client(socket_);
  const v1::OpenSessionResponse mine = client.Open().value();
  const v1::OpenSessionResponse other = client.Open().value();
  const std::string tensor = client.Allocate(mine.session(), 1024);
  client.Write(mine.session(), tensor, std::vector<float>(1024, 2.5f));
  EXPECT_EQ(GetReason(client.Export(other.session(), tensor).status()), Reason::kHandle);
  const absl::StatusOr<v1::ExportDescriptorsResponse> exported = client.Export(mine.session(), tensor);
  ASSERT_TRUE(exported.ok()) << exported.status();
  absl::StatusOr<std::vector<UniqueFd>> received =
      ReceiveDescriptors(mine.descriptor_socket(), exported->token());
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(ReceiveDescriptors(mine.descriptor_socket(), exported->token()).status().code(),
            absl::StatusCode::kNotFound);
  const v1::ExportedTensor& place = exported->tensors(0);
  void* mapped = mmap(nullptr, place.descriptor_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED,
                      (*received)[place.descriptor_index()].get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* values = reinterpret_cast<float*>(static_cast<char*>(mapped) + place.offset());
  EXPECT_EQ(values[1023], 2.5f);
  values[0] = 7.0f;
  EXPECT_EQ(client.Read(mine.session(), tensor)[0], 7.0f);
  munmap(mapped, place.descriptor_bytes());
}

TEST_F(DaemonTest, ATritonKernelIsCompiledLaunchedAndReadBackAndFoundInTheCacheAfterARestart) {
  constexpr int kCount = 4097;
  for (const bool second : {false, true}) {
    Daemon daemon(socket_, cache_);
    ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
    Client client(socket_);
    const std::string session = client.Open().value().session();
    v1::CompileRequest compile;
    compile.set_session(session);
    compile.set_level(v1::LEVEL_TTIR);
    compile.set_ir(ReadFile("examples/kernels/vector_add.ttir"));
    grpc::ClientContext compiling;
    auto events = client.compiler->Compile(&compiling, compile);
    v1::CompileResponse event;
    int started = 0;
    while (events->Read(&event)) started += event.has_stage_started();
    const absl::Status compiled = FromGrpcStatus(events->Finish());
    ASSERT_TRUE(compiled.ok()) << compiled;
    EXPECT_EQ(event.kernel().cached(), second);
    EXPECT_EQ(started > 0, !second);

    std::vector<float> x(kCount), y(kCount);
    for (int i = 0; i < kCount; ++i) {
      x[i] = std::sin(static_cast<float>(i));
      y[i] = 0.25f * static_cast<float>(i);
    }
    std::vector<std::string> tensors;
    for (int i = 0; i < 3; ++i) tensors.push_back(client.Allocate(session, kCount));
    client.Write(session, tensors[0], x);
    client.Write(session, tensors[1], y);
    v1::LaunchRequest launch;
    launch.set_session(session);
    launch.set_kernel(event.kernel().kernel());
    launch.add_grid((kCount + 1023) / 1024);
    for (const std::string& tensor : tensors) launch.add_arguments()->mutable_tensor()->set_tensor(tensor);
    launch.add_arguments()->set_int_value(kCount);
    launch.set_wait(true);
    v1::LaunchResponse launched;
    grpc::ClientContext launching;
    const absl::Status status = FromGrpcStatus(client.launches->Launch(&launching, launch, &launched));
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<float> sum = client.Read(session, tensors[2]);
    for (int i = 0; i < kCount; ++i) ASSERT_EQ(sum[i], x[i] + y[i]) << i;

    v1::GetArtifactRequest artifact;
    artifact.set_session(session);
    artifact.set_kernel(event.kernel().kernel());
    artifact.set_level(v1::LEVEL_LLIR);
    grpc::ClientContext fetching;
    auto chunks = client.compiler->GetArtifact(&fetching, artifact);
    v1::GetArtifactResponse chunk;
    std::string llir;
    while (chunks->Read(&chunk)) llir += chunk.data();
    EXPECT_TRUE(chunks->Finish().ok());
    EXPECT_THAT(llir, HasSubstr("define"));
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
  }
}

TEST_F(DaemonTest, SigtermDrainsHealthAndNewWorkSaySoAndASecondOneCuts) {
  Daemon daemon(socket_, cache_, {"--drain-deadline", "5m"});
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  Client client(socket_);
  const std::string session = client.Open().value().session();
  const std::string tensor = client.Allocate(session, 16);
  EXPECT_EQ(client.Health(""), 1);
  EXPECT_EQ(client.Health("trun.v1.LaunchService"), 1);
  while (client.Health("emulator:0") != 1) std::this_thread::yield();  // its first executor has to start
  // What holds the drain is work: an idle stream would be ended.
  const std::string busy = client.Open().value().session();
  v1::LaunchRequest endless;
  endless.set_session(busy);
  endless.set_kernel(client.CompilePtx(busy, kEndlessPtx, kEndlessMetadata));
  endless.add_grid(1);
  endless.mutable_deadline()->set_seconds(300);
  grpc::ClientContext context;
  auto stream = client.launches->LaunchStream(&context);
  ASSERT_TRUE(stream->Write(endless));
  while (client.Launches(busy) != 1) std::this_thread::yield();
  daemon.Signal(SIGTERM);
  while (client.Health("") == 1) std::this_thread::yield();
  for (const char* name : {"", "trun.v1.LaunchService", "trun.v1.StagingService", "emulator:0"}) {
    EXPECT_EQ(client.Health(name), 2) << name;
  }
  const absl::Status refused = client.Open().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(refused), Reason::kDraining);
  EXPECT_EQ(client.Read(session, tensor).size(), 16u) << "results can still be read";
  daemon.Signal(SIGINT);
  EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
  v1::LaunchResponse answer;
  while (stream->Read(&answer)) EXPECT_NE(answer.status().code(), 0) << "the launch was to be cut";
  EXPECT_FALSE(stream->Finish().ok());
  EXPECT_FALSE(std::filesystem::exists(socket_));
  EXPECT_FALSE(std::filesystem::exists(DescriptorSocketPath(socket_)));
  EXPECT_THAT(daemon.log(), HasSubstr("drained"));
}

TEST_F(DaemonTest, ACompileUnderWayIsCutAtTheDrainDeadlineWithItsWorker) {
  Daemon daemon(socket_, cache_, {"--drain-deadline", "100ms"});
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  Client client(socket_);
  v1::CompileRequest compile;
  compile.set_session(client.Open().value().session());
  compile.set_level(v1::LEVEL_TTIR);
  // A chain that takes the compiler far longer than the deadline.
  std::string body =
      "module {\n  tt.func public @k(%p: !tt.ptr<f32>) {\n    %v0 = tt.load %p : !tt.ptr<f32>\n";
  for (int i = 0; i < 12000; ++i) {
    absl::StrAppend(&body, "    %v", i + 1, " = arith.", i % 2 ? "mulf" : "addf", " %v", i, ", %v", i / 2,
                    " : f32\n");
  }
  absl::StrAppend(&body, "    tt.store %p, %v12000 : !tt.ptr<f32>\n    tt.return\n  }\n}\n");
  compile.set_ir(body);
  grpc::ClientContext context;
  auto events = client.compiler->Compile(&context, compile);
  v1::CompileResponse event;
  ASSERT_TRUE(events->Read(&event)) << FromGrpcStatus(events->Finish());
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
  while (events->Read(&event)) {
  }
  EXPECT_FALSE(events->Finish().ok());
}

TEST_F(DaemonTest, DrainIsAlsoACallAndClosesSessions) {
  Daemon daemon(socket_, cache_);
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  Client client(socket_);
  ASSERT_TRUE(client.Open().ok());
  v1::DrainResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(client.admin->Drain(&context, {}, &response).ok());
  EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
}

TEST_F(DaemonTest, APrivateDaemonEndsByItselfWhenNobodyIsThereAndNotBefore) {
  Daemon daemon(socket_, cache_, {"--private", "--idle-timeout", "300ms"});
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  {
    Client client(socket_);
    ASSERT_TRUE(client.Open().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(900));
    v1::GetServerInfoResponse info;
    grpc::ClientContext context;
    ASSERT_TRUE(client.admin->GetServerInfo(&context, {}, &info).ok()) << daemon.log();
    EXPECT_TRUE(info.private_daemon());
    EXPECT_EQ(info.pid(), daemon.pid());
    v1::ListSessionsResponse listed;
    grpc::ClientContext listing;
    ASSERT_TRUE(client.sessions->ListSessions(&listing, {}, &listed).ok());
    v1::CloseSessionRequest close;
    close.set_session(listed.sessions(0).session());
    v1::CloseSessionResponse closed;
    grpc::ClientContext closing;
    ASSERT_TRUE(client.sessions->CloseSession(&closing, close, &closed).ok());
  }
  EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
}

TEST_F(DaemonTest, MetricsAreWrittenToTheFileAsked) {
  Daemon daemon(socket_, cache_, {"--metrics-file", folder_ + "/metrics.prom"});
  ASSERT_TRUE(daemon.WaitReady()) << daemon.errors();
  ASSERT_TRUE(Client(socket_).Open().ok());
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.WaitEnd().code, 0) << daemon.log();
  EXPECT_THAT(ReadFile(folder_ + "/metrics.prom"), HasSubstr("trun_rpcs_total"));
}

}  // namespace
}  // namespace trun
