#include "server/service/call.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/telemetry/log.h"
#include "grpcpp/server_context.h"

namespace trun {

absl::Status CancelledByClient() {
  return MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the client gave the call up");
}

CallScope::CallScope(const ServiceContext& context, const Method& method,
                     const grpc::CallbackServerContext& call)
    : context_(context),
      method_(method),
      started_(context.clock->Now()),
      deadline_(call.deadline() == std::chrono::system_clock::time_point::max()
                    ? absl::InfiniteFuture()
                    : absl::FromChrono(call.deadline())) {
  absl::StatusOr<Caller> caller = context.peers->Find(call.peer());
  if (!caller.ok()) {
    admitted_ = caller.status();
    return;
  }
  caller_ = *std::move(caller);
  admitted_ = context.gate->Enter(method.draining);
  entered_ = admitted_.ok();
}

CallScope::~CallScope() { Leave(); }

void CallScope::Leave() {
  if (entered_.exchange(false)) context_.gate->Leave();
}

absl::Duration CallScope::TimeLeft() const { return deadline_ - absl::Now(); }

grpc::Status CallScope::End(const absl::Status& ended) {
  const absl::Status status = context_.gate->Explain(ended);
  if (!recorded_.exchange(true)) method_.series->Record(status.code(), context_.clock->Now() - started_);
  if (status.code() == absl::StatusCode::kInternal) {
    LogError(absl::StrCat(caller_.tenant, ": ", status.message()));
  }
  return ToGrpcStatus(status);
}

std::shared_ptr<UnaryCall> UnaryCall::Make(const ServiceContext& context, const Method& method,
                                           grpc::CallbackServerContext* call) {
  std::shared_ptr<UnaryCall> made(new UnaryCall(context, method, *call));
  made->self_ = made;
  if (!made->scope_.admitted().ok()) made->Complete(made->scope_.admitted());
  return made;
}

void UnaryCall::Hold(std::shared_ptr<const void> resource) {
  MutexLock lock(&mu_);
  if (!over_) held_ = std::move(resource);
}

void UnaryCall::OnDone() {
  std::shared_ptr<const void> held;
  {
    MutexLock lock(&mu_);
    over_ = true;
    held.swap(held_);
  }
  scope_.Leave();
  self_.reset();
}

grpc::ServerUnaryReactor* UnaryCall::Run(const ServiceContext& context, const Method& method,
                                         grpc::CallbackServerContext* call, const Body& body) {
  const std::shared_ptr<UnaryCall> made = Make(context, method, call);
  if (made->Claim()) made->EndClaimed(body(made->scope_.caller()));
  return made.get();
}

grpc::ServerUnaryReactor* UnaryCall::RunOn(CallPool* pool, const ServiceContext& context,
                                           const Method& method, grpc::CallbackServerContext* call,
                                           Body body) {
  return RunAsync(pool, context, method, call,
                  [body = std::move(body)](const std::shared_ptr<UnaryCall>& made) {
                    if (made->Claim()) made->EndClaimed(body(made->scope().caller()));
                  });
}

grpc::ServerUnaryReactor* UnaryCall::RunAsync(CallPool* pool, const ServiceContext& context,
                                              const Method& method, grpc::CallbackServerContext* call,
                                              AsyncBody body) {
  const std::shared_ptr<UnaryCall> made = Make(context, method, call);
  if (!made->scope_.admitted().ok()) return made.get();
  if (pool == nullptr) {
    body(made);
  } else {
    const absl::Status taken = pool->Submit([made, body = std::move(body)] {
      if (!made->claimed_.load(std::memory_order_acquire)) body(made);
    });
    if (!taken.ok()) made->Complete(taken);
  }
  return made.get();
}

}  // namespace trun
