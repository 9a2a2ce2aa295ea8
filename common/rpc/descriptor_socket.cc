#include "common/rpc/descriptor_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "common/rpc/unix_socket.h"

namespace trun {
namespace {

constexpr absl::string_view kMagic = "TFD1";
constexpr absl::string_view kDepositMagic = "TFU1";
constexpr size_t kMaxTokenBytes = 128;
constexpr size_t kMaxMessageText = 1024;

void PutU32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

uint32_t GetU32(const char* bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Waits for `events`. UNAVAILABLE when `deadline` passes.
absl::Status WaitFor(int fd, short events, absl::Time deadline) {
  while (true) {
    const absl::Duration left = deadline - Clock::Real()->Now();
    if (left <= absl::ZeroDuration()) {
      return DeadlineExceeded(Reason::kProtocol,
                              "the other end of the descriptor socket did not answer in time");
    }
    pollfd poll_fd = {fd, events, 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(left) + 1));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return FromErrno(errno, "waiting on the descriptor socket");
  }
}

absl::Status SendAll(int fd, absl::string_view bytes, absl::Span<const int> descriptors,
                     absl::Time deadline) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptorsPerMessage * sizeof(int))> control{};
  while (!bytes.empty()) {
    iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
    }
    const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS) {
        if (errno == ETOOMANYREFS) return FromErrno(errno, "sending descriptors", Reason::kQuota);
        TRUN_RETURN_IF_ERROR(WaitFor(fd, POLLOUT, deadline));
        continue;
      }
      return Unavailable(
          Reason::kUnavailable,
          absl::StrCat("the other end of the descriptor socket went away: ", std::strerror(errno)));
    }
    bytes.remove_prefix(static_cast<size_t>(sent));
    descriptors = {};
  }
  return absl::OkStatus();
}

// Reads exactly `count` bytes; descriptors that come with them are appended to `received` (or closed).
absl::Status ReceiveAll(int fd, char* out, size_t count, std::vector<UniqueFd>* received,
                        absl::Time deadline) {
  while (count > 0) {
    TRUN_RETURN_IF_ERROR(WaitFor(fd, POLLIN, deadline));
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptorsPerMessage * sizeof(int))> control{};
    iovec part = {out, count};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK) continue;
      return Unavailable(Reason::kUnavailable,
                         absl::StrCat("reading from the descriptor socket: ", std::strerror(errno)));
    }
    std::vector<UniqueFd> arrived;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < here; ++i) {
        int descriptor;
        std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        arrived.emplace_back(descriptor);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0) {
      return ResourceExhausted(Reason::kQuota,
                               "this process cannot take more descriptors: raise RLIMIT_NOFILE");
    }
    if (got == 0) return Unavailable(Reason::kUnavailable, "the descriptor socket was closed in the middle");
    if (received != nullptr) {
      for (UniqueFd& descriptor : arrived) received->push_back(std::move(descriptor));
    }
    out += got;
    count -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status Malformed(absl::string_view what) {
  return DataLoss(Reason::kProtocol, absl::StrCat("the descriptor socket's answer ", what));
}

}  // namespace

absl::StatusOr<std::vector<UniqueFd>> ReceiveDescriptors(const std::string& path, absl::string_view token,
                                                         absl::Duration timeout) {
  if (token.empty() || token.size() > kMaxTokenBytes)
    return InvalidArgument(Reason::kArgument, "not a token");
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  TRUN_ASSIGN_OR_RETURN(const UniqueFd fd, ConnectUnix(path));
  std::string request(kMagic);
  PutU32(request, static_cast<uint32_t>(token.size()));
  request.append(token.data(), token.size());
  TRUN_RETURN_IF_ERROR(SendAll(fd.get(), request, {}, deadline));

  std::array<char, 16> header;
  TRUN_RETURN_IF_ERROR(ReceiveAll(fd.get(), header.data(), header.size(), nullptr, deadline));
  if (absl::string_view(header.data(), 4) != kMagic) return Malformed("is of another protocol");
  const uint32_t code = GetU32(header.data() + 4);
  const uint32_t count = GetU32(header.data() + 8);
  const uint32_t text_bytes = GetU32(header.data() + 12);
  if (code > 16 || count > kMaxDescriptorsPerExchange || text_bytes > kMaxMessageText) {
    return Malformed("is out of its limits");
  }
  std::string text(text_bytes, '\0');
  TRUN_RETURN_IF_ERROR(ReceiveAll(fd.get(), text.data(), text.size(), nullptr, deadline));
  if (code != 0) return MakeError(static_cast<absl::StatusCode>(code), Reason::kHandle, text);

  std::vector<UniqueFd> descriptors;
  while (descriptors.size() < count) {
    std::array<char, 4> part;
    const size_t before = descriptors.size();
    TRUN_RETURN_IF_ERROR(ReceiveAll(fd.get(), part.data(), part.size(), &descriptors, deadline));
    const uint32_t announced = GetU32(part.data());
    if (announced == 0 || announced > kMaxDescriptorsPerMessage || descriptors.size() - before != announced ||
        descriptors.size() > count) {
      return Malformed("holds another number of descriptors than it says");
    }
  }
  return descriptors;
}

