// The C++ client of trund: compile Triton kernels of any level and launch them, without Python.
//
//   auto client = trun::Client::Connect();             // starts a private daemon when none answers
//   auto session = client->OpenSession();
//   auto kernel = session->CompileFile("add.ttir");
//   auto x = session->Allocate(trun::ScalarType::kF32, {4096});
//   ...
//   auto result = kernel->Launch({4}, {*x, *y, *z, 4096});
//
// Every call returns absl::Status or absl::StatusOr; trun/status.h says how to read one.
#ifndef TRUN_CLIENT_CLIENT_H_
#define TRUN_CLIENT_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trun/cache.h"
#include "trun/kernel.h"
#include "trun/launch.h"
#include "trun/session.h"
#include "trun/status.h"
#include "trun/tensor.h"
#include "trun/toolchains.h"

namespace trun {
inline namespace client {

struct ClientOptions {
  // "unix:/path/of/socket". Empty: TRUN_ADDRESS, else the private daemon of this user's runtime directory.
  std::string address;
  // Start a private daemon when none answers. Never done for an address that was given.
  bool start_daemon = true;
  // Path of trund. Empty: TRUN_TRUND, else beside this program or this library, else PATH.
  std::string trund;
  absl::Duration start_timeout = absl::Seconds(20);
  std::string name;  // for people, in lists of sessions; empty: this program's name
};

struct DeviceInfo {
  std::string device;  // "emulator:0"
  std::string name;
  std::string target;
  uint64_t memory_bytes = 0;
  uint32_t multiprocessors = 0;
  uint32_t max_shared_bytes = 0;
  uint32_t sessions = 0;
  uint64_t used_bytes = 0;
  bool is_default = false;
  std::string unusable_reason;                   // empty: usable
  uint32_t clock_khz = 0, memory_clock_khz = 0;  // at most; 0 on the emulator
  std::string driver;                            // empty on the emulator
  std::string pinning_refused;  // why copies to and from tensors are slow; empty: they are not
  struct User {
    std::string client_name;
    uint64_t used_bytes = 0;
    int64_t executor_pid = 0;
  };
  std::vector<User> users;  // sessions on it
};

struct SessionInfo {
  std::string session, tenant, client_name, device;
  absl::Duration age = absl::ZeroDuration(), idle = absl::ZeroDuration();
  uint64_t tensors = 0, tensor_bytes = 0, kernels = 0, launches = 0, executor_restarts = 0;
  int64_t executor_pid = 0;
};

struct ServerInfo {
  std::string version;
  int64_t pid = 0;
  absl::Duration uptime = absl::ZeroDuration();
  std::string socket, cache_path, log_path;
  bool private_daemon = false;  // started by a client; ends by itself when idle
  uint32_t sessions = 0;
  uint64_t compiles = 0, launches = 0;
  bool draining = false;
};

// A connection to one daemon. Thread-safe but for moves. Sessions outlive it: they share the connection.
class Client {
 public:
  // UNAVAILABLE: no daemon answers and none was, or could be, started (the message ends with its log's tail).
  // INVALID_ARGUMENT: the address is not one. DEADLINE_EXCEEDED: a started daemon was not ready in time.
  static absl::StatusOr<Client> Connect(const ClientOptions& options = {});

  // NOT_FOUND: no such device. RESOURCE_EXHAUSTED/QUOTA. FAILED_PRECONDITION: the daemon speaks another
  // version.
  absl::StatusOr<Session> OpenSession(const SessionOptions& options = {});
  absl::StatusOr<std::vector<DeviceInfo>> ListDevices() const;
  absl::StatusOr<std::vector<SessionInfo>> ListSessions() const;
  absl::StatusOr<ServerInfo> GetServerInfo() const;
  // The daemon refuses new work, lets running work end until `deadline` (zero: its default) and ends.
  absl::Status Drain(absl::Duration deadline = absl::ZeroDuration()) const;
  // Ends a session by its id, of any client of this user. NOT_FOUND/SESSION_EXPIRED.
  absl::Status CloseSession(const std::string& id) const;

  Toolchains toolchains() const { return Toolchains(connection_); }
  Cache cache() const { return Cache(connection_); }
  const std::string& address() const;
  bool started_daemon() const;  // by this Connect

 private:
  explicit Client(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  std::shared_ptr<Connection> connection_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CLIENT_H_
