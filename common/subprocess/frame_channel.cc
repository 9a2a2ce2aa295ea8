#include "common/subprocess/frame_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr size_t kPrologueBytes = 8;
constexpr size_t kChunkBytes = size_t{1} << 20;

void PutU32(uint32_t value, char* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

uint32_t GetU32(const char* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(in[i])} << (8 * i);
  return value;
}

absl::Status Gone(absl::string_view what) {
  return Unavailable(Reason::kUnavailable, absl::StrCat("the peer closed the connection ", what));
}

}  // namespace

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> FrameChannel::MakePair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ResourceExhausted(Reason::kUnavailable, absl::StrCat("cannot make a socket pair: errno ", errno));
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

absl::Status FrameChannel::Wait(short events, absl::Time deadline) {
  while (true) {
    const absl::Duration left = deadline - Clock::Real()->Now();
    if (left <= absl::ZeroDuration()) {
      return DeadlineExceeded(Reason::kUnavailable, "the peer did not answer before the deadline");
    }
    const int64_t ms =
        left > absl::Hours(1) ? 3600000 : absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
    struct pollfd ready{socket_.get(), events, 0};
    const int count = poll(&ready, 1, static_cast<int>(ms));
    if (count > 0) return absl::OkStatus();
    if (count < 0 && errno != EINTR) return FromErrno(errno, "poll on a frame channel");
  }
}

absl::Status FrameChannel::Send(absl::string_view header, absl::string_view body, absl::Duration timeout) {
  if (header.size() > limits_.header_bytes || body.size() > limits_.body_bytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat("a frame of ", header.size(), " + ", body.size(), " bytes is over the limit of ",
                     limits_.header_bytes, " + ", limits_.body_bytes),
        {{"limit", absl::StrCat(limits_.body_bytes)}});
  }
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  char prologue[kPrologueBytes];
  PutU32(static_cast<uint32_t>(header.size()), prologue);
  PutU32(static_cast<uint32_t>(body.size()), prologue + 4);
  std::string front(prologue, kPrologueBytes);
  front.append(header.data(), header.size());
  for (absl::string_view part : {absl::string_view(front), body}) {
    while (!part.empty()) {
      const ssize_t sent = send(socket_.get(), part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) {
        part.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        TRUN_RETURN_IF_ERROR(Wait(POLLOUT, deadline));
      } else if (errno == EPIPE || errno == ECONNRESET) {
        return Gone("while a frame was sent");
      } else if (errno != EINTR) {
        return FromErrno(errno, "send on a frame channel");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status FrameChannel::ReadExactly(size_t size, absl::Time deadline, std::string* out) {
  out->clear();
  while (out->size() < size) {
    const size_t have = out->size();
    out->resize(have + std::min(size - have, kChunkBytes));
    const ssize_t got = recv(socket_.get(), out->data() + have, out->size() - have, MSG_DONTWAIT);
    out->resize(have + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got == 0 || (got < 0 && errno == ECONNRESET))
      return Gone(have == 0 ? "" : "in the middle of a frame");
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        TRUN_RETURN_IF_ERROR(Wait(POLLIN, deadline));
      } else if (errno != EINTR) {
        return FromErrno(errno, "recv on a frame channel");
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Frame> FrameChannel::Receive(absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  std::string prologue;
  TRUN_RETURN_IF_ERROR(ReadExactly(kPrologueBytes, deadline, &prologue));
  const size_t header_bytes = GetU32(prologue.data());
  const size_t body_bytes = GetU32(prologue.data() + 4);
  if (header_bytes > limits_.header_bytes || body_bytes > limits_.body_bytes) {
    return DataLoss(Reason::kProtocol,
                    absl::StrCat("the peer announced a frame of ", header_bytes, " + ", body_bytes,
                                 " bytes; the limit is ", limits_.header_bytes, " + ", limits_.body_bytes));
  }
  Frame frame;
  TRUN_RETURN_IF_ERROR(ReadExactly(header_bytes, deadline, &frame.header));
  TRUN_RETURN_IF_ERROR(ReadExactly(body_bytes, deadline, &frame.body));
  return frame;
}

}  // namespace trun
