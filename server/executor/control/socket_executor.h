// ExecutorControl over a socket: what every executor that is not a fake is, wherever the other end runs.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_SOCKET_EXECUTOR_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_SOCKET_EXECUTOR_H_

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "server/executor/control/executor_control.h"
#include "server/executor/protocol/frame_stream.h"
#include "trun/internal/v1/executor.pb.h"

namespace trun {

// The other end of the socket, as far as its life goes. Thread-safe.
class ExecutorHost {
 public:
  virtual ~ExecutorHost() = default;
  virtual int64_t pid() const = 0;  // 0: in this process
  // Ends it at once, if it has not ended, and says how it did: "exit code 3", "signal 9 (Killed)". `gone`: it
  // has closed its end of the socket, so that it may be about to end with a status of its own.
  virtual std::string End(bool gone) = 0;
};

struct SocketExecutorOptions {
  absl::Duration reply_timeout = absl::Seconds(10);  // of a round trip
  absl::Duration load_timeout = absl::Seconds(60);   // of what moves bytes or loads code
  // How long past a launch's deadline the executor may take to say so itself before it is ended.
  absl::Duration hang_grace = absl::Seconds(5);
};

// Sends from the caller's thread as long as the socket takes it; a thread of its own reads answers, sends the
// rest, watches deadlines and runs the callbacks. The executor is not trusted: an answer that nobody waits
// for, of the wrong kind or out of bounds ends the connection. The destructor ends the host; it must not run
// on a callback.
class SocketExecutor final : public ExecutorControl {
 public:
  SocketExecutor(UniqueFd socket, std::unique_ptr<ExecutorHost> host, const SocketExecutorOptions& options);
  ~SocketExecutor() override;

  // Greets the executor; first, and once more when a spare (greeted with an empty `session`) is taken by a
  // session. The executor's errors; UNAVAILABLE kExecutorLost.
  absl::Status Hello(absl::string_view device, absl::string_view session);

  const device::DeviceInfo& device_info() const override { return info_; }
  int64_t pid() const override { return host_->pid(); }
  absl::Status health() const override;
  void OnLost(std::function<void(absl::Status)> callback) override;
  absl::Status MapArena(uint64_t arena, const UniqueFd& fd, uint64_t bytes, uint64_t address) override;
  absl::Status UnmapArena(uint64_t arena) override;
  absl::StatusOr<uint64_t> MapForeign(uint64_t arena, absl::string_view handle, uint64_t bytes) override;
  absl::StatusOr<UniqueFd> CreateArena(uint64_t arena, uint64_t bytes, uint64_t address) override;
  absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) override;
  absl::Status RemoveAllocation(uint64_t id) override;
  absl::StatusOr<device::KernelAttributes> LoadKernel(uint64_t kernel, absl::string_view image,
                                                      absl::string_view name) override;
  absl::Status UnloadKernel(uint64_t kernel) override;
  void MapStaging(uint64_t area, const UniqueFd& fd, uint64_t bytes,
                  std::function<void(absl::StatusOr<std::string>)> done) override;
  void UnmapStaging(uint64_t area, std::function<void(absl::Status)> done) override;
  void Transfer(const StagingRange& range, uint64_t address, bool to_device,
                std::function<void(absl::Status)> done) override;
  absl::Status Fill(uint64_t address, uint64_t bytes, absl::string_view pattern) override;
  absl::Status Copy(uint64_t to, uint64_t from, uint64_t bytes) override;
  void Launch(ExecutorLaunch launch, std::function<void(ExecutorLaunchResult)> done) override;
  void Synchronize(std::function<void(absl::Status)> done) override;

 private:
  using Reply = internal::v1::ExecutorReply;
  // What is said (the reply's own status, or why there is none), the reply, and the descriptor that came with
  // it.
  using Done = std::function<void(absl::Status, const Reply&, UniqueFd)>;
  // Whether a reply without an error is what was asked for.
  using Check = bool (*)(const Reply&);

  struct PendingLaunch {
    uint64_t sequence = 0;
    uint32_t repetitions = 1;
    absl::Duration budget;  // of all repetitions, grace included
    std::function<void(ExecutorLaunchResult)> done;
  };
  struct Pending {
    Check check = nullptr;
    Done done;                              // of everything but a launch
    std::unique_ptr<PendingLaunch> launch;  // of a launch
  };
  struct Outgoing {
    std::string bytes;
    size_t sent = 0;
    UniqueFd descriptor;
  };

  absl::Status Call(internal::v1::ExecutorRequest* request, int descriptor, Check check,
                    absl::Duration timeout, Reply* reply, UniqueFd* received = nullptr);
  // The request's id; 0 where it could not be posted and `done` gets to know.
  uint64_t PostPlain(internal::v1::ExecutorRequest* request, std::function<void(absl::Status)> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The executor is given up when the request is not answered within load_timeout.
  void NoteTransfer(uint64_t request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Post(internal::v1::ExecutorRequest* request, int descriptor, Pending pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Wake();
  void Loop();
  absl::Duration UntilHang() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives the executor up when the oldest transfer is overdue; how long until then.
  absl::Duration UntilTransferIsOverdue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleReply(absl::string_view frame);
  absl::Status FinishLaunch(const Reply& reply, absl::Status status, PendingLaunch* launch);
  void MarkLost(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAndFailAll(const absl::Status& why, bool hung);
  void RunDeferred();

  const SocketExecutorOptions options_;
  const UniqueFd socket_;
  const std::unique_ptr<ExecutorHost> host_;
  const UniqueFd wake_;      // eventfd
  device::DeviceInfo info_;  // written by Hello before the object is shared

  mutable Mutex mu_;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the connection is over: nothing is sent or pending any more
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status give_up_ ABSL_GUARDED_BY(mu_);  // why a caller wants the connection to end
  uint64_t next_request_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<uint64_t, Pending> pending_ ABSL_GUARDED_BY(mu_);  // oldest first
  std::deque<uint64_t> launches_ ABSL_GUARDED_BY(mu_);        // request ids of pending launches, oldest first
  absl::Time head_since_ ABSL_GUARDED_BY(mu_);                // when the oldest pending launch may have begun
  std::map<uint64_t, absl::Time> transfers_ ABSL_GUARDED_BY(mu_);  // request ids, and when each is overdue
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mu_);
  std::string buffer_ ABSL_GUARDED_BY(mu_);
  std::vector<std::function<void(absl::Status)>> on_lost_ ABSL_GUARDED_BY(mu_);
  std::vector<std::function<void()>> deferred_ ABSL_GUARDED_BY(mu_);  // callbacks of calls that came too late

  FrameReader reader_{true};  // the thread's
  std::thread thread_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_SOCKET_EXECUTOR_H_
