// The one wrapper around every RPC: who calls, whether the daemon still takes work, how long it took, how it
// ended; and the four shapes an RPC has (one answer, a pushed stream, a pulled stream, a stream of the
// client).
//
// Every shape is a reactor of gRPC's callback interface that owns itself until OnDone. Bodies run on the
// calling gRPC thread (only those that never block) or on a CallPool. A call that is cancelled ends at once;
// what its body does later is thrown away.
#ifndef TRUN_SERVER_SERVICE_CALL_H_
#define TRUN_SERVER_SERVICE_CALL_H_

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/rpc/status_mapping.h"
#include "grpcpp/support/server_callback.h"
#include "server/service/service_context.h"

namespace trun {

// One method of a service, as the wrapper sees it.
struct Method {
  Method(const ServiceContext& context, absl::string_view name, WhileDraining while_draining)
      : series(context.metrics->Rpc(name)), draining(while_draining) {}
  RpcSeries* const series;
  const WhileDraining draining;
};

// The wrapper itself: begins with the call, ends with it. Thread-compatible.
class CallScope {
 public:
  CallScope(const ServiceContext& context, const Method& method, const grpc::CallbackServerContext& call);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // Not OK: the call must end with this.
  const absl::Status& admitted() const { return admitted_; }
  // REQUIRES: admitted().
  const Caller& caller() const { return caller_; }
  // Until the client's own deadline; infinite when it has none.
  absl::Duration TimeLeft() const;
  // Counts the end of the call; the first one counts. The status as the client is told it.
  grpc::Status End(const absl::Status& status);
  // The call no longer counts as running. For calls whose object others still hold.
  void Leave();

 private:
  const ServiceContext& context_;
  const Method& method_;
  const absl::Time started_;
  const absl::Time deadline_;  // wall clock
  std::atomic<bool> entered_{false};
  std::atomic<bool> recorded_{false};
  absl::Status admitted_;
  Caller caller_;
};

absl::Status CancelledByClient();

// One answer. Whoever claims the call first may touch the response and end it.
class UnaryCall final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<UnaryCall> {
 public:
  using Body = std::function<absl::Status(const Caller&)>;
  using AsyncBody = std::function<void(const std::shared_ptr<UnaryCall>&)>;

  // `body` never blocks.
  static grpc::ServerUnaryReactor* Run(const ServiceContext& context, const Method& method,
                                       grpc::CallbackServerContext* call, const Body& body);
  static grpc::ServerUnaryReactor* RunOn(CallPool* pool, const ServiceContext& context, const Method& method,
                                         grpc::CallbackServerContext* call, Body body);
  // `body` sees to it that Complete is called in the end; it may touch request and response only after Claim,
  // since a cancelled call ends under it. With a pool it runs there, and may block.
  static grpc::ServerUnaryReactor* RunAsync(CallPool* pool, const ServiceContext& context,
                                            const Method& method, grpc::CallbackServerContext* call,
                                            AsyncBody body);

  const CallScope& scope() const { return scope_; }
  // True once: the caller may fill the response and must then call EndClaimed.
  bool Claim() { return !claimed_.exchange(true); }
  void EndClaimed(const absl::Status& status) { Finish(scope_.End(status)); }
  // Keeps `resource` (a session's lease) until the call is over, whoever still knows of the call.
  void Hold(std::shared_ptr<const void> resource);
  // Claims and ends, where nobody has yet.
  void Complete(const absl::Status& status) {
    if (Claim()) EndClaimed(status);
  }

 private:
  UnaryCall(const ServiceContext& context, const Method& method, const grpc::CallbackServerContext& call)
      : scope_(context, method, call) {}
  static std::shared_ptr<UnaryCall> Make(const ServiceContext& context, const Method& method,
                                         grpc::CallbackServerContext* call);
  void OnCancel() override { Complete(CancelledByClient()); }
  void OnDone() override;

