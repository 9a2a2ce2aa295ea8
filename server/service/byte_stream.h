// The one way to answer a call with bytes of any number: chunks in a message's `data`.
#ifndef TRUN_SERVER_SERVICE_BYTE_STREAM_H_
#define TRUN_SERVER_SERVICE_BYTE_STREAM_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "server/service/call.h"

namespace trun {

// Sends what `read` returns in messages of at most kMaxChunkBytes, none for no bytes. `read` runs once, on
// the workers' pool, and may block; its error ends the call.
template <typename Response>
grpc::ServerWriteReactor<Response>* StreamBytes(
    const ServiceContext& context, const Method& method, grpc::CallbackServerContext* call,
    std::function<absl::StatusOr<std::string>(const Caller&)> read) {
  struct State {
    bool read = false;
    std::string bytes;
    size_t sent = 0;
  };
  return PullStream<Response>::RunOn(context.workers, context, method, call,
                                     [read = std::move(read), state = std::make_shared<State>()](
                                         const Caller& caller, Response* response) -> absl::StatusOr<bool> {
                                       if (!state->read) {
                                         TRUN_ASSIGN_OR_RETURN(state->bytes, read(caller));
                                         state->read = true;
                                       }
                                       if (state->sent == state->bytes.size()) return false;
                                       const size_t count =
                                           std::min(kMaxChunkBytes, state->bytes.size() - state->sent);
                                       response->set_data(state->bytes.data() + state->sent, count);
                                       state->sent += count;
                                       return true;
                                     });
}

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_BYTE_STREAM_H_
