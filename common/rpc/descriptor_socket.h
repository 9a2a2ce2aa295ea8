// The token exchange on the descriptor socket: a one-time token in, file descriptors out (SCM_RIGHTS); or a
// descriptor in and a token for it out.
// The format is in docs/formats/descriptors.md. All functions are thread-safe and bounded in time.
#ifndef TRUN_COMMON_RPC_DESCRIPTOR_SOCKET_H_
#define TRUN_COMMON_RPC_DESCRIPTOR_SOCKET_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/unique_fd.h"

namespace trun {

// Client: presents `token` on the socket at `path` and returns the descriptors, in the server's order,
// close-on-exec. NOT_FOUND kHandle: the token is unknown, used, expired or another user's. UNAVAILABLE
// kUnavailable: nobody listens, or no answer in time. DATA_LOSS kProtocol: an answer that is not of the
// format.
absl::StatusOr<std::vector<UniqueFd>> ReceiveDescriptors(const std::string& path, absl::string_view token,
                                                         absl::Duration timeout = absl::Seconds(5));

// Client: gives the server a descriptor, which stays the caller's too; the token that stands for it in one
// RPC. The server's status (RESOURCE_EXHAUSTED kQuota: too many that no RPC came for), UNAVAILABLE and
// DATA_LOSS as above.
absl::StatusOr<std::string> DepositDescriptor(const std::string& path, int descriptor,
                                              absl::Duration timeout = absl::Seconds(5));

struct DescriptorRequest {
  std::string token;   // for the descriptors that are asked for
  UniqueFd deposited;  // valid: one is given instead
};

// Server: reads the request from a connection. INVALID_ARGUMENT kProtocol when it is malformed;
// DEADLINE_EXCEEDED kProtocol when it does not come in time.
absl::StatusOr<DescriptorRequest> ReadDescriptorRequest(int connection,
                                                        absl::Duration timeout = absl::Seconds(5));

// Server: answers a deposit. UNAVAILABLE kUnavailable: the peer went away.
absl::Status SendToken(int connection, const absl::StatusOr<std::string>& token,
                       absl::Duration timeout = absl::Seconds(5));

// Server: answers with `status`, and when that is OK with `descriptors`, which stay the caller's.
// REQUIRES: at most kMaxDescriptorsPerExchange of them. UNAVAILABLE kUnavailable: the peer went away.
absl::Status SendDescriptors(int connection, const absl::Status& status, absl::Span<const int> descriptors,
                             absl::Duration timeout = absl::Seconds(5));

}  // namespace trun

#endif  // TRUN_COMMON_RPC_DESCRIPTOR_SOCKET_H_
