#include "server/toolchain/triton/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "server/toolchain/triton/worker_json.h"

namespace trun {
namespace {

constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
constexpr uint64_t kLogLimitBytes = uint64_t{64} << 20;
constexpr size_t kTailBytes = 4096;
constexpr uint64_t kStageLogBytes = uint64_t{16} << 10;

// resident - shared of /proc/PID/statm: what the process itself has filled.
uint64_t AnonymousBytes(pid_t pid) {
  std::ifstream statm(absl::StrCat("/proc/", pid, "/statm"));
  uint64_t size = 0, resident = 0, shared = 0;
  if (!(statm >> size >> resident >> shared) || resident < shared) return 0;
  return (resident - shared) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// Lines that say what happened, of a log that may be a long stack trace.
std::string TellingLines(absl::string_view log) {
  std::string lines;
  for (absl::string_view line : absl::StrSplit(log, '\n')) {
    if (absl::StrContains(line, "LLVM ERROR") || absl::StrContains(line, "error:") ||
        absl::StrContains(line, "Assertion") || absl::StrContains(line, "terminate called") ||
        absl::StrContains(line, "what():")) {
      absl::StrAppend(&lines, lines.empty() ? "" : "; ", line.substr(0, 500));
      if (lines.size() > 2000) break;
    }
  }
  return lines;
}

bool SaysOutOfMemory(absl::string_view log) {
  return absl::StrContains(log, "std::bad_alloc") || absl::StrContains(log, "MemoryError") ||
         absl::StrContains(log, "LLVM ERROR: out of memory");
}

absl::Status Lost(absl::string_view how) {
  return Unavailable(Reason::kWorkerLost, absl::StrCat("the compile worker was ended from outside (", how,
                                                       "); the compile may be tried again"));
}

}  // namespace

WorkerProcess::WorkerProcess(std::string scratch, UniqueFd log, FrameChannel channel,
                             std::unique_ptr<Subprocess> process)
    : scratch_(std::move(scratch)),
      log_(std::move(log)),
      channel_(std::move(channel)),
      process_(std::move(process)) {}

WorkerProcess::~WorkerProcess() {
  process_.reset();
  std::error_code ignored;  // a folder that cannot be deleted harms nobody
  std::filesystem::remove_all(scratch_, ignored);
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(const WorkerCommand& command) {
  // The daemon's process id in the name lets a later daemon find what a killed one left.
  std::string scratch = absl::StrCat(command.scratch_directory, "/worker-", getpid(), "-XXXXXX");
  if (mkdtemp(scratch.data()) == nullptr) {
    return FromErrno(errno,
                     absl::StrCat("cannot make a folder for a compile worker in ", command.scratch_directory),
                     Reason::kUnavailable);
  }
  UniqueFd log(memfd_create("trun-worker-log", MFD_CLOEXEC));
  auto ends = FrameChannel::MakePair();
  absl::Status failed = absl::OkStatus();
  if (!log.valid()) failed = FromErrno(errno, "cannot make a log for a compile worker", Reason::kUnavailable);
  if (!ends.ok()) failed = ends.status();
  std::unique_ptr<Subprocess> process;
  if (failed.ok()) {
    SubprocessOptions options;
    options.argv = command.argv;
    options.env = {
        {"PATH", "/usr/bin:/bin"},
        {"LANG", "C.UTF-8"},
        {"HOME", scratch},
        {"TMPDIR", scratch},
        {"TRITON_HOME", scratch},
        {"TRITON_CACHE_DIR", absl::StrCat(scratch, "/cache")},
        {"PYTHONHASHSEED", "0"},
        {"PYTHONDONTWRITEBYTECODE", "1"},
        // Triton's default, said aloud: 3.9 warns in every process that leaves it unsaid. A request's own
        // enable_fp_fusion goes before it.
        {"TRITON_DEFAULT_FP_FUSION", "1"},
    };
    options.descriptors = {{3, ends->second.get()}};
    options.stderr_fd = log.get();
    options.working_directory = scratch;
    auto started = Subprocess::Start(options);
    if (started.ok()) {
      process = *std::move(started);
    } else if (absl::IsNotFound(started.status()) || absl::IsPermissionDenied(started.status())) {
      failed = FailedPrecondition(Reason::kToolchainBroken, started.status().message());
    } else {
      failed = started.status();
    }
  }
  if (!failed.ok()) {
    rmdir(scratch.c_str());
    return failed;
  }
  ends->second.reset();
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(std::move(scratch), std::move(log),
                        FrameChannel(std::move(ends->first), command.limits), std::move(process)));

  auto hello = worker->Receive({Clock::Real()->Now() + command.start_timeout, 0});
  if (!hello.ok()) {
    if (GetReason(hello.status()) != Reason::kCompileFailed) return hello.status();
    return FailedPrecondition(Reason::kToolchainBroken,
                              absl::StrCat("the toolchain does not start: ", hello.status().message()));
  }
  const nlohmann::json& header = hello->header;
  if (JsonString(header, "op") == "error") {
    return FailedPrecondition(Reason::kToolchainBroken, JsonString(header, "message"));
  }
  if (JsonString(header, "op") != "hello" || JsonInteger(header, "protocol", -1) != 1) {
    return FailedPrecondition(Reason::kToolchainBroken,
                              "the compile worker did not greet as one of this version");
  }
  worker->triton_version_ = JsonString(header, "triton");
  return worker;
}

absl::Status WorkerProcess::Send(const nlohmann::json& header, absl::string_view body,
                                 const WorkerLimits& limits) {
  const std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // A request: it is not for a worker that is too large already.
  if (!body.empty()) looked_ = absl::InfinitePast();
  const absl::Status sent = channel_.Send(text, body, limits.deadline - Clock::Real()->Now());
  if (sent.ok() || GetReason(sent) == Reason::kTooLarge) return sent;
  if (absl::IsDeadlineExceeded(sent)) {
    return Kill(
        DeadlineExceeded(Reason::kCompileTimeout, "the compile passed its deadline; its worker was ended"));
  }
  // A worker that ended in the middle of a request may have said why: Receive reads that first.
  return absl::IsUnavailable(sent) ? absl::OkStatus() : Autopsy();
}

absl::StatusOr<WorkerAnswer> WorkerProcess::Receive(const WorkerLimits& limits) {
  TRUN_RETURN_IF_ERROR(WaitReadable(limits));
  absl::StatusOr<Frame> frame = channel_.Receive(limits.deadline - Clock::Real()->Now());
  if (!frame.ok()) {
    if (absl::IsUnavailable(frame.status())) return Autopsy();
    if (absl::IsDeadlineExceeded(frame.status())) {
      return Kill(
          DeadlineExceeded(Reason::kCompileTimeout, "the compile passed its deadline; its worker was ended"));
    }
    return Distrust(frame.status().message());
  }
  WorkerAnswer answer;
  if (!ParseJsonObject(frame->header, &answer.header)) return Distrust("its answer is not a JSON object");
  answer.body = std::move(frame->body);
  if (answer.header.contains("ends")) Distrust("it says that it ends").IgnoreError();
  return answer;
}

// Between stages it waits first and looks afterwards: a worker that was just woken may have no other
// processor. One that answers all the time is looked at, too.
absl::Status WorkerProcess::WaitReadable(const WorkerLimits& limits) {
  for (bool is_first = true;; is_first = false) {
    const absl::Time now = Clock::Real()->Now();
    if (now >= limits.deadline) {
      return Kill(
          DeadlineExceeded(Reason::kCompileTimeout, "the compile passed its deadline; its worker was ended"));
    }
    if (limits.is_abandoned != nullptr && limits.is_abandoned()) {
      return Kill(MakeError(absl::StatusCode::kCancelled, Reason::kCancelled,
                            "nobody waits for this compile any more; its worker was ended"));
    }
    if (now - looked_ >= (is_first ? 10 : 1) * kLookInterval) {
      looked_ = now;
      TRUN_RETURN_IF_ERROR(CheckMemory(limits));
    }
    struct pollfd ready{channel_.fd(), POLLIN, 0};
    const absl::Duration wait = std::min(kLookInterval, limits.deadline - now);
    const int count = poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1);
    if (count > 0) return absl::OkStatus();
    if (count < 0 && errno != EINTR) return Kill(FromErrno(errno, "poll on a compile worker"));
    if (is_first && limits.on_quiet != nullptr) limits.on_quiet();
  }
}

absl::Status WorkerProcess::CheckMemory(const WorkerLimits& limits) {
  const uint64_t memory = MemoryBytes();
  const bool flooded = LogBytes() > kLogLimitBytes;
  if (!flooded && (limits.memory_bytes == 0 || memory <= limits.memory_bytes)) return absl::OkStatus();
  return Kill(ResourceExhausted(
      Reason::kCompileOutOfMemory,
      absl::StrCat(
          "the compile needed more than its ", (limits.memory_bytes >> 20), " MiB (",
          flooded ? "its log alone is endless" : absl::StrCat(memory >> 20, " MiB when it was ended"),
          "); its worker was ended"),
      {{"limit", absl::StrCat(limits.memory_bytes)}}));
}

absl::Status WorkerProcess::Kill(absl::Status why) {
  broken_ = true;
  process_->Signal(SIGKILL).IgnoreError();
  return why;
}

absl::Status WorkerProcess::Distrust(absl::string_view why) {
  return Kill(FailedPrecondition(Reason::kCompileFailed,
                                 absl::StrCat("the compile worker went wrong (", why, ") and was ended")));
}

absl::Status WorkerProcess::Autopsy() {
  broken_ = true;
  absl::StatusOr<ExitStatus> exit = process_->Wait(absl::Seconds(5));
  if (!exit.ok()) return Distrust("it closed its connection");
  const std::string tail = LogTail(kTailBytes);
  if (exit->signaled &&
      (exit->code == SIGKILL || exit->code == SIGTERM || exit->code == SIGINT || exit->code == SIGHUP)) {
    return Lost(exit->ToString());
  }
  if (SaysOutOfMemory(tail)) {
    return ResourceExhausted(Reason::kCompileOutOfMemory,
                             absl::StrCat("the compile worker ran out of memory and died\n", tail));
  }
  const std::string telling = TellingLines(LogTail(size_t{64} << 10));
  return FailedPrecondition(Reason::kCompileFailed,
                            absl::StrCat("the compiler crashed (", exit->ToString(), ")",
                                         telling.empty() ? "" : ": ", telling, "\n", tail),
                            {{"crashed", "1"}});
}

bool WorkerProcess::Alive() {
  if (broken_ || process_->Wait(absl::ZeroDuration()).ok()) return false;
  // Nothing is due now: anything readable is an end of file or an answer nobody asked for.
  struct pollfd ready{channel_.fd(), POLLIN, 0};
  return poll(&ready, 1, 0) == 0;
}

uint64_t WorkerProcess::MemoryBytes() const {
  const pid_t pid = process_->pid();
  uint64_t total = AnonymousBytes(pid);
  std::ifstream children(absl::StrCat("/proc/", pid, "/task/", pid, "/children"));
  for (pid_t child = 0; children >> child;) total += AnonymousBytes(child);
  return total;
}

uint64_t WorkerProcess::LogBytes() const {
  struct stat state{};
  return fstat(log_.get(), &state) == 0 && state.st_size > 0 ? static_cast<uint64_t>(state.st_size) : 0;
}

std::string WorkerProcess::TakeLog() {
  const uint64_t begin = std::exchange(log_taken_, LogBytes());
  return begin < log_taken_ ? LogFrom(begin, std::min<uint64_t>(log_taken_ - begin, kStageLogBytes))
                            : std::string();
}

std::string WorkerProcess::LogTail(size_t bytes) const {
  const uint64_t size = LogBytes();
  const uint64_t from = size > bytes ? size - bytes : 0;
  return LogFrom(from, size - from);
}

std::string WorkerProcess::LogFrom(uint64_t offset, size_t bytes) const {
  std::string text(bytes, '\0');
  const ssize_t got = pread(log_.get(), text.data(), text.size(), static_cast<off_t>(offset));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return PrintableText(absl::StripAsciiWhitespace(text));
}

}  // namespace trun
