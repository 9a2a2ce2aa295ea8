#include "trun/client.h"

#include <errno.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/connection.h"
#include "client/cpp/daemon_starter.h"
#include "client/cpp/session_state.h"
#include "common/rpc/channel.h"
#include "common/rpc/limits.h"
#include "common/rpc/runtime_directory.h"
#include "trun/v1/admin.grpc.pb.h"
#include "trun/v1/device.grpc.pb.h"

namespace trun {
inline namespace client {

absl::StatusOr<Client> Client::Connect(const ClientOptions& options) {
  std::string socket_path;
  const char* from_environment = std::getenv("TRUN_ADDRESS");
  const bool given = !options.address.empty() || (from_environment != nullptr && *from_environment != '\0');
  if (!options.address.empty()) {
    TRUN_ASSIGN_OR_RETURN(socket_path, ParseAddress(options.address));
  } else {
    TRUN_ASSIGN_OR_RETURN(socket_path, DaemonSocketPath());
  }
  bool started = false;
  if (!given && options.start_daemon) {
    DaemonStart start;
    start.socket_path = socket_path;
    start.trund = options.trund;
    start.timeout = options.start_timeout;
    TRUN_ASSIGN_OR_RETURN(started, EnsureDaemon(start));
  } else if (!DaemonAnswers(socket_path)) {
    return Unavailable(Reason::kUnavailable,
                       absl::StrCat("no daemon answers on ", socket_path,
                                    given ? ": start trund there, or clear the address to get a private one"
                                          : ": start it with 'trun-client daemon start'"));
  }
  return Client(std::make_shared<Connection>(
      MakeUnixChannel(socket_path), absl::StrCat("unix:", socket_path),
      options.name.empty() ? program_invocation_short_name : options.name, started));
}

absl::StatusOr<Session> Client::OpenSession(const SessionOptions& options) {
  v1::OpenSessionRequest request;
  request.set_protocol_version(kProtocolVersion);
  request.set_client_name(connection_->client_name);
  const char* device = std::getenv("TRUN_DEVICE");
  request.set_device(options.device.empty() && device != nullptr ? device : options.device);
  if (options.lease > absl::ZeroDuration()) ToProto(options.lease, request.mutable_lease());
  request.set_memory_limit_bytes(options.memory_limit_bytes);
  std::unique_ptr<v1::SessionService::Stub> stub = v1::SessionService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(const v1::OpenSessionResponse opened,
                        Call(*stub, &v1::SessionService::Stub::OpenSession, request));
  return Session(std::make_shared<SessionState>(connection_, std::move(stub), opened, options.copies));
}

absl::StatusOr<std::vector<DeviceInfo>> Client::ListDevices() const {
  const std::unique_ptr<v1::DeviceService::Stub> stub = v1::DeviceService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(const v1::ListDevicesResponse response,
                        Call(*stub, &v1::DeviceService::Stub::ListDevices, v1::ListDevicesRequest()));
  std::vector<DeviceInfo> devices;
  for (const v1::DeviceInfo& from : response.devices()) {
    DeviceInfo device;
    device.device = from.device();
    device.name = from.name();
    device.target = from.target();
    device.memory_bytes = from.memory_bytes();
    device.multiprocessors = from.multiprocessors();
    device.max_shared_bytes = from.max_shared_bytes();
    device.sessions = from.sessions();
    device.used_bytes = from.used_bytes();
    device.is_default = from.is_default();
    device.unusable_reason = from.unusable_reason();
    device.clock_khz = from.clock_khz();
    device.memory_clock_khz = from.memory_clock_khz();
    device.driver = from.driver();
    device.pinning_refused = from.pinning_refused();
    for (const v1::DeviceUser& user : from.users()) {
      device.users.push_back({user.client_name(), user.used_bytes(), user.executor_pid()});
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

absl::StatusOr<std::vector<SessionInfo>> Client::ListSessions() const {
  const std::unique_ptr<v1::SessionService::Stub> stub = v1::SessionService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(const v1::ListSessionsResponse response,
                        Call(*stub, &v1::SessionService::Stub::ListSessions, v1::ListSessionsRequest()));
  std::vector<SessionInfo> sessions;
  for (const v1::SessionInfo& from : response.sessions()) {
    SessionInfo session;
    session.session = from.session();
    session.tenant = from.tenant();
    session.client_name = from.client_name();
    session.device = from.device();
    session.age = FromProto(from.age());
    session.idle = FromProto(from.idle());
    session.tensors = from.tensors();
    session.tensor_bytes = from.tensor_bytes();
    session.kernels = from.kernels();
    session.launches = from.launches();
    session.executor_restarts = from.executor_restarts();
    session.executor_pid = from.executor_pid();
    sessions.push_back(std::move(session));
  }
  return sessions;
}

absl::StatusOr<ServerInfo> Client::GetServerInfo() const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(const v1::GetServerInfoResponse response,
                        Call(*stub, &v1::AdminService::Stub::GetServerInfo, v1::GetServerInfoRequest()));
  ServerInfo info;
  info.version = response.version();
  info.pid = response.pid();
  info.uptime = FromProto(response.uptime());
  info.socket = response.socket();
  info.cache_path = response.cache_path();
  info.log_path = response.log_path();
  info.private_daemon = response.private_daemon();
  info.sessions = response.sessions();
  info.compiles = response.compiles();
  info.launches = response.launches();
  info.draining = response.draining();
  return info;
}

absl::Status Client::Drain(absl::Duration deadline) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  v1::DrainRequest request;
  if (deadline > absl::ZeroDuration()) ToProto(deadline, request.mutable_deadline());
  return Call(*stub, &v1::AdminService::Stub::Drain, request, deadline + absl::Minutes(2)).status();
}

absl::Status Client::CloseSession(const std::string& id) const {
  const std::unique_ptr<v1::SessionService::Stub> stub = v1::SessionService::NewStub(connection_->channel);
  v1::CloseSessionRequest request;
  request.set_session(id);
  return Call(*stub, &v1::SessionService::Stub::CloseSession, request).status();
}

const std::string& Client::address() const { return connection_->address; }
bool Client::started_daemon() const { return connection_->started_daemon; }

}  // namespace client
}  // namespace trun
