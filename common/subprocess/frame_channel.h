// Frames over a stream socket: how trund talks to the children that are not C++ (docs/formats/frames.md).
#ifndef TRUN_COMMON_SUBPROCESS_FRAME_CHANNEL_H_
#define TRUN_COMMON_SUBPROCESS_FRAME_CHANNEL_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"

namespace trun {

// A header (UTF-8 JSON by convention, not looked at here) and raw bytes that belong to it.
struct Frame {
  std::string header;
  std::string body;
};

// On the wire: header length and body length (u32, little endian), the header, the body.
// Thread-compatible. Owns the socket. After an error the position in the stream is lost: close the channel.
class FrameChannel {
 public:
  struct Limits {
    size_t header_bytes = size_t{4} << 20;
    size_t body_bytes = size_t{256} << 20;
  };

  // REQUIRES: `socket` is a connected stream socket.
  explicit FrameChannel(UniqueFd socket) : socket_(std::move(socket)) {}
  FrameChannel(UniqueFd socket, Limits limits) : socket_(std::move(socket)), limits_(limits) {}

  // A connected pair, both close-on-exec. RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakePair();

  // DEADLINE_EXCEEDED (the peer does not read), UNAVAILABLE (it is gone), RESOURCE_EXHAUSTED kTooLarge (over
  // the limits; nothing was sent).
  absl::Status Send(absl::string_view header, absl::string_view body, absl::Duration timeout);
  // DEADLINE_EXCEEDED, UNAVAILABLE (the peer is gone, also in the middle of a frame), DATA_LOSS kProtocol
  // (the lengths are over the limits). Memory grows with what has arrived, not with what was announced.
  absl::StatusOr<Frame> Receive(absl::Duration timeout);

  int fd() const { return socket_.get(); }

 private:
  absl::Status ReadExactly(size_t size, absl::Time deadline, std::string* out);
  absl::Status Wait(short events, absl::Time deadline);

  UniqueFd socket_;
  const Limits limits_;
};

}  // namespace trun

#endif  // TRUN_COMMON_SUBPROCESS_FRAME_CHANNEL_H_
