#include "client/cpp/launch_stream.h"

#include <utility>

#include "client/cpp/kernel_conversion.h"
#include "trun/kernel.h"

namespace trun {
inline namespace client {

LaunchStream::Impl::Impl(std::shared_ptr<SessionState> session)
    : state(std::move(session)), stream(state->launches->LaunchStream(&context)) {}

LaunchStream::LaunchStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LaunchStream::LaunchStream(LaunchStream&&) noexcept = default;
LaunchStream& LaunchStream::operator=(LaunchStream&&) noexcept = default;

LaunchStream::~LaunchStream() {
  if (!impl_ || impl_->finished) return;
  impl_->context.TryCancel();
  v1::LaunchResponse response;
  while (impl_->stream->Read(&response)) {
  }
  impl_->stream->Finish();
}

absl::Status LaunchStream::Launch(const Kernel& kernel, Grid grid, absl::Span<const Argument> arguments,
                                  const LaunchOptions& options) {
  if (impl_->done_launching) {
    return FailedPrecondition(Reason::kUnspecified, "DoneLaunching was called: open another stream");
  }
  v1::LaunchRequest request = ToProto(grid, arguments, options);
  request.set_session(impl_->state->id);
  request.set_kernel(kernel.handle());
  impl_->state->NoteQueuedLaunch();
  if (impl_->stream->Write(request)) return absl::OkStatus();
  return Unavailable(Reason::kUnavailable, "the launch stream has ended; Next() says why");
}

absl::StatusOr<LaunchResult> LaunchStream::Next() {
  v1::LaunchResponse response;
  if (!impl_->finished && impl_->stream->Read(&response)) {
    TRUN_RETURN_IF_ERROR(FromProto(response.status()));
    return FromProto(response);
  }
  if (!impl_->finished) {
    impl_->finished = true;
    impl_->end = FromGrpcStatus(impl_->stream->Finish());
  }
  TRUN_RETURN_IF_ERROR(impl_->end);
  return absl::OutOfRangeError("every launch of this stream has been answered");
}

absl::Status LaunchStream::DoneLaunching() {
  if (impl_->done_launching) return absl::OkStatus();
  impl_->done_launching = true;
  if (impl_->stream->WritesDone()) return absl::OkStatus();
  return Unavailable(Reason::kUnavailable, "the launch stream has ended; Next() says why");
}

}  // namespace client
}  // namespace trun
