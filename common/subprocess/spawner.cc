#include "common/subprocess/spawner.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

enum class Step : int { kStdio, kDescriptors, kLimits, kDirectory, kExec };

struct ChildError {
  Step step;
  int error;
};

// What the child needs, laid out before the fork: it may only make async-signal-safe calls.
struct ChildPlan {
  const char* path;
  char* const* argv;
  char* const* envp;
  const char* directory;
  pid_t parent;
  int null_fd;
  int stdout_fd;
  int stderr_fd;
  int error_fd;
  const std::pair<int, int>* targets;  // number in the child, ours; sorted
  int* moved;                          // as many
  int target_count;
  int high;  // above every number in use as a target
  uint64_t address_space_limit;
  bool die_with_parent;
  bool new_session;
};

[[noreturn]] void Fail(int error_fd, Step step) {
  const ChildError failure{step, errno};
  [[maybe_unused]] ssize_t written = write(error_fd, &failure, sizeof(failure));
  _exit(127);
}

// Between fork and exec. Only async-signal-safe calls.
[[noreturn]] void RunChild(const ChildPlan& plan) {
  // A handler of the parent must not run here, and an ignored signal (SIGPIPE) must not be ignored in the
  // child.
  struct sigaction default_action{};
  default_action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &default_action, nullptr);

  if (plan.new_session) setsid();
  if (plan.die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != plan.parent) _exit(127);  // it died before the prctl
  }

  // Out of the way of the numbers to come, then everything above stdio closes at exec but what dup2 makes.
  const int error_fd = fcntl(plan.error_fd, F_DUPFD_CLOEXEC, plan.high);
  if (error_fd < 0) Fail(plan.error_fd, Step::kDescriptors);
  const int null_fd = fcntl(plan.null_fd, F_DUPFD_CLOEXEC, plan.high);
  const int out = plan.stdout_fd < 0 ? null_fd : fcntl(plan.stdout_fd, F_DUPFD_CLOEXEC, plan.high);
  const int err = plan.stderr_fd < 0 ? null_fd : fcntl(plan.stderr_fd, F_DUPFD_CLOEXEC, plan.high);
  if (null_fd < 0 || out < 0 || err < 0) Fail(error_fd, Step::kStdio);
  for (int i = 0; i < plan.target_count; ++i) {
    plan.moved[i] = fcntl(plan.targets[i].second, F_DUPFD_CLOEXEC, plan.high);
    if (plan.moved[i] < 0) Fail(error_fd, Step::kDescriptors);
  }
  if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    struct rlimit files;
    const int last = getrlimit(RLIMIT_NOFILE, &files) == 0 ? static_cast<int>(files.rlim_cur) : 65536;
    for (int fd = 3; fd < last; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (dup2(null_fd, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) Fail(error_fd, Step::kStdio);
  for (int i = 0; i < plan.target_count; ++i) {
    if (dup2(plan.moved[i], plan.targets[i].first) < 0) Fail(error_fd, Step::kDescriptors);
  }

  const struct rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (plan.address_space_limit != 0) {
    const struct rlimit limit{plan.address_space_limit, plan.address_space_limit};
    if (setrlimit(RLIMIT_AS, &limit) != 0) Fail(error_fd, Step::kLimits);
  }
  if (chdir(plan.directory) != 0) Fail(error_fd, Step::kDirectory);

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(plan.path, plan.argv, plan.envp);
  Fail(error_fd, Step::kExec);
}

absl::Status StartError(const SubprocessOptions& options, const ChildError& failure) {
  std::string what = absl::StrCat("cannot start ", options.argv[0]);
  switch (failure.step) {
    case Step::kStdio:
    case Step::kDescriptors:
      absl::StrAppend(&what, ": handing over its descriptors");
      break;
    case Step::kLimits:
      absl::StrAppend(&what, ": setting its memory limit");
      break;
    case Step::kDirectory:
      absl::StrAppend(&what, ": entering ", options.working_directory);
      break;
    case Step::kExec:
      break;
  }
  if (failure.error == EAGAIN || failure.error == ENOMEM || failure.error == EMFILE ||
      failure.error == ENFILE) {
    return ResourceExhausted(Reason::kUnavailable, absl::StrCat(what, ": ", strerror(failure.error)));
  }
  return FromErrno(failure.error, what, Reason::kUnavailable);
}

// /dev/null, or what serves for it where there is no /dev (an empty chroot): an empty file that nobody can
// fill.
UniqueFd OpenNull() {
  UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null_fd.valid() || errno != ENOENT) return null_fd;
  UniqueFd empty(memfd_create("trun-null", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (empty.valid() && fcntl(empty.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL) != 0) empty.reset();
  return empty;
}

absl::StatusOr<pid_t> ForkAndExec(const SubprocessOptions& options) {
  std::vector<char*> argv;
  for (const std::string& arg : options.argv) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  std::vector<std::string> settings;
  for (const auto& [name, value] : options.env) settings.push_back(absl::StrCat(name, "=", value));
  std::vector<char*> envp;
  for (std::string& setting : settings) envp.push_back(setting.data());
  envp.push_back(nullptr);
  const std::vector<std::pair<int, int>> targets(options.descriptors.begin(), options.descriptors.end());
  std::vector<int> moved(targets.size());

  UniqueFd null_fd = OpenNull();
  if (!null_fd.valid()) return FromErrno(errno, "cannot open /dev/null", Reason::kUnavailable);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return StartError(options, {Step::kDescriptors, errno});
  UniqueFd read_end(ends[0]), write_end(ends[1]);

  ChildPlan plan{};
  plan.path = argv[0];
  plan.argv = argv.data();
  plan.envp = envp.data();
  plan.directory = options.working_directory.c_str();
  plan.parent = getpid();
  plan.null_fd = null_fd.get();
  plan.stdout_fd = options.stdout_fd;
  plan.stderr_fd = options.stderr_fd;
  plan.error_fd = write_end.get();
  plan.targets = targets.data();
  plan.moved = moved.data();
  plan.target_count = static_cast<int>(targets.size());
  plan.high = std::max(3, targets.empty() ? 3 : targets.back().first + 1);
  plan.address_space_limit = options.address_space_limit;
  plan.die_with_parent = options.die_with_parent;
  plan.new_session = options.new_session;

  const pid_t pid = fork();
  if (pid == 0) RunChild(plan);
  if (pid < 0) return StartError(options, {Step::kExec, errno});
  write_end.reset();

  ChildError failure{};
  ssize_t got;
  do {
    got = read(read_end.get(), &failure, sizeof(failure));
  } while (got < 0 && errno == EINTR);
  if (got == 0) return pid;  // exec closed the pipe
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (got != static_cast<ssize_t>(sizeof(failure))) {
    return Unavailable(Reason::kUnavailable,
                       absl::StrCat("cannot start ", options.argv[0], ": it died before exec"));
  }
  return StartError(options, failure);
}

}  // namespace

Spawner* Spawner::Get() {
  static Spawner* const spawner = new Spawner();  // never deleted: see the class comment
  return spawner;
}

Spawner::Spawner() {
  std::thread([this] { Loop(); }).detach();
}

absl::StatusOr<pid_t> Spawner::Spawn(const SubprocessOptions& options) {
  Request request{&options};
  MutexLock lock(&mu_);
  queue_.push_back(&request);
  wake_.Signal();
  while (!request.done) finished_.Wait(&mu_);
  return request.result;
}

void Spawner::AdoptOrphan(pid_t pid) {
  MutexLock lock(&mu_);
  orphans_.push_back(pid);
}

void Spawner::Loop() {
  pthread_setname_np(pthread_self(), "trun-spawner");
  // No handler of this process may run in a child between fork and the reset of its handlers.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  while (true) {
    Request* request = nullptr;
    {
      MutexLock lock(&mu_);
      while (queue_.empty()) wake_.Wait(&mu_);
      request = queue_.front();
      queue_.pop_front();
    }
    ReapOrphans();
    absl::StatusOr<pid_t> result = ForkAndExec(*request->options);
    MutexLock lock(&mu_);
    request->result = std::move(result);
    request->done = true;
    finished_.SignalAll();
  }
}

void Spawner::ReapOrphans() {
  MutexLock lock(&mu_);
  orphans_.erase(std::remove_if(orphans_.begin(), orphans_.end(),
                                [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; }),
                 orphans_.end());
}

}  // namespace trun
