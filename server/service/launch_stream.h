// Launches that come one after another on one stream, answered in their order.
#ifndef TRUN_SERVER_SERVICE_LAUNCH_STREAM_H_
#define TRUN_SERVER_SERVICE_LAUNCH_STREAM_H_

#include <deque>
#include <memory>
#include <string>

#include "server/service/call.h"
#include "trun/v1/launch.grpc.pb.h"

namespace trun {

// Three loops that run beside each other: reading, queueing (on a pool thread, one at a time, since a
// session's launch may have to load its kernel) and writing. Reading stops while too much is under way, so a
// client that sends faster than its device runs is held back by flow control. Thread-safe. Owns itself until
// OnDone.
class LaunchStream final : public grpc::ServerBidiReactor<v1::LaunchRequest, v1::LaunchResponse>,
                           public OpenCall,
                           public std::enable_shared_from_this<LaunchStream> {
 public:
  static LaunchStream* Start(const ServiceContext& context, const Method& method,
                             grpc::CallbackServerContext* call);

  // Idle as soon as every launch read is answered: nobody waits for what else its client may send.
  void EndIfIdle(absl::Duration patience, const absl::Status& why) override;

 private:
  // One launch's place in the order of answers.
  struct Slot {
    v1::LaunchResponse response;
    bool done = false;
  };

  LaunchStream(const ServiceContext& context, const Method& method, const grpc::CallbackServerContext& call)
      : context_(context), scope_(context, method, call) {}

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // Takes what has been read, until there is nothing left.
  void QueueLaunches();
  void QueueLaunch(const v1::LaunchRequest& request);
  absl::Status TryLaunch(const v1::LaunchRequest& request, const std::shared_ptr<Slot>& slot);
  // Starts whatever can start: the next read, the next write, the end.
  void Advance();
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext& context_;
  CallScope scope_;
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<LaunchStream> self_;
  v1::LaunchRequest incoming_;        // belongs to the read under way
  v1::LaunchResponse outgoing_;       // belongs to the write under way
  std::shared_ptr<Session> session_;  // of the latest launch; touched by the queueing loop, and by OnDone

  Mutex mu_;
  std::deque<v1::LaunchRequest> read_ ABSL_GUARDED_BY(mu_);  // not queued yet
  size_t read_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mu_);  // queued, not answered yet
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool starting_read_ ABSL_GUARDED_BY(mu_) = false;  // decided, but not yet told to gRPC: the end must wait
  bool queueing_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;  // the client sends no more
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);  // ends the whole stream
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_LAUNCH_STREAM_H_
