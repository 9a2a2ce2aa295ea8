#include "server/service/launch_stream.h"

#include <utility>

#include "common/base/status.h"
#include "server/service/wire.h"

namespace trun {
namespace {

constexpr size_t kMaxUnqueued = 64;
constexpr size_t kMaxUnqueuedBytes = size_t{4} << 20;
constexpr size_t kMaxUnanswered = 1024;
constexpr absl::Duration kRoomPoll = absl::Seconds(1);

}  // namespace

LaunchStream* LaunchStream::Start(const ServiceContext& context, const Method& method,
                                  grpc::CallbackServerContext* call) {
  std::shared_ptr<LaunchStream> stream(new LaunchStream(context, method, *call));
  stream->self_ = stream;
  if (!stream->scope_.admitted().ok()) {
    MutexLock lock(&stream->mu_);
    stream->failure_ = stream->scope_.admitted();
  } else {
    context.gate->Remember(stream);
  }
  stream->Advance();
  return stream.get();
}

void LaunchStream::OnReadDone(bool ok) {
  bool start = false;
  {
    MutexLock lock(&mu_);
    reading_ = false;
    if (ok) {
      read_bytes_ += incoming_.ByteSizeLong();
      read_.push_back(std::move(incoming_));
      incoming_.Clear();
      start = !queueing_;
      queueing_ = true;
    } else {
      half_closed_ = true;
    }
  }
  if (start) {
    const absl::Status taken =
        context_.workers->Submit([stream = shared_from_this()] { stream->QueueLaunches(); });
    if (!taken.ok()) {
      MutexLock lock(&mu_);
      queueing_ = false;
      read_.clear();
      failure_ = taken;
    }
  }
  Advance();
}

void LaunchStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok && failure_.ok()) failure_ = CancelledByClient();
  }
  Advance();
}

void LaunchStream::OnCancel() {
  cancelled_.store(true, std::memory_order_release);
  {
    MutexLock lock(&mu_);
    if (failure_.ok()) failure_ = CancelledByClient();
  }
  Advance();
}

void LaunchStream::EndIfIdle(absl::Duration /*patience*/, const absl::Status& why) {
  {
    MutexLock lock(&mu_);
    if (!read_.empty() || !slots_.empty() || queueing_ || writing_ || half_closed_ || !failure_.ok()) return;
    failure_ = why;
  }
  Advance();
}

void LaunchStream::OnDone() {
  context_.gate->Forget(this);
  scope_.Leave();
  self_.reset();
}

void LaunchStream::QueueLaunches() {
  while (true) {
    v1::LaunchRequest request;
    {
      MutexLock lock(&mu_);
      if (read_.empty() || finished_ || !failure_.ok()) {
        read_.clear();
        queueing_ = false;
        break;
      }
      request = std::move(read_.front());
      read_.pop_front();
      read_bytes_ -= request.ByteSizeLong();
    }
    QueueLaunch(request);
    Advance();
  }
  Advance();
}

void LaunchStream::QueueLaunch(const v1::LaunchRequest& request) {
  auto slot = std::make_shared<Slot>();
  context_.launches->fetch_add(1, std::memory_order_relaxed);
  {
    MutexLock lock(&mu_);
    slots_.push_back(slot);
  }
  absl::Status status = TryLaunch(request, slot);
  // The session's queue is full: the one status that waiting cures.
  while (GetReason(status) == Reason::kQuota && session_ != nullptr &&
         !cancelled_.load(std::memory_order_acquire)) {
    const absl::Status room = session_->WaitForRoom(kRoomPoll);
    if (!room.ok() && !absl::IsDeadlineExceeded(room)) {
      status = room;
      break;
    }
    if (room.ok()) status = TryLaunch(request, slot);
  }
  if (status.ok()) return;
  MutexLock lock(&mu_);
  EncodeStatus(status, slot->response.mutable_status());
  slot->done = true;
}

absl::Status LaunchStream::TryLaunch(const v1::LaunchRequest& request, const std::shared_ptr<Slot>& slot) {
  // Later messages may leave the session out.
  if (session_ == nullptr || (!request.session().empty() && request.session() != session_->id())) {
    session_.reset();
    TRUN_ASSIGN_OR_RETURN(session_, context_.sessions->Find(request.session(), scope_.caller().tenant));
  }
  TRUN_ASSIGN_OR_RETURN(SessionLaunch launch, DecodeLaunch(request));
  launch.observed = true;
  return session_
      ->Launch(launch,
               [stream = shared_from_this(), slot](const LaunchResult& result) {
                 {
                   MutexLock lock(&stream->mu_);
                   slot->response.set_sequence(result.sequence);
                   EncodeResult(result, slot->response.mutable_result());
                   EncodeStatus(StatusOf(result), slot->response.mutable_status());
                   slot->done = true;
                 }
                 stream->Advance();
               })
      .status();
}

bool LaunchStream::HasRoom() const {
  return read_.size() < kMaxUnqueued && read_bytes_ < kMaxUnqueuedBytes && slots_.size() < kMaxUnanswered;
}

void LaunchStream::Advance() {
  while (true) {
    bool read = false, write = false, finish = false;
    absl::Status status;
    {
      MutexLock lock(&mu_);
      if (finished_) return;
      if (failure_.ok()) {
        read = !reading_ && !half_closed_ && HasRoom();
        if (read) reading_ = starting_read_ = true;
        write = !writing_ && !slots_.empty() && slots_.front()->done;
      }
      if (write) {
        writing_ = true;
        outgoing_ = std::move(slots_.front()->response);
        slots_.pop_front();
      }
      const bool idle = half_closed_ && read_.empty() && slots_.empty();
      finish = !writing_ && !queueing_ && !starting_read_ && (idle || !failure_.ok());
      if (finish) {
        finished_ = true;
        status = failure_;
      }
    }
    // No buffer hint: see EventStream in call.h.
    if (write) StartWrite(&outgoing_);
    if (finish) {
      session_.reset();
      return Finish(scope_.End(status));
    }
    if (!read) return;
    StartRead(&incoming_);
    MutexLock lock(&mu_);
    starting_read_ = false;
  }
}

}  // namespace trun