  CallScope scope_;
  std::atomic<bool> claimed_{false};
  std::shared_ptr<UnaryCall> self_;
  Mutex mu_;
  std::shared_ptr<const void> held_ ABSL_GUARDED_BY(mu_);
  bool over_ ABSL_GUARDED_BY(mu_) = false;
};

// Events that come as they happen, from any thread, and a status at the end. Thread-safe. The queue is not
// bounded: for a number of events that is.
template <typename Response>
class EventStream final : public grpc::ServerWriteReactor<Response>,
                          public std::enable_shared_from_this<EventStream<Response>> {
 public:
  using Body = std::function<void(const std::shared_ptr<EventStream>&)>;

  // Runs `body` on the pool; it must see to it that Close is called.
  static grpc::ServerWriteReactor<Response>* RunOn(CallPool* pool, const ServiceContext& context,
                                                   const Method& method, grpc::CallbackServerContext* call,
                                                   Body body) {
    std::shared_ptr<EventStream> stream(new EventStream(context, method, *call));
    stream->self_ = stream;
    absl::Status taken = stream->scope_.admitted();
    if (taken.ok()) {
      taken = pool->Submit([stream, body = std::move(body)] {
        if (!stream->cancelled()) body(stream);
      });
    }
    if (!taken.ok()) stream->Close(taken);
    return stream.get();
  }

  const CallScope& scope() const { return scope_; }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  void Push(Response event) { Add({}, std::move(event), nullptr); }
  // Blocks while the reader lags behind. False when it has for `timeout`, or is gone.
  bool PushSlowly(Response event, absl::Duration timeout) {
    const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
    {
      MutexLock lock(&mu_);
      while (!closed_ && queue_.size() >= kSlowQueue) {
        if (!written_.WaitUntil(&mu_, deadline) && queue_.size() >= kSlowQueue) return false;
      }
      if (closed_) return false;
    }
    Push(std::move(event));
    return true;
  }
  // Several at once, and the end: they leave in as few packets as they fit.
  void CloseWith(std::vector<Response> events, const absl::Status& status) {
    Add(std::move(events), {}, &status);
  }
  void Close(const absl::Status& status) { CloseWith({}, status); }

 private:
  EventStream(const ServiceContext& context, const Method& method, const grpc::CallbackServerContext& call)
      : scope_(context, method, call) {}

  void Add(std::vector<Response> events, absl::optional<Response> event, const absl::Status* end) {
    {
      MutexLock lock(&mu_);
      if (closed_) return;
      if (event) queue_.push_back(std::move(*event));
      for (Response& each : events) queue_.push_back(std::move(each));
      if (end != nullptr) {
        closed_ = true;
        status_ = *end;
      }
    }
    Advance();
  }

  // Starts the next write or the end; outside the lock, since gRPC may answer from within.
  void Advance() {
    bool finish = false;
    bool last = false;
    absl::Status status;
    {
      MutexLock lock(&mu_);
      if (writing_ || finished_) return;
      if (queue_.empty()) {
        if (!closed_) return;
        finish = finished_ = true;
        status = status_;
      } else {
        writing_ = true;
        current_ = std::move(queue_.front());
        queue_.pop_front();
        last = queue_.empty() && closed_ && status_.ok();
        if (last) finished_ = true;
      }
    }
    if (finish) {
      this->Finish(scope_.End(status));
    } else if (last) {
      this->StartWriteAndFinish(&current_, grpc::WriteOptions(), scope_.End(absl::OkStatus()));
    } else {
      // Never with a buffer hint: gRPC 1.51 then holds the message, and with it OnWriteDone, until a timer of
      // its own fires, 0.1 to 10 s later.
      this->StartWrite(&current_, grpc::WriteOptions());
    }
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mu_);
      writing_ = false;
      written_.Signal();
      if (finished_) return;
      if (!ok) Abandon();
    }
    Advance();
  }

  void OnCancel() override {
    cancelled_.store(true, std::memory_order_release);
    {
      MutexLock lock(&mu_);
      Abandon();
    }
    Advance();
  }

  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    queue_.clear();
    if (!closed_ || status_.ok()) status_ = CancelledByClient();
    closed_ = true;
    written_.SignalAll();
  }

  void OnDone() override {
    scope_.Leave();
    self_.reset();
  }

  CallScope scope_;
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<EventStream> self_;
  static constexpr size_t kSlowQueue = 4;

  Response current_;  // belongs to the write under way
  Mutex mu_;
  CondVar written_;
  std::deque<Response> queue_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

// A stream whose next message is made when the last one has left: a slow reader holds one message and no
// thread.
template <typename Response>
class PullStream final : public grpc::ServerWriteReactor<Response> {
 public:
  // Fills the next message; false at the end (the message is not sent).
  using Next = std::function<absl::StatusOr<bool>(const Caller&, Response*)>;

  static grpc::ServerWriteReactor<Response>* RunOn(CallPool* pool, const ServiceContext& context,
                                                   const Method& method, grpc::CallbackServerContext* call,
                                                   Next next) {
    auto* stream = new PullStream(pool, context, method, *call, std::move(next));
    if (stream->scope_.admitted().ok()) {
      stream->Continue();
    } else {
      stream->Finish(stream->scope_.End(stream->scope_.admitted()));
    }
    return stream;
  }

 private:
  PullStream(CallPool* pool, const ServiceContext& context, const Method& method,
             const grpc::CallbackServerContext& call, Next next)
      : scope_(context, method, call), pool_(pool), next_(std::move(next)) {}

