#include "common/subprocess/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/subprocess/spawner.h"

namespace trun {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

class PosixSubprocess : public Subprocess {
 public:
  PosixSubprocess(pid_t pid, bool own_group)
      : pid_(pid), own_group_(own_group), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}

  ~PosixSubprocess() override {
    {
      MutexLock lock(&mu_);
      if (detached_) {
        if (!exit_) Spawner::Get()->AdoptOrphan(pid_);
        return;
      }
    }
    Signal(SIGKILL).IgnoreError();
    Wait(absl::InfiniteDuration()).IgnoreError();
  }

  pid_t pid() const override { return pid_; }

  absl::Status Signal(int signal) override {
    MutexLock lock(&mu_);
    if (exit_) return absl::OkStatus();
    // Not reaped, so the number is still this child's.
    if (kill(own_group_ ? -pid_ : pid_, signal) != 0 && errno != ESRCH) {
      return FromErrno(errno, absl::StrCat("cannot send signal ", signal, " to process ", pid_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExitStatus> Wait(absl::Duration timeout) override {
    const bool forever = timeout >= absl::Hours(24 * 365);
    const SteadyTime deadline = forever
                                    ? SteadyTime::max()
                                    : std::chrono::steady_clock::now() +
                                          absl::ToChronoNanoseconds(std::max(timeout, absl::ZeroDuration()));
    auto nap = std::chrono::microseconds(500);
    while (true) {
      std::optional<ExitStatus> exit = TryReap();
      if (exit) return *exit;
      const auto now = std::chrono::steady_clock::now();
      if (now >= deadline) {
        return DeadlineExceeded(Reason::kUnavailable, absl::StrCat("process ", pid_, " still runs after ",
                                                                   absl::FormatDuration(timeout)));
      }
      if (pidfd_.valid()) {
        int wait_ms = -1;
        if (!forever) {
          const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
          wait_ms = static_cast<int>(std::min<int64_t>(left, 1 << 30));
        }
        struct pollfd ready{pidfd_.get(), POLLIN, 0};
        poll(&ready, 1, wait_ms);
      } else {
        // A kernel without pidfd_open: look again, less and less often.
        std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(nap, deadline - now));
        nap = std::min(nap * 2, std::chrono::microseconds(20000));
      }
    }
  }

  void Detach() override {
    MutexLock lock(&mu_);
    detached_ = true;
  }

 private:
  // Nothing while the child runs.
  std::optional<ExitStatus> TryReap() {
    MutexLock lock(&mu_);
    if (exit_) return exit_;
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      if (errno != ECHILD) return std::nullopt;
      // Somebody else's SIGCHLD disposition (SIG_IGN) or wait() took it: the true answer is lost.
      exit_ = ExitStatus{false, -1};
      return exit_;
    }
    if (info.si_pid == 0) return std::nullopt;
    // Still a zombie, so the group's number cannot be another's: children it left behind end with it.
    if (own_group_ && !detached_) kill(-pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_ = WIFSIGNALED(status) ? ExitStatus{true, WTERMSIG(status)} : ExitStatus{false, WEXITSTATUS(status)};
    return exit_;
  }

  const pid_t pid_;
  const bool own_group_;
  const UniqueFd pidfd_;

  Mutex mu_;
  std::optional<ExitStatus> exit_ ABSL_GUARDED_BY(mu_);
  bool detached_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

std::string ExitStatus::ToString() const {
  if (signaled) return absl::StrCat("signal ", code, " (", strsignal(code), ")");
  return absl::StrCat("exit code ", code);
}

absl::StatusOr<std::unique_ptr<Subprocess>> Subprocess::Start(const SubprocessOptions& options) {
  if (options.argv.empty() || options.argv[0].empty()) {
    return InvalidArgument(Reason::kInternal, "no program to start");
  }
  for (const auto& [number, ours] : options.descriptors) {
    if (number < 3 || number > 1000 || ours < 0) {
      return InvalidArgument(Reason::kInternal, absl::StrCat("descriptor ", ours, " cannot become number ",
                                                             number, " of a child: numbers are 3 to 1000"));
    }
  }
  absl::StatusOr<pid_t> pid = Spawner::Get()->Spawn(options);
  if (!pid.ok()) return pid.status();
  return std::make_unique<PosixSubprocess>(*pid, options.new_session);
}

}  // namespace trun
