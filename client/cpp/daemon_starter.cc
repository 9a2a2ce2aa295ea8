#include "client/cpp/daemon_starter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/program_path.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/rpc/runtime_directory.h"
#include "common/rpc/unix_socket.h"
#include "common/subprocess/subprocess.h"

extern char** environ;

namespace trun {
inline namespace client {
namespace {

// Number of the ready pipe's write end in trund: it writes one byte there when it serves.
constexpr int kReadyDescriptor = 3;
constexpr int kLogLinesInError = 12;

std::string Folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

bool IsProgram(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

std::string ThisLibrary() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&DaemonAnswers), &info) == 0 || info.dli_fname == nullptr)
    return "";
  char* real = realpath(info.dli_fname, nullptr);
  if (real == nullptr) return "";
  std::string path(real);
  std::free(real);
  return path;
}

std::map<std::string, std::string> WholeEnvironment() {
  std::map<std::string, std::string> all;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    if (!pair.first.empty()) all.insert(pair);
  }
  return all;
}

// Waits for the byte on the ready pipe. OK: it serves. The pipe's end without a byte: it is ending.
absl::Status WaitUntilReady(int ready_fd, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return DeadlineExceeded(Reason::kUnavailable, "not ready in time");
    struct pollfd entry = {ready_fd, POLLIN, 0};
    const int n = poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (n < 0 && errno != EINTR) return FromErrno(errno, "cannot wait for trund");
    if (n <= 0) continue;
    char byte;
    const ssize_t got = read(ready_fd, &byte, 1);
    if (got == 1) return absl::OkStatus();
    if (got == 0) return Unavailable(Reason::kUnavailable, "trund ended before it was ready");
    if (errno != EINTR) return FromErrno(errno, "cannot read trund's ready pipe");
  }
}

std::string WithLogTail(std::string message, const std::string& log_path, off_t log_start) {
  std::string tail = LogTail(log_path, kLogLinesInError);
  // Only what this start wrote: an older daemon's last words would mislead.
  struct stat info;
  if (stat(log_path.c_str(), &info) == 0 && info.st_size >= log_start) {
    const size_t fresh = static_cast<size_t>(info.st_size - log_start);
    if (tail.size() > fresh) tail = tail.substr(tail.size() - fresh);
  }
  if (tail.empty()) return absl::StrCat(message, "; its log ", log_path, " is empty");
  return absl::StrCat(message, "; the end of its log ", log_path, ":\n", tail);
}

}  // namespace

std::string DaemonLogPath(absl::string_view socket_path) {
  return absl::StrCat(Folder(std::string(socket_path)), "/trund.log");
}

std::string LogTail(const std::string& path, int lines, off_t* end) {
  constexpr off_t kMostBytes = 64 << 10;
  if (end != nullptr) *end = 0;
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return "";
  const off_t size = lseek(fd.get(), 0, SEEK_END);
  const off_t start = std::max<off_t>(0, size - kMostBytes);
  std::string text(static_cast<size_t>(std::max<off_t>(0, size - start)), '\0');
  const ssize_t n = pread(fd.get(), &text[0], text.size(), start);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
  if (end != nullptr) *end = start + static_cast<off_t>(text.size());
  size_t at = text.size();
  for (int left = lines; left >= 0 && at > 0; --left) {
    const size_t newline = text.rfind('\n', at - 1);
    if (newline == std::string::npos) return text;
    if (left == 0 || (left == 1 && text.back() != '\n')) return text.substr(newline + 1);
    at = newline;
  }
  return text;
}

bool DaemonAnswers(const std::string& socket_path) { return ConnectUnix(socket_path).ok(); }