  // Exactly one of these runs at a time: after the start, and after each finished write.
  void Continue() {
    const absl::Status taken = pool_->Submit([this] { Step(); });
    if (!taken.ok()) this->Finish(scope_.End(taken));
  }
  void Step() {
    if (cancelled_.load(std::memory_order_acquire)) return this->Finish(scope_.End(CancelledByClient()));
    current_.Clear();
    const absl::StatusOr<bool> made = next_(scope_.caller(), &current_);
    if (!made.ok() || !*made) return this->Finish(scope_.End(made.status()));
    this->StartWrite(&current_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(scope_.End(CancelledByClient()));
    Continue();
  }
  void OnCancel() override { cancelled_.store(true, std::memory_order_release); }
  void OnDone() override { delete this; }

  CallScope scope_;
  CallPool* const pool_;
  const Next next_;
  Response current_;
  std::atomic<bool> cancelled_{false};
};

// A stream of the client's, and one answer: the next message is read when the last one has been taken.
template <typename Request>
class ClientStream final : public grpc::ServerReadReactor<Request>,
                           public OpenCall,
                           public std::enable_shared_from_this<ClientStream<Request>> {
 public:
  using Take = std::function<absl::Status(const Caller&, const Request&)>;
  using End = std::function<absl::Status(const Caller&)>;  // fills the response

  static grpc::ServerReadReactor<Request>* RunOn(CallPool* pool, const ServiceContext& context,
                                                 const Method& method, grpc::CallbackServerContext* call,
                                                 Take take, End end) {
    std::shared_ptr<ClientStream> stream(
        new ClientStream(pool, context, method, *call, std::move(take), std::move(end)));
    stream->self_ = stream;
    if (stream->scope_.admitted().ok()) {
      context.gate->Remember(stream);
      stream->Read();
    } else {
      stream->Conclude(stream->scope_.admitted());
    }
    return stream.get();
  }

  void EndIfIdle(absl::Duration patience, const absl::Status& why) override {
    {
      MutexLock lock(&mu_);
      const auto waited = std::chrono::steady_clock::now() - asked_;
      if (concluded_ || started_ == read_ || waited < absl::ToChronoNanoseconds(patience)) return;
      concluded_ = true;  // what still arrives is not taken
    }
    this->Finish(scope_.End(why));
  }

 private:
  ClientStream(CallPool* pool, const ServiceContext& context, const Method& method,
               const grpc::CallbackServerContext& call, Take take, End end)
      : gate_(context.gate),
        scope_(context, method, call),
        pool_(pool),
        take_(std::move(take)),
        end_(std::move(end)) {}

  void Read() {
    const std::shared_ptr<ClientStream> self = this->shared_from_this();  // gRPC may answer, and end, at once
    this->StartRead(&current_);
    // Counted when gRPC has been told: only then may another thread end the call.
    MutexLock lock(&mu_);
    ++started_;
    asked_ = std::chrono::steady_clock::now();
  }
  void OnReadDone(bool ok) override {
    {
      MutexLock lock(&mu_);
      ++read_;
      if (concluded_) return;
    }
    const absl::Status taken =
        pool_->Submit([self = this->shared_from_this(), ok] { ok ? self->Step() : self->Last(); });
    if (!taken.ok()) Conclude(taken);
  }
  void Step() {
    const absl::Status status = take_(scope_.caller(), current_);
    status.ok() ? Read() : Conclude(status);
  }
  void Last() {
    // A stream that broke off looks like one that ended: only gRPC knows.
    Conclude(cancelled_.load(std::memory_order_acquire) ? CancelledByClient() : end_(scope_.caller()));
  }
  void Conclude(const absl::Status& status) {
    {
      MutexLock lock(&mu_);
      if (concluded_) return;
      concluded_ = true;
    }
    this->Finish(scope_.End(status));
  }
  void OnCancel() override { cancelled_.store(true, std::memory_order_release); }
  void OnDone() override {
    gate_->Forget(this);
    scope_.Leave();
    self_.reset();
  }

  CallGate* const gate_;
  CallScope scope_;
  CallPool* const pool_;
  const Take take_;
  const End end_;
  Request current_;  // belongs to the read under way, then to the step
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<ClientStream> self_;

  Mutex mu_;
  uint64_t started_ ABSL_GUARDED_BY(mu_) = 0;  // reads that gRPC has been told of
  uint64_t read_ ABSL_GUARDED_BY(mu_) = 0;     // reads that have ended
  std::chrono::steady_clock::time_point asked_ ABSL_GUARDED_BY(mu_);
  bool concluded_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_CALL_H_
