#include "server/executor/protocol/frame_stream.h"

#include <google/protobuf/message_lite.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr size_t kPrefixBytes = 4;
constexpr size_t kReadBytes = size_t{64} << 10;
constexpr size_t kMaxWaitingDescriptors = 16;

uint32_t LoadLength(const char* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(in[i])} << (8 * i);
  return value;
}

absl::Status PeerGone() { return Unavailable(Reason::kExecutorLost, "the peer closed the connection"); }

}  // namespace

absl::Status AppendFrame(const google::protobuf::MessageLite& message, std::string* out) {
  const size_t size = message.ByteSizeLong();
  if (size > kMaxExecutorFrameBytes) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("a message of ", size, " bytes is over the limit of ",
                                          kMaxExecutorFrameBytes, " to an executor"),
                             {{"limit", absl::StrCat(kMaxExecutorFrameBytes)}});
  }
  const size_t at = out->size();
  out->resize(at + kPrefixBytes + size);
  char* const bytes = out->data() + at;
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(size >> (8 * i));
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(bytes + kPrefixBytes));
  return absl::OkStatus();
}

absl::StatusOr<size_t> SendSome(int socket, absl::string_view bytes, int descriptor) {
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  while (true) {
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t{0};
    if (errno == EPIPE || errno == ECONNRESET) return PeerGone();
    if (errno != EINTR) return FromErrno(errno, "sendmsg to an executor's socket");
  }
}

absl::Status SendAll(int socket, absl::string_view bytes, int descriptor) {
  while (!bytes.empty()) {
    TRUN_ASSIGN_OR_RETURN(const size_t sent, SendSome(socket, bytes, descriptor));
    if (sent > 0) {
      descriptor = -1;
      bytes.remove_prefix(sent);
      continue;
    }
    pollfd writable{socket, POLLOUT, 0};
    if (poll(&writable, 1, -1) < 0 && errno != EINTR) return FromErrno(errno, "poll on an executor's socket");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> FrameReader::Receive(int socket, bool wait) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ > 0 && buffer_.size() - end_ < kReadBytes) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < kReadBytes) buffer_.resize(std::max(buffer_.size() * 2, end_ + kReadBytes));
  iovec piece{buffer_.data() + end_, buffer_.size() - end_};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxWaitingDescriptors * sizeof(int))];
  if (accept_descriptors_) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
  }
  ssize_t got = -1;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (got < 0 && errno != ECONNRESET) return FromErrno(errno, "recvmsg on an executor's socket");
  if (got <= 0) return PeerGone();
  if (accept_descriptors_) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int descriptor = -1;
        std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        descriptors_.emplace_back(descriptor);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || descriptors_.size() > kMaxWaitingDescriptors) {
      return DataLoss(Reason::kProtocol, "the peer sent more descriptors than its messages name");
    }
  }
  end_ += static_cast<size_t>(got);
  TRUN_RETURN_IF_ERROR(CheckLength());
  return true;
}

absl::Status FrameReader::CheckLength() const {
  size_t at = begin_;
  while (end_ - at >= kPrefixBytes) {
    const size_t length = LoadLength(buffer_.data() + at);
    if (length > kMaxExecutorFrameBytes) {
      return DataLoss(Reason::kProtocol, absl::StrCat("the peer announced a frame of ", length,
                                                      " bytes; the limit is ", kMaxExecutorFrameBytes));
    }
    if (end_ - at - kPrefixBytes < length) break;
    at += kPrefixBytes + length;
  }
  return absl::OkStatus();
}

bool FrameReader::Next(absl::string_view* frame) {
  if (end_ - begin_ < kPrefixBytes) return false;
  const size_t length = LoadLength(buffer_.data() + begin_);
  if (end_ - begin_ - kPrefixBytes < length) return false;
  *frame = absl::string_view(buffer_.data() + begin_ + kPrefixBytes, length);
  begin_ += kPrefixBytes + length;
  return true;
}

UniqueFd FrameReader::TakeDescriptor() {
  if (descriptors_.empty()) return UniqueFd();
  UniqueFd descriptor = std::move(descriptors_.front());
  descriptors_.pop_front();
  return descriptor;
}

}  // namespace trun
