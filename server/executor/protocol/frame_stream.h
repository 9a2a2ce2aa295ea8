// Frames between trund and an executor: a 4-byte little-endian length and that many bytes of protobuf, with
// descriptors beside them (proto/trun/internal/v1/executor.proto, docs/formats/executor.md).
#ifndef TRUN_SERVER_EXECUTOR_PROTOCOL_FRAME_STREAM_H_
#define TRUN_SERVER_EXECUTOR_PROTOCOL_FRAME_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/unique_fd.h"

namespace google::protobuf {
class MessageLite;
}

namespace trun {

constexpr size_t kMaxExecutorFrameBytes = size_t{16} << 20;

// Appends the frame of `message` to `out`. RESOURCE_EXHAUSTED kTooLarge when it is over
// kMaxExecutorFrameBytes.
absl::Status AppendFrame(const google::protobuf::MessageLite& message, std::string* out);

// One sendmsg of as much of `bytes` as the socket takes now, with `descriptor` (-1: none) on the first byte.
// The count sent; 0 when the socket is full. UNAVAILABLE kExecutorLost when the peer is gone.
absl::StatusOr<size_t> SendSome(int socket, absl::string_view bytes, int descriptor);
// The same until all is sent; waits while the socket is full.
absl::Status SendAll(int socket, absl::string_view bytes, int descriptor);

// Cuts what arrives into frames. Thread-compatible. Memory grows with what has arrived, not with what was
// announced.
class FrameReader {
 public:
  // With `accept_descriptors` false the kernel drops what a peer attaches.
  explicit FrameReader(bool accept_descriptors) : accept_descriptors_(accept_descriptors) {}

  // One recvmsg. True when something arrived, false when a non-blocking socket has nothing now. UNAVAILABLE
  // kExecutorLost: the peer is gone. DATA_LOSS kProtocol: too many descriptors, or a length over the limit.
  absl::StatusOr<bool> Receive(int socket, bool wait);
  // The next whole frame, valid until the next Receive; false when there is none yet.
  bool Next(absl::string_view* frame);
  // The oldest descriptor that arrived and was not taken; invalid when there is none.
  UniqueFd TakeDescriptor();

 private:
  absl::Status CheckLength() const;

  const bool accept_descriptors_;
  std::string buffer_;
  size_t begin_ = 0;  // of what has not been handed out
  size_t end_ = 0;
  std::deque<UniqueFd> descriptors_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_PROTOCOL_FRAME_STREAM_H_
