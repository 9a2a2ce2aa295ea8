#ifndef TRUN_CLIENT_CPP_LAUNCH_STREAM_H_
#define TRUN_CLIENT_CPP_LAUNCH_STREAM_H_

#include <memory>

#include "client/cpp/session_state.h"
#include "trun/launch.h"

namespace trun {
inline namespace client {

struct LaunchStream::Impl {
  explicit Impl(std::shared_ptr<SessionState> session);

  const std::shared_ptr<SessionState> state;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::LaunchRequest, v1::LaunchResponse>> stream;
  bool done_launching = false;  // the launching thread's
  bool finished = false;        // the reading thread's, with `end`
  absl::Status end;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_LAUNCH_STREAM_H_
