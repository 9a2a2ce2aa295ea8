#include "client/cpp/fake_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/digest.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/ir/scalar_type.h"
#include "common/rpc/descriptor_socket.h"
#include "common/rpc/status_mapping.h"
#include "common/rpc/unix_socket.h"
#include "grpcpp/grpcpp.h"
#include "trun/v1/admin.grpc.pb.h"
#include "trun/v1/compile.grpc.pb.h"
#include "trun/v1/device.grpc.pb.h"
#include "trun/v1/launch.grpc.pb.h"
#include "trun/v1/session.grpc.pb.h"
#include "trun/v1/tensor.grpc.pb.h"
#include "trun/v1/toolchain.grpc.pb.h"

namespace trun {
namespace {

struct FakeTensor {
  UniqueFd fd;
  uint64_t bytes = 0;
  char* data = nullptr;
  size_t mapped = 0;
  ~FakeTensor() {
    if (data != nullptr) munmap(data, mapped);
  }
};

std::shared_ptr<FakeTensor> MakeTensor(uint64_t bytes) {
  auto tensor = std::make_shared<FakeTensor>();
  tensor->bytes = bytes;
  tensor->mapped = static_cast<size_t>((bytes + 4095) / 4096 * 4096);
  tensor->fd = UniqueFd(memfd_create("fake-tensor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (ftruncate(tensor->fd.get(), static_cast<off_t>(tensor->mapped)) != 0) return nullptr;
  fcntl(tensor->fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  void* mapped = mmap(nullptr, tensor->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, tensor->fd.get(), 0);
  if (mapped == MAP_FAILED) return nullptr;
  tensor->data = static_cast<char*>(mapped);
  return tensor;
}

}  // namespace

struct FakeServer::State {
  // Counts the call; what it was told to fail with.
  grpc::Status Enter(const std::string& method) {
    MutexLock lock(&mu);
    ++calls[method];
    const auto found = failures.find(method);
    return found == failures.end() ? grpc::Status::OK : ToGrpcStatus(found->second);
  }
  std::shared_ptr<FakeTensor> Find(const std::string& handle) {
    MutexLock lock(&mu);
    const auto found = tensors.find(handle);
    return found == tensors.end() ? nullptr : found->second;
  }
  static grpc::Status NoTensor(const std::string& handle) {
    return ToGrpcStatus(NotFound(Reason::kHandle, absl::StrCat("no tensor ", handle)));
  }
  // Runs a launch; the status is the launch's own.
  absl::Status Launch(const v1::LaunchRequest& request, v1::LaunchResponse* response) {
    std::vector<TensorBytes> named;
    std::vector<std::shared_ptr<FakeTensor>> held;
    for (const v1::LaunchArgument& argument : request.arguments()) {
      if (!argument.has_tensor()) continue;
      std::shared_ptr<FakeTensor> tensor = Find(argument.tensor().tensor());
      if (tensor == nullptr)
        return NotFound(Reason::kHandle, absl::StrCat("no tensor ", argument.tensor().tensor()));
      named.push_back(absl::MakeSpan(tensor->data, tensor->bytes));
      held.push_back(std::move(tensor));
    }
    std::function<void(const v1::LaunchRequest&, const std::vector<TensorBytes>&)> run;
    {
      MutexLock lock(&mu);
      last_launch = request;
      response->set_sequence(++sequence);
      run = on_launch;
    }
    if (run) run(request, named);
    response->mutable_result()->mutable_device_time()->set_nanos(1500);
    response->mutable_result()->set_warp_instructions(7);
    return absl::OkStatus();
  }

  Mutex mu;
  std::map<std::string, int> calls ABSL_GUARDED_BY(mu);
  std::map<std::string, absl::Status> failures ABSL_GUARDED_BY(mu);
  std::map<std::string, std::shared_ptr<FakeTensor>> tensors ABSL_GUARDED_BY(mu);
  std::map<std::string, std::vector<std::string>> tokens ABSL_GUARDED_BY(mu);
  std::set<std::string> sessions ABSL_GUARDED_BY(mu), kernels ABSL_GUARDED_BY(mu),
      uploads ABSL_GUARDED_BY(mu);
  std::function<void(const v1::LaunchRequest&, const std::vector<TensorBytes>&)> on_launch
      ABSL_GUARDED_BY(mu);
  v1::CompiledKernel kernel ABSL_GUARDED_BY(mu);
  v1::DeviceInfo device ABSL_GUARDED_BY(mu);
  v1::CompileRequest last_compile ABSL_GUARDED_BY(mu);
  v1::LaunchRequest last_launch ABSL_GUARDED_BY(mu);
  bool mappable ABSL_GUARDED_BY(mu) = true;
  int lease_ms ABSL_GUARDED_BY(mu) = 30000;
  uint64_t sequence ABSL_GUARDED_BY(mu) = 0;
  uint64_t next ABSL_GUARDED_BY(mu) = 0;
  std::string socket_path;
};

#define FAKE_ENTER(method) \
  if (grpc::Status s = state->Enter(method); !s.ok()) return s

struct FakeServer::Services {
  struct Sessions final : v1::SessionService::Service {
    explicit Sessions(State* s) : state(s) {}
    grpc::Status OpenSession(grpc::ServerContext*, const v1::OpenSessionRequest* request,
                             v1::OpenSessionResponse* response) override {
      FAKE_ENTER("OpenSession");
      MutexLock lock(&state->mu);
      response->set_session(absl::StrCat("s", ++state->next));
      state->sessions.insert(response->session());
      response->set_protocol_version(request->protocol_version());
      response->set_server_version("fake");
      response->set_device(request->device().empty() ? "emulator:0" : request->device());
      response->set_device_name("fake device");
      response->set_device_target("cuda:80:32");
      response->mutable_lease()->set_seconds(state->lease_ms / 1000);
      response->mutable_lease()->set_nanos(state->lease_ms % 1000 * 1000000);
      if (state->mappable) response->set_descriptor_socket(state->socket_path + ".fds");
      return grpc::Status::OK;
    }
    grpc::Status KeepAlive(grpc::ServerContext*, const v1::KeepAliveRequest*,
                           v1::KeepAliveResponse*) override {
      FAKE_ENTER("KeepAlive");
      return grpc::Status::OK;
    }
    grpc::Status CloseSession(grpc::ServerContext*, const v1::CloseSessionRequest* request,
                              v1::CloseSessionResponse*) override {
      FAKE_ENTER("CloseSession");
      MutexLock lock(&state->mu);
      if (state->sessions.erase(request->session()) == 1) {
        state->tensors.clear();
        state->kernels.clear();
        return grpc::Status::OK;
      }
      return ToGrpcStatus(NotFound(Reason::kSessionExpired, "no such session"));
    }
    grpc::Status ExportDescriptors(grpc::ServerContext*, const v1::ExportDescriptorsRequest* request,
                                   v1::ExportDescriptorsResponse* response) override {
      FAKE_ENTER("ExportDescriptors");
      for (int i = 0; i < request->tensors_size(); ++i) {
        const std::shared_ptr<FakeTensor> tensor = state->Find(request->tensors(i));
        if (tensor == nullptr) return State::NoTensor(request->tensors(i));
        v1::ExportedTensor* exported = response->add_tensors();
        exported->set_descriptor_index(static_cast<uint32_t>(i));
        exported->set_bytes(tensor->bytes);
        exported->set_descriptor_bytes(tensor->mapped);
      }
      MutexLock lock(&state->mu);
      response->set_token(absl::StrCat("token", ++state->next));
      state->tokens[response->token()] = {request->tensors().begin(), request->tensors().end()};
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Devices final : v1::DeviceService::Service {
    explicit Devices(State* s) : state(s) {}
    grpc::Status ListDevices(grpc::ServerContext*, const v1::ListDevicesRequest*,
                             v1::ListDevicesResponse* response) override {
      FAKE_ENTER("ListDevices");
      MutexLock lock(&state->mu);
      *response->add_devices() = state->device;
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Compiles final : v1::CompileService::Service {
    explicit Compiles(State* s) : state(s) {}
    grpc::Status Compile(grpc::ServerContext*, const v1::CompileRequest* request,
                         grpc::ServerWriter<v1::CompileResponse>* writer) override {
      FAKE_ENTER("Compile");
      v1::CompileResponse event;
      event.mutable_stage_started()->set_level(v1::LEVEL_PTX);
      writer->Write(event);
      event.mutable_stage_done()->set_level(v1::LEVEL_PTX);
      event.mutable_stage_done()->mutable_time()->set_nanos(2000);
      writer->Write(event);
      MutexLock lock(&state->mu);
      state->last_compile = *request;
      if (request->source_case() == v1::CompileRequest::kDigest &&
          state->uploads.count(request->digest()) == 0) {
        return ToGrpcStatus(NotFound(Reason::kHandle, "not uploaded"));
      }
      *event.mutable_kernel() = state->kernel;
      event.mutable_kernel()->set_kernel(absl::StrCat("k", ++state->next));
      state->kernels.insert(event.kernel().kernel());
      writer->Write(event);
      return grpc::Status::OK;
    }
    grpc::Status FindMissing(grpc::ServerContext*, const v1::FindMissingRequest* request,
                             v1::FindMissingResponse* response) override {
      FAKE_ENTER("FindMissing");
      MutexLock lock(&state->mu);
      for (const std::string& digest : request->digests()) {
        if (state->uploads.count(digest) == 0) response->add_missing(digest);
      }
      return grpc::Status::OK;
    }
    grpc::Status Upload(grpc::ServerContext*, grpc::ServerReader<v1::UploadRequest>* reader,
                        v1::UploadResponse* response) override {
      FAKE_ENTER("Upload");
      std::string all;
      v1::UploadRequest request;
      while (reader->Read(&request)) all += request.data();
      response->set_digest(Digest::Of(all).ToHex());
      MutexLock lock(&state->mu);
      state->uploads.insert(response->digest());
      return grpc::Status::OK;
    }
    grpc::Status GetArtifact(grpc::ServerContext*, const v1::GetArtifactRequest*,
                             grpc::ServerWriter<v1::GetArtifactResponse>* writer) override {
      FAKE_ENTER("GetArtifact");
      v1::GetArtifactResponse response;
      for (const char* part : {"first ", "second"}) {
        response.set_data(part);
        writer->Write(response);
      }
      return grpc::Status::OK;
    }
    grpc::Status ReleaseKernel(grpc::ServerContext*, const v1::ReleaseKernelRequest* request,
                               v1::ReleaseKernelResponse*) override {
      FAKE_ENTER("ReleaseKernel");
      MutexLock lock(&state->mu);
      state->kernels.erase(request->kernel());
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Tensors final : v1::TensorService::Service {
    explicit Tensors(State* s) : state(s) {}
    grpc::Status Allocate(grpc::ServerContext*, const v1::AllocateRequest* request,
                          v1::AllocateResponse* response) override {
      FAKE_ENTER("Allocate");
      for (const v1::TensorSpec& spec : request->tensors()) {
        uint64_t bytes = ScalarTypeBytes(static_cast<ScalarType>(spec.dtype()));
        for (const uint64_t dimension : spec.shape()) bytes *= dimension;
        std::shared_ptr<FakeTensor> tensor = MakeTensor(bytes);
        MutexLock lock(&state->mu);
        v1::TensorInfo* info = response->add_tensors();
        info->set_tensor(absl::StrCat("t", ++state->next));
        info->set_bytes(bytes);
        info->set_device_address(0x1000 * state->next);
        state->tensors[info->tensor()] = std::move(tensor);
      }
      return grpc::Status::OK;
    }
    grpc::Status Write(grpc::ServerContext*, grpc::ServerReader<v1::WriteRequest>* reader,
                       v1::WriteResponse* response) override {
      FAKE_ENTER("Write");
      v1::WriteRequest request;
      std::shared_ptr<FakeTensor> tensor;
      uint64_t at = 0;
      while (reader->Read(&request)) {
        if (tensor == nullptr) {
          tensor = state->Find(request.tensor());
          at = request.offset();
          if (tensor == nullptr) return State::NoTensor(request.tensor());
        }
        if (at + request.data().size() > tensor->bytes) {
          return ToGrpcStatus(MakeError(absl::StatusCode::kOutOfRange, Reason::kUnspecified, "past the end"));
        }
        std::memcpy(tensor->data + at, request.data().data(), request.data().size());
        at += request.data().size();
      }
      response->set_bytes(at);
      return grpc::Status::OK;
    }
    grpc::Status Read(grpc::ServerContext*, const v1::ReadRequest* request,
                      grpc::ServerWriter<v1::ReadResponse>* writer) override {
      FAKE_ENTER("Read");
      const std::shared_ptr<FakeTensor> tensor = state->Find(request->tensor());
      if (tensor == nullptr) return State::NoTensor(request->tensor());
      v1::ReadResponse response;
      for (uint64_t at = 0; at < request->bytes(); at += 1 << 20) {
        response.set_data(tensor->data + request->offset() + at,
                          std::min<uint64_t>(1 << 20, request->bytes() - at));
        writer->Write(response);
      }
      return grpc::Status::OK;
    }
    grpc::Status Fill(grpc::ServerContext*, const v1::FillRequest* request, v1::FillResponse*) override {
      FAKE_ENTER("Fill");
      const std::shared_ptr<FakeTensor> tensor = state->Find(request->tensor());
      if (tensor == nullptr) return State::NoTensor(request->tensor());
      for (uint64_t i = 0; i < tensor->bytes; ++i)
        tensor->data[i] = request->pattern()[i % request->pattern().size()];
      return grpc::Status::OK;
    }
    grpc::Status Copy(grpc::ServerContext*, const v1::CopyRequest* request, v1::CopyResponse*) override {
      FAKE_ENTER("Copy");
      const std::shared_ptr<FakeTensor> from = state->Find(request->source());
      const std::shared_ptr<FakeTensor> to = state->Find(request->destination());
      if (from == nullptr || to == nullptr) return State::NoTensor("");
      std::memcpy(to->data, from->data, request->bytes());
      return grpc::Status::OK;
    }
    grpc::Status Free(grpc::ServerContext*, const v1::FreeRequest* request, v1::FreeResponse*) override {
      FAKE_ENTER("Free");
      MutexLock lock(&state->mu);
      for (const std::string& handle : request->tensors()) {
        if (state->tensors.erase(handle) == 0) return State::NoTensor(handle);
      }
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Launches final : v1::LaunchService::Service {
    explicit Launches(State* s) : state(s) {}
    grpc::Status Launch(grpc::ServerContext*, const v1::LaunchRequest* request,
                        v1::LaunchResponse* response) override {
      FAKE_ENTER("Launch");
      return ToGrpcStatus(state->Launch(*request, response));
    }
    grpc::Status LaunchStream(
        grpc::ServerContext*,
        grpc::ServerReaderWriter<v1::LaunchResponse, v1::LaunchRequest>* stream) override {
      FAKE_ENTER("LaunchStream");
      v1::LaunchRequest request;
      while (stream->Read(&request)) {
        v1::LaunchResponse response;
        const absl::Status status = state->Launch(request, &response);
        response.mutable_status()->set_code(static_cast<int>(status.code()));
        response.mutable_status()->set_reason(std::string(ReasonName(GetReason(status))));
        response.mutable_status()->set_message(std::string(status.message()));
        stream->Write(response);
      }
      return grpc::Status::OK;
    }
    grpc::Status Synchronize(grpc::ServerContext*, const v1::SynchronizeRequest*,
                             v1::SynchronizeResponse* response) override {
      FAKE_ENTER("Synchronize");
      MutexLock lock(&state->mu);
      response->set_last_sequence(state->sequence);
      return grpc::Status::OK;
    }
    grpc::Status Benchmark(grpc::ServerContext*, const v1::BenchmarkRequest* request,
                           v1::BenchmarkResponse* response) override {
      FAKE_ENTER("Benchmark");
      for (uint32_t i = 0; i < request->repetitions(); ++i)
        response->add_device_times()->set_nanos(1000 + static_cast<int>(i));
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Toolchains final : v1::ToolchainService::Service {
    explicit Toolchains(State* s) : state(s) {}
    grpc::Status InstallToolchain(grpc::ServerContext*, const v1::InstallToolchainRequest* request,
                                  grpc::ServerWriter<v1::InstallToolchainResponse>* writer) override {
      FAKE_ENTER("InstallToolchain");
      for (const double fraction : {0.5, 0.25, 1.0}) {
        v1::InstallToolchainResponse event;
        event.set_step("downloading");
        event.set_fraction(fraction);
        if (fraction == 1.0) event.mutable_toolchain()->set_name(request->version());
        writer->Write(event);
      }
      return grpc::Status::OK;
    }
    State* const state;
  };

  struct Admin final : v1::AdminService::Service {
    explicit Admin(State* s) : state(s) {}
    grpc::Status ExportCache(grpc::ServerContext*, const v1::ExportCacheRequest*,
                             grpc::ServerWriter<v1::ExportCacheResponse>* writer) override {
      FAKE_ENTER("ExportCache");
      v1::ExportCacheResponse response;
      response.set_data("exported");
      writer->Write(response);
      return grpc::Status::OK;
    }
    grpc::Status ImportCache(grpc::ServerContext* context, grpc::ServerReader<v1::ImportCacheRequest>* reader,
                             v1::ImportCacheResponse* response) override {
      FAKE_ENTER("ImportCache");
      v1::ImportCacheRequest request;
      while (reader->Read(&request)) response->set_imported(response->imported() + request.data().size());
      return context->IsCancelled() ? grpc::Status::CANCELLED : grpc::Status::OK;
    }
    State* const state;
  };

  Services(State* state, const std::string& socket_path)
      : sessions(state),
        devices(state),
        compiles(state),
        tensors(state),
        launches(state),
        toolchains(state),
        admin(state) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_path, grpc::InsecureServerCredentials());
    for (grpc::Service* service : std::initializer_list<grpc::Service*>{
             &sessions, &devices, &compiles, &tensors, &launches, &toolchains, &admin}) {
      builder.RegisterService(service);
    }
    server = builder.BuildAndStart();
    absl::StatusOr<UniqueFd> listening = ListenUnix(socket_path + ".fds");
    if (listening.ok()) listener = *std::move(listening);
    descriptors = std::thread([this, state] { ServeDescriptors(state); });
  }

  ~Services() {
    shutdown(listener.get(), SHUT_RDWR);
    descriptors.join();
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  void ServeDescriptors(State* state) {
    for (;;) {
      const UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) return;
      const absl::StatusOr<DescriptorRequest> request = ReadDescriptorRequest(connection.get());
      if (!request.ok()) continue;
      std::vector<std::string> handles;
      {
        MutexLock lock(&state->mu);
        const auto found = state->tokens.find(request->token);
        if (found != state->tokens.end()) {
          handles = found->second;
          state->tokens.erase(found);
        }
      }
      std::vector<std::shared_ptr<FakeTensor>> held;
      std::vector<int> fds;
      for (const std::string& handle : handles) {
        held.push_back(state->Find(handle));
        if (held.back() != nullptr) fds.push_back(held.back()->fd.get());
      }
      SendDescriptors(connection.get(), absl::OkStatus(), fds).IgnoreError();
    }
  }

  Sessions sessions;
  Devices devices;
  Compiles compiles;
  Tensors tensors;
  Launches launches;
  Toolchains toolchains;
  Admin admin;
  std::unique_ptr<grpc::Server> server;
  UniqueFd listener;
  std::thread descriptors;
};

FakeServer::FakeServer(const std::string& socket_path) : state_(std::make_unique<State>()) {
  state_->socket_path = socket_path;
  services_ = std::make_unique<Services>(state_.get(), socket_path);
}
FakeServer::~FakeServer() = default;

void FakeServer::Fail(const std::string& method, const absl::Status& status) {
  MutexLock lock(&state_->mu);
  if (status.ok()) {
    state_->failures.erase(method);
  } else {
    state_->failures[method] = status;
  }
}
void FakeServer::SetKernel(const v1::CompiledKernel& kernel) {
  MutexLock lock(&state_->mu);
  state_->kernel = kernel;
}
void FakeServer::SetDevice(const v1::DeviceInfo& device) {
  MutexLock lock(&state_->mu);
  state_->device = device;
}
void FakeServer::OnLaunch(
    std::function<void(const v1::LaunchRequest&, const std::vector<TensorBytes>&)> launch) {
  MutexLock lock(&state_->mu);
  state_->on_launch = std::move(launch);
}
void FakeServer::SetMappable(bool mappable) {
  MutexLock lock(&state_->mu);
  state_->mappable = mappable;
}
void FakeServer::SetLease(int milliseconds) {
  MutexLock lock(&state_->mu);
  state_->lease_ms = milliseconds;
}
int FakeServer::Calls(const std::string& method) const {
  MutexLock lock(&state_->mu);
  const auto found = state_->calls.find(method);
  return found == state_->calls.end() ? 0 : found->second;
}
v1::CompileRequest FakeServer::LastCompile() const {
  MutexLock lock(&state_->mu);
  return state_->last_compile;
}
v1::LaunchRequest FakeServer::LastLaunch() const {
  MutexLock lock(&state_->mu);
  return state_->last_launch;
}
int FakeServer::live_tensors() const {
  MutexLock lock(&state_->mu);
  return static_cast<int>(state_->tensors.size());
}
int FakeServer::live_sessions() const {
  MutexLock lock(&state_->mu);
  return static_cast<int>(state_->sessions.size());
}
int FakeServer::live_kernels() const {
  MutexLock lock(&state_->mu);
  return static_cast<int>(state_->kernels.size());
}

}  // namespace trun
