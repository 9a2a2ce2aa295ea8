#include "trun/kernel.h"

#include <utility>

#include "client/cpp/kernel_conversion.h"
#include "client/cpp/session_state.h"

namespace trun {
inline namespace client {
namespace {

constexpr absl::Duration kServerLaunchDeadline = absl::Seconds(30);
// The server ends a launch at its deadline; some time more for what is queued before it and for the answer.
constexpr absl::Duration kAnswerSlack = absl::Minutes(10);

absl::Duration LaunchTimeout(absl::Duration deadline, uint32_t launches = 1) {
  return (deadline > absl::ZeroDuration() ? deadline : kServerLaunchDeadline) * launches + kAnswerSlack;
}

absl::Status EmptyKernel() {
  return FailedPrecondition(Reason::kHandle,
                            "this trun::Kernel names no kernel: it was moved from or never compiled");
}

}  // namespace

Kernel::Kernel(Kernel&& other) noexcept
    : state_(std::move(other.state_)), handle_(std::move(other.handle_)), info_(std::move(other.info_)) {}

Kernel& Kernel::operator=(Kernel&& other) noexcept {
  if (this != &other) {
    Release();
    state_ = std::move(other.state_);
    handle_ = std::move(other.handle_);
    info_ = std::move(other.info_);
  }
  return *this;
}

Kernel::~Kernel() { Release(); }

void Kernel::Release() {
  if (!state_ || handle_.empty() || !state_->CheckOpen().ok()) return;
  v1::ReleaseKernelRequest request;
  request.set_session(state_->id);
  request.set_kernel(handle_);
  // A handle that stays behind goes with its session.
  Call(*state_->compiles, &v1::CompileService::Stub::ReleaseKernel, request).status().IgnoreError();
}

absl::StatusOr<LaunchResult> Kernel::Launch(Grid grid, absl::Span<const Argument> arguments,
                                            const LaunchOptions& options) const {
  if (!state_) return EmptyKernel();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::LaunchRequest request = ToProto(grid, arguments, options);
  request.set_session(state_->id);
  request.set_kernel(handle_);
  request.set_wait(true);
  TRUN_ASSIGN_OR_RETURN(
      const v1::LaunchResponse response,
      Call(*state_->launches, &v1::LaunchService::Stub::Launch, request, LaunchTimeout(options.deadline)));
  return FromProto(response);
}

absl::StatusOr<uint64_t> Kernel::LaunchAsync(Grid grid, absl::Span<const Argument> arguments,
                                             const LaunchOptions& options) const {
  if (!state_) return EmptyKernel();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::LaunchRequest request = ToProto(grid, arguments, options);
  request.set_session(state_->id);
  request.set_kernel(handle_);
  state_->NoteQueuedLaunch();
  TRUN_ASSIGN_OR_RETURN(
      const v1::LaunchResponse response,
      Call(*state_->launches, &v1::LaunchService::Stub::Launch, request, LaunchTimeout(options.deadline)));
  return response.sequence();
}

absl::StatusOr<BenchmarkResult> Kernel::Benchmark(Grid grid, absl::Span<const Argument> arguments,
                                                  const BenchmarkOptions& options) const {
  if (!state_) return EmptyKernel();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::BenchmarkRequest request;
  LaunchOptions launch;
  launch.deadline = options.deadline;
  *request.mutable_launch() = ToProto(grid, arguments, launch);
  request.mutable_launch()->set_session(state_->id);
  request.mutable_launch()->set_kernel(handle_);
  request.set_warmup(options.warmup);
  request.set_repetitions(options.repetitions);
  TRUN_ASSIGN_OR_RETURN(const v1::BenchmarkResponse response,
                        Call(*state_->launches, &v1::LaunchService::Stub::Benchmark, request,
                             LaunchTimeout(options.deadline, options.warmup + options.repetitions)));
  BenchmarkResult result;
  for (const google::protobuf::Duration& time : response.device_times()) {
    result.device_times.push_back(client::FromProto(time));
  }
  result.warp_instructions = response.warp_instructions();
  return result;
}

absl::StatusOr<std::string> Kernel::GetArtifact(Level level) const {
  if (!state_) return EmptyKernel();
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::GetArtifactRequest request;
  request.set_session(state_->id);
  request.set_kernel(handle_);
  request.set_level(static_cast<v1::Level>(level));
  grpc::ClientContext context;
  SetTimeout(context, kCallTimeout);
  auto reader = state_->compiles->GetArtifact(&context, request);
  std::string bytes;
  v1::GetArtifactResponse response;
  while (reader->Read(&response)) bytes += response.data();
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  return bytes;
}

}  // namespace client
}  // namespace trun
