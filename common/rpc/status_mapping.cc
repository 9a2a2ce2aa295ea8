#include "common/rpc/status_mapping.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/base/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace trun {
namespace {

constexpr char kFaultUrl[] = "type.googleapis.com/trun.v1.FaultReport";
// A client that sets no option of its own refuses trailers over 8 KiB: message (twice, once percent-encoded),
// details and fault together stay under that.
constexpr size_t kMessageBytes = 2400;
constexpr size_t kDetailBytes = 1000;
constexpr size_t kFaultTextBytes = 400;

bool IsContinuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// Bytes of `text` once gRPC has percent-encoded it for the grpc-message header.
size_t EncodedBytes(absl::string_view text) {
  size_t bytes = 0;
  for (const unsigned char c : text) bytes += (c < 0x20 || c > 0x7E || c == '%') ? 3 : 1;
  return bytes;
}

grpc::StatusCode ToGrpcCode(absl::StatusCode code) { return static_cast<grpc::StatusCode>(code); }

absl::StatusCode FromGrpcCode(grpc::StatusCode code) {
  const int number = static_cast<int>(code);
  return number >= 0 && number <= 16 ? static_cast<absl::StatusCode>(number) : absl::StatusCode::kUnknown;
}

Reason ReasonOfBareCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnavailable:
      return Reason::kUnavailable;
    case absl::StatusCode::kCancelled:
      return Reason::kCancelled;
    case absl::StatusCode::kResourceExhausted:
      return Reason::kTooLarge;
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInternal:
      return Reason::kProtocol;
    default:
      return Reason::kUnspecified;
  }
}

void CutFault(v1::FaultReport& fault) {
  fault.set_message(WireText(fault.message(), kFaultTextBytes));
  fault.set_instruction(WireText(fault.instruction(), kFaultTextBytes));
  fault.set_kernel_name(WireText(fault.kernel_name(), kFaultTextBytes));
  fault.set_source_file(WireText(fault.source_file(), kFaultTextBytes));
  fault.set_nearest_tensor(WireText(fault.nearest_tensor(), 64));
  fault.set_space(WireText(fault.space(), 32));
}

}  // namespace

std::string WireText(absl::string_view text, size_t limit) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = text[at] == '\0' ? 0 : Utf8SequenceLength(text, at);
    if (length == 0) {
      valid.push_back('?');
      ++at;
    } else {
      valid.append(text.data() + at, length);
      at += length;
    }
  }
  if (valid.size() <= limit) return valid;
  constexpr absl::string_view kCut = " [...] ";
  if (limit <= kCut.size()) return valid.substr(0, 0);
  size_t head = (limit - kCut.size()) / 3;
  size_t tail = valid.size() - (limit - kCut.size() - head);
  while (head > 0 && IsContinuation(valid[head])) --head;
  while (tail < valid.size() && IsContinuation(valid[tail])) ++tail;
  return absl::StrCat(valid.substr(0, head), kCut, valid.substr(tail));
}

absl::Status WithFault(const absl::Status& status, const v1::FaultReport& fault) {
  if (status.ok()) return status;
  absl::Status result = status;
  result.SetPayload(kFaultUrl, absl::Cord(fault.SerializeAsString()));
  return result;
}

std::optional<v1::FaultReport> GetFault(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kFaultUrl);
  if (!payload) return std::nullopt;
  v1::FaultReport fault;
  if (!fault.ParseFromString(std::string(*payload))) return std::nullopt;
  return fault;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message = WireText(status.message(), kMessageBytes);
  for (size_t limit = kMessageBytes; EncodedBytes(message) > kMessageBytes && limit > 64;) {
    limit = limit * 3 / 4;
    message = WireText(message, limit);
  }
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_domain(std::string(kErrorDomain));
  info.set_reason(std::string(ReasonName(GetReason(status))));
  size_t room = kDetailBytes;
  for (const auto& [key, value] : GetDetails(status)) {
    const std::string name = WireText(key, 64);
    const std::string text = WireText(value, 400);
    if (name.size() + text.size() > room) continue;
    room -= name.size() + text.size();
    (*info.mutable_metadata())[name] = text;
  }
  details.add_details()->PackFrom(info);
  if (std::optional<v1::FaultReport> fault = GetFault(status)) {
    CutFault(*fault);
    details.add_details()->PackFrom(*fault);
  }
  return grpc::Status(ToGrpcCode(status.code()), message, details.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const absl::StatusCode code = FromGrpcCode(status.error_code());
  google::rpc::Status details;
  Reason reason = Reason::kUnspecified;
  ErrorDetails named;
  std::optional<v1::FaultReport> fault;
  bool ours = false;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      google::rpc::ErrorInfo info;
      v1::FaultReport report;
      if (any.Is<google::rpc::ErrorInfo>() && any.UnpackTo(&info) && info.domain() == kErrorDomain) {
        ours = true;
        reason = ReasonFromName(info.reason());
        for (const auto& [key, value] : info.metadata()) named[key] = value;
      } else if (any.Is<v1::FaultReport>() && any.UnpackTo(&report)) {
        fault = report;
      }
    }
  }
  if (!ours) reason = ReasonOfBareCode(code);
  absl::Status result = MakeError(code, reason, status.error_message(), named);
  return fault ? WithFault(result, *fault) : result;
}

}  // namespace trun
