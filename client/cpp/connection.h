// One gRPC channel to a daemon, shared by everything that a Client hands out.
#ifndef TRUN_CLIENT_CPP_CONNECTION_H_
#define TRUN_CLIENT_CPP_CONNECTION_H_

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/rpc/status_mapping.h"
#include "google/protobuf/duration.pb.h"
#include "grpcpp/grpcpp.h"
#include "trun/client.h"

namespace trun {
inline namespace client {

// How long a call that only asks the daemon something may take before it counts as unreachable.
constexpr absl::Duration kCallTimeout = absl::Seconds(60);

// Thread-safe; immutable.
class Connection {
 public:
  Connection(std::shared_ptr<grpc::Channel> channel, std::string address, std::string client_name,
             bool started_daemon)
      : channel(std::move(channel)),
        address(std::move(address)),
        client_name(std::move(client_name)),
        started_daemon(started_daemon) {}

  const std::shared_ptr<grpc::Channel> channel;
  const std::string address;
  const std::string client_name;
  const bool started_daemon;
};

absl::Duration FromProto(const google::protobuf::Duration& duration);
void ToProto(absl::Duration duration, google::protobuf::Duration* out);

// Zero or infinite: no deadline.
void SetTimeout(grpc::ClientContext& context, absl::Duration timeout);

// One unary call: Call(*stub, &Stub::Method, request[, timeout]).
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, absl::Duration timeout = kCallTimeout) {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  Response response;
  TRUN_RETURN_IF_ERROR(FromGrpcStatus((stub.*method)(&context, request, &response)));
  return response;
}

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_CONNECTION_H_
