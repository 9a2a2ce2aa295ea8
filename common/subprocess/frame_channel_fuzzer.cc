// Any bytes from a peer: frames are delivered or refused, within the limits.
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>

#include "common/subprocess/frame_channel.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;  // fits a socket's buffer: the send below never blocks
  constexpr trun::FrameChannel::Limits kLimits{1024, 2048};
  auto ends = trun::FrameChannel::MakePair();
  if (!ends.ok()) abort();
  if (size > 0 && send(ends->first.get(), data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) abort();
  ends->first.reset();
  trun::FrameChannel channel(std::move(ends->second), kLimits);
  size_t delivered = 0;
  while (true) {
    auto frame = channel.Receive(absl::Seconds(5));
    if (!frame.ok()) {
      if (absl::IsDeadlineExceeded(frame.status())) abort();  // the peer has closed: nothing to wait for
      break;
    }
    if (frame->header.size() > kLimits.header_bytes || frame->body.size() > kLimits.body_bytes) abort();
    delivered += 8 + frame->header.size() + frame->body.size();
    if (delivered > size) abort();
  }
  return 0;
}
