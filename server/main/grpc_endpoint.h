// gRPC's side of the daemon: the services, health and reflection, on connections that it is given.
#ifndef TRUN_SERVER_MAIN_GRPC_ENDPOINT_H_
#define TRUN_SERVER_MAIN_GRPC_ENDPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"
#include "server/service/service_context.h"

namespace trun {

// Thread-safe.
class GrpcEndpoint {
 public:
  // `context` outlives it. INTERNAL when gRPC refuses to start.
  static absl::StatusOr<std::unique_ptr<GrpcEndpoint>> Create(const ServiceContext& context);
  virtual ~GrpcEndpoint() = default;

  // REQUIRES: a connected, non-blocking stream socket.
  virtual void Serve(UniqueFd connection) = 0;
  // grpc.health.v1: the daemon ("", every service, every device that was named). At first it is not serving.
  virtual void SetServing(bool serving) = 0;
  // A device is SERVING while it is usable and the daemon is serving.
  virtual void SetDeviceServing(const std::string& device, bool usable) = 0;
  // Calls that are not over after `timeout` are cancelled. Returns when no handler runs any more. Once.
  virtual void Shutdown(absl::Duration timeout) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_GRPC_ENDPOINT_H_