absl::StatusOr<std::string> FindTrund() {
  std::vector<std::string> places;
  if (const char* named = std::getenv("TRUN_TRUND"); named != nullptr && *named != '\0') {
    if (IsProgram(named)) return std::string(named);
    return Unavailable(Reason::kUnavailable,
                       absl::StrCat("TRUN_TRUND is '", named, "', which is not a program"));
  }
  if (const absl::StatusOr<std::string> program = ProgramPath(); program.ok())
    places.push_back(Folder(*program) + "/trund");
  if (const std::string library = ThisLibrary(); !library.empty()) {
    places.push_back(Folder(library) + "/trund");
    places.push_back(Folder(library) + "/../bin/trund");
    places.push_back(Folder(Folder(library)) + "/../bin/trund");
  }
  if (const char* path = std::getenv("PATH"); path != nullptr) {
    for (absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
      places.push_back(absl::StrCat(folder, "/trund"));
    }
  }
  for (const std::string& place : places) {
    if (IsProgram(place)) return place;
  }
  return Unavailable(
      Reason::kUnavailable,
      absl::StrCat("no daemon answers and trund was not found beside this program or in PATH: set "
                   "TRUN_TRUND to its path, or TRUN_ADDRESS to the socket of a running one"));
}

absl::StatusOr<bool> EnsureDaemon(const DaemonStart& start) {
  if (DaemonAnswers(start.socket_path)) return false;
  std::string trund = start.trund;
  if (trund.empty()) {
    TRUN_ASSIGN_OR_RETURN(trund, FindTrund());
  }

  const std::string lock_path = StartLockPath(start.socket_path);
  UniqueFd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return FromErrno(errno, absl::StrCat("cannot open ", lock_path), Reason::kUnavailable);
  // Whoever holds it gives up after its own timeout, and the kernel takes it from a process that dies.
  while (flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR)
      return FromErrno(errno, absl::StrCat("cannot lock ", lock_path), Reason::kUnavailable);
  }
  if (DaemonAnswers(start.socket_path)) return false;

  const std::string log_path = DaemonLogPath(start.socket_path);
  UniqueFd log(open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log.valid()) return FromErrno(errno, absl::StrCat("cannot open ", log_path), Reason::kUnavailable);
  const off_t log_start = lseek(log.get(), 0, SEEK_END);

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return FromErrno(errno, "cannot make a pipe", Reason::kUnavailable);
  UniqueFd ready(ends[0]);
  UniqueFd ready_writer(ends[1]);

  SubprocessOptions options;
  options.argv = {trund,
                  "--socket",
                  start.socket_path,
                  "--log-file",
                  log_path,
                  "--ready-fd",
                  absl::StrCat(kReadyDescriptor)};
  if (start.private_daemon) options.argv.push_back("--private");
  options.argv.insert(options.argv.end(), start.extra_flags.begin(), start.extra_flags.end());
  options.env = WholeEnvironment();
  options.descriptors = {{kReadyDescriptor, ready_writer.get()}};
  options.stdout_fd = log.get();
  options.stderr_fd = log.get();
  options.die_with_parent = false;
  // A daemon keeps no folder busy, unless its flags name paths as seen from here.
  std::error_code no_folder;
  if (!start.extra_flags.empty())
    options.working_directory = std::filesystem::current_path(no_folder).string();
  if (options.working_directory.empty()) options.working_directory = "/";
  TRUN_ASSIGN_OR_RETURN(const std::unique_ptr<Subprocess> daemon, Subprocess::Start(options));
  ready_writer.reset();

  const absl::Status waited = WaitUntilReady(ready.get(), absl::Now() + start.timeout);
  if (waited.ok()) {
    daemon->Detach();
    return true;
  }
  if (absl::IsUnavailable(waited)) {
    const absl::StatusOr<ExitStatus> exit = daemon->Wait(absl::Seconds(5));
    return Unavailable(
        Reason::kUnavailable,
        WithLogTail(absl::StrCat("the daemon ", trund, " did not start (",
                                 exit.ok() ? exit->ToString() : "it closed its ready pipe", ")"),
                    log_path, log_start));
  }
  if (!absl::IsDeadlineExceeded(waited)) return waited;
  return DeadlineExceeded(Reason::kUnavailable,
                          WithLogTail(absl::StrCat("the daemon ", trund, " was not ready after ",
                                                   absl::FormatDuration(start.timeout), " and was ended"),
                                      log_path, log_start));
}

}  // namespace client
}  // namespace trun