absl::StatusOr<std::string> DepositDescriptor(const std::string& path, int descriptor,
                                              absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  TRUN_ASSIGN_OR_RETURN(const UniqueFd fd, ConnectUnix(path));
  std::string request(kDepositMagic);
  PutU32(request, 1);
  TRUN_RETURN_IF_ERROR(SendAll(fd.get(), request, {&descriptor, 1}, deadline));
  std::array<char, 12> header;
  TRUN_RETURN_IF_ERROR(ReceiveAll(fd.get(), header.data(), header.size(), nullptr, deadline));
  if (absl::string_view(header.data(), 4) != kDepositMagic) return Malformed("is of another protocol");
  const uint32_t code = GetU32(header.data() + 4);
  const uint32_t bytes = GetU32(header.data() + 8);
  if (code > 16 || bytes > kMaxMessageText) return Malformed("is out of its limits");
  std::string text(bytes, '\0');
  TRUN_RETURN_IF_ERROR(ReceiveAll(fd.get(), text.data(), text.size(), nullptr, deadline));
  if (code != 0) return MakeError(static_cast<absl::StatusCode>(code), Reason::kQuota, text);
  return text;
}

absl::StatusOr<DescriptorRequest> ReadDescriptorRequest(int connection, absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  std::array<char, 8> header;
  std::vector<UniqueFd> given;
  TRUN_RETURN_IF_ERROR(ReceiveAll(connection, header.data(), header.size(), &given, deadline));
  const absl::string_view magic(header.data(), 4);
  const uint32_t number = GetU32(header.data() + 4);
  DescriptorRequest request;
  if (magic == kDepositMagic && number == 1 && given.size() == 1) {
    request.deposited = std::move(given[0]);
    return request;
  }
  if (magic != kMagic || number == 0 || number > kMaxTokenBytes || !given.empty()) {
    return InvalidArgument(Reason::kProtocol, "not a request of the descriptor socket");
  }
  request.token.resize(number);
  TRUN_RETURN_IF_ERROR(ReceiveAll(connection, request.token.data(), request.token.size(), nullptr, deadline));
  return request;
}

absl::Status SendToken(int connection, const absl::StatusOr<std::string>& token, absl::Duration timeout) {
  const absl::string_view text =
      token.ok() ? absl::string_view(*token) : token.status().message().substr(0, kMaxMessageText);
  std::string answer(kDepositMagic);
  PutU32(answer, static_cast<uint32_t>(token.status().code()));
  PutU32(answer, static_cast<uint32_t>(text.size()));
  absl::StrAppend(&answer, text);
  return SendAll(connection, answer, {}, Clock::Real()->Now() + timeout);
}

absl::Status SendDescriptors(int connection, const absl::Status& status, absl::Span<const int> descriptors,
                             absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  if (!status.ok()) descriptors = {};
  const absl::string_view text = status.message().substr(0, kMaxMessageText);
  std::string header(kMagic);
  PutU32(header, static_cast<uint32_t>(status.code()));
  PutU32(header, static_cast<uint32_t>(descriptors.size()));
  PutU32(header, static_cast<uint32_t>(text.size()));
  header.append(text.data(), text.size());
  TRUN_RETURN_IF_ERROR(SendAll(connection, header, {}, deadline));
  while (!descriptors.empty()) {
    const absl::Span<const int> part =
        descriptors.first(std::min(descriptors.size(), kMaxDescriptorsPerMessage));
    std::string count;
    PutU32(count, static_cast<uint32_t>(part.size()));
    TRUN_RETURN_IF_ERROR(SendAll(connection, count, part, deadline));
    descriptors.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

}  // namespace trun
