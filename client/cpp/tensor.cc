#include "trun/tensor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/session_state.h"
#include "client/cpp/tensor_mapping.h"
#include "common/rpc/limits.h"

namespace trun {
inline namespace client {
namespace {

// Below this a stream costs less than the exchange of a descriptor.
constexpr uint64_t kMapBytes = 256 << 10;

absl::Status EmptyTensor() {
  return FailedPrecondition(Reason::kHandle,
                            "this trun::Tensor names no tensor: it was moved from, freed or never made");
}

absl::Status CheckRange(uint64_t offset, uint64_t size, uint64_t bytes) {
  if (offset <= bytes && size <= bytes - offset) return absl::OkStatus();
  return MakeError(absl::StatusCode::kOutOfRange, Reason::kUnspecified,
                   absl::StrCat(size, " bytes at ", offset, " reach past the tensor's end at ", bytes));
}

// Streams a range out; waits for the launches queued before.
absl::Status ReadStream(SessionState& state, const std::string& handle, absl::Span<char> out,
                        uint64_t offset) {
  v1::ReadRequest request;
  request.set_session(state.id);
  request.set_tensor(handle);
  request.set_offset(offset);
  request.set_bytes(out.size());
  grpc::ClientContext context;
  auto reader = state.tensors->Read(&context, request);
  v1::ReadResponse response;
  size_t done = 0;
  bool too_much = false;
  while (reader->Read(&response)) {
    const std::string& data = response.data();
    if (data.size() > out.size() - done) {
      too_much = true;
      context.TryCancel();
      continue;
    }
    std::copy(data.begin(), data.end(), out.data() + done);
    done += data.size();
  }
  const grpc::Status end = reader->Finish();
  if (!too_much) TRUN_RETURN_IF_ERROR(FromGrpcStatus(end));
  if (too_much || done != out.size()) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     absl::StrCat("the daemon sent ", too_much ? "more" : "less", " than the ", out.size(),
                                  " bytes asked for"));
  }
  return absl::OkStatus();
}

absl::Status WriteStream(SessionState& state, const std::string& handle, absl::string_view data,
                         uint64_t offset) {
  grpc::ClientContext context;
  v1::WriteResponse response;
  auto writer = state.tensors->Write(&context, &response);
  v1::WriteRequest chunk;
  chunk.set_session(state.id);
  chunk.set_tensor(handle);
  chunk.set_offset(offset);
  do {
    const absl::string_view part = data.substr(0, kMaxChunkBytes);
    chunk.set_data(part.data(), part.size());
    data.remove_prefix(part.size());
    grpc::WriteOptions options;
    if (data.empty()) options.set_last_message();
    if (!writer->Write(chunk, options)) break;  // Finish says why
    chunk.Clear();
  } while (!data.empty());
  return FromGrpcStatus(writer->Finish());
}

// Waits for the launches queued before: what a Read does. It takes no launch's error away from Synchronize.
absl::Status Fence(SessionState& state, const std::string& handle) {
  if (!state.MayHaveQueuedLaunches()) return absl::OkStatus();
  char byte;
  TRUN_RETURN_IF_ERROR(ReadStream(state, handle, absl::MakeSpan(&byte, 1), 0));
  return absl::OkStatus();
}

}  // namespace

