// One compile worker: a Python child with exactly one Triton (docs/formats/frames.md).
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_PROCESS_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_PROCESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"
#include "common/subprocess/frame_channel.h"
#include "common/subprocess/subprocess.h"

namespace trun {

struct WorkerCommand {
  std::vector<std::string> argv;  // the environment's python, its flags, the worker's script
  std::string scratch_directory;  // exists; each worker gets a folder of its own in it
  absl::Duration start_timeout = absl::Seconds(120);  // a cold page cache makes an import slow
  FrameChannel::Limits limits;
};

// A header of the worker, parsed and checked to be an object that is not nested deeply, and the frame's body.
struct WorkerAnswer {
  nlohmann::json header;
  std::string body;
};

// What bounds the wait for an answer.
struct WorkerLimits {
  absl::Time deadline;        // on Clock::Real()
  uint64_t memory_bytes = 0;  // anonymous memory of the worker and its children; 0: no limit
  std::function<bool()> is_abandoned = nullptr;  // true: nobody waits for the answer. Null: never
  std::function<void()> on_quiet = nullptr;      // called once in a wait of over 20 ms. Null: nothing
};

// Thread-compatible. The destructor kills the process, reaps it and deletes its scratch folder.
//
// After a failed Send or Receive, and after an answer that says that it "ends", the process is dead and
// broken() is true: throw it away.
class WorkerProcess {
 public:
  // Started and greeted. FAILED_PRECONDITION kToolchainBroken: Python or Triton does not start (the message
  // has the log's tail). UNAVAILABLE kWorkerLost: killed from outside meanwhile. DEADLINE_EXCEEDED
  // kCompileTimeout.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(const WorkerCommand& command);
  ~WorkerProcess();

  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // The versions the worker named in its greeting.
  const std::string& triton_version() const { return triton_version_; }
  pid_t pid() const { return process_->pid(); }

  // Statuses as those of Receive, which is also the one to tell of a worker that ended meanwhile.
  // RESOURCE_EXHAUSTED kTooLarge: over the frame limit; the worker lives on.
  absl::Status Send(const nlohmann::json& header, absl::string_view body, const WorkerLimits& limits);
  // DEADLINE_EXCEEDED kCompileTimeout. RESOURCE_EXHAUSTED kCompileOutOfMemory. FAILED_PRECONDITION
  // kCompileFailed: it crashed (the message ends with its log's tail) or answered what is no answer.
  // UNAVAILABLE kWorkerLost: killed from outside. CANCELLED kCancelled: abandoned.
  absl::StatusOr<WorkerAnswer> Receive(const WorkerLimits& limits);
  // Ends the process because of what it answered. Returns FAILED_PRECONDITION kCompileFailed.
  absl::Status Distrust(absl::string_view why);

  bool broken() const { return broken_; }
  // False when the process has ended or hung up since its last answer.
  bool Alive();
  // What it has written to stderr since the last call, printable, at most the first 16 KiB of it.
  std::string TakeLog();
  // Anonymous memory of the worker and its children now; 0 where it cannot be read.
  uint64_t MemoryBytes() const;

 private:
  WorkerProcess(std::string scratch, UniqueFd log, FrameChannel channel, std::unique_ptr<Subprocess> process);
  absl::Status WaitReadable(const WorkerLimits& limits);
  absl::Status CheckMemory(const WorkerLimits& limits);
  absl::Status Autopsy();
  absl::Status Kill(absl::Status why);
  uint64_t LogBytes() const;
  std::string LogTail(size_t bytes) const;
  std::string LogFrom(uint64_t offset, size_t bytes) const;

  const std::string scratch_;
  const UniqueFd log_;
  FrameChannel channel_;
  std::unique_ptr<Subprocess> process_;
  std::string triton_version_;
  uint64_t log_taken_ = 0;
  absl::Time looked_ = absl::InfinitePast();  // when its memory was read last
  bool broken_ = false;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_PROCESS_H_