Tensor::Tensor(Tensor&& other) noexcept
    : state_(std::move(other.state_)),
      handle_(std::move(other.handle_)),
      spec_(std::move(other.spec_)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_address_(std::exchange(other.device_address_, 0)),
      mapping_(std::move(other.mapping_)) {
  other.state_ = nullptr;
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  if (this != &other) {
    Free().IgnoreError();
    state_ = std::move(other.state_);
    handle_ = std::move(other.handle_);
    spec_ = std::move(other.spec_);
    bytes_ = std::exchange(other.bytes_, 0);
    device_address_ = std::exchange(other.device_address_, 0);
    mapping_ = std::move(other.mapping_);
    other.state_ = nullptr;
  }
  return *this;
}

// Memory that could not be freed goes with its session.
Tensor::~Tensor() { Free().IgnoreError(); }

absl::Status Tensor::Free() {
  if (!state_) return EmptyTensor();
  const std::shared_ptr<SessionState> state = std::exchange(state_, nullptr);
  mapping_ = nullptr;
  TRUN_RETURN_IF_ERROR(state->CheckOpen());
  v1::FreeRequest request;
  request.set_session(state->id);
  request.add_tensors(std::exchange(handle_, std::string()));
  return Call(*state->tensors, &v1::TensorService::Stub::Free, request).status();
}

absl::Status Tensor::EnsureMapped() const {
  if (mapping_) return absl::OkStatus();
  if (state_->unmappable) return Mapping::NotHere(*state_, handle_);
  absl::StatusOr<std::shared_ptr<Mapping>> made = Mapping::Make(*state_, handle_, bytes_);
  // What is true of one tensor is true of all: it is not asked again.
  if (absl::IsFailedPrecondition(made.status())) state_->unmappable = true;
  TRUN_RETURN_IF_ERROR(made.status());
  mapping_ = *std::move(made);
  return absl::OkStatus();
}

absl::Status Tensor::Write(absl::string_view data, uint64_t offset) {
  if (!state_) return EmptyTensor();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  TRUN_RETURN_IF_ERROR(CheckRange(offset, data.size(), bytes_));
  if (data.empty()) return absl::OkStatus();
  if (mapping_ || data.size() >= kMapBytes) {
    const absl::Status mapped = EnsureMapped();
    if (mapped.ok()) {
      TRUN_RETURN_IF_ERROR(Fence(*state_, handle_));
      return mapping_->Write(data, offset);
    }
    if (!absl::IsFailedPrecondition(mapped)) return mapped;
  }
  if (state_->unmappable && state_->staging.Takes(data.data(), data.size())) {
    const absl::Status written = state_->staging.Write(handle_, data, offset);
    if (!absl::IsFailedPrecondition(written)) return written;
  }
  return WriteStream(*state_, handle_, data, offset);
}

absl::Status Tensor::Read(absl::Span<char> out, uint64_t offset) const {
  if (!state_) return EmptyTensor();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  TRUN_RETURN_IF_ERROR(CheckRange(offset, out.size(), bytes_));
  if (out.empty()) return absl::OkStatus();
  if (mapping_ || out.size() >= kMapBytes) {
    const absl::Status mapped = EnsureMapped();
    if (mapped.ok()) {
      TRUN_RETURN_IF_ERROR(Fence(*state_, handle_));
      return mapping_->Read(out, offset);
    }
    if (!absl::IsFailedPrecondition(mapped)) return mapped;
  }
  if (state_->unmappable && state_->staging.Takes(out.data(), out.size())) {
    const absl::Status read = state_->staging.Read(handle_, out, offset);
    if (!absl::IsFailedPrecondition(read)) return read;
  }
  return ReadStream(*state_, handle_, out, offset);
}

absl::StatusOr<std::string> Tensor::Read() const {
  std::string out(bytes_, '\0');
  TRUN_RETURN_IF_ERROR(Read(absl::MakeSpan(&out[0], out.size())));
  return out;
}

absl::Status Tensor::Fill(absl::string_view pattern) {
  if (!state_) return EmptyTensor();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::FillRequest request;
  request.set_session(state_->id);
  request.set_tensor(handle_);
  request.set_pattern(pattern.data(), pattern.size());
  return Call(*state_->tensors, &v1::TensorService::Stub::Fill, request, absl::InfiniteDuration()).status();
}

absl::Status Tensor::CopyFrom(const Tensor& source) {
  if (!state_ || !source.state_) return EmptyTensor();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  if (source.bytes_ != bytes_ || source.state_ != state_) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("cannot copy ", source.bytes_, " bytes of ",
                                                           source.handle_, " over the ", bytes_, " of ",
                                                           handle_, ": sizes and sessions must be the same"));
  }
  v1::CopyRequest request;
  request.set_session(state_->id);
  request.set_source(source.handle_);
  request.set_destination(handle_);
  request.set_bytes(bytes_);
  return Call(*state_->tensors, &v1::TensorService::Stub::Copy, request, absl::InfiniteDuration()).status();
}

absl::StatusOr<absl::Span<char>> Tensor::Map() {
  if (!state_) return EmptyTensor();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  TRUN_RETURN_IF_ERROR(EnsureMapped());
  TRUN_RETURN_IF_ERROR(mapping_->EnsurePages());
  TRUN_RETURN_IF_ERROR(Fence(*state_, handle_));
  return absl::MakeSpan(mapping_->data, bytes_);
}

}  // namespace client
}  // namespace trun
