#include "server/main/child_processes.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace trun {
namespace {

// Parent of `pid` as /proc/PID/stat tells (proc(5)); -1 when it has ended.
pid_t ParentOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  // The second field is the command in brackets, which may hold anything.
  const size_t command_end = text.rfind(')');
  if (command_end == std::string::npos) return -1;
  const std::vector<std::string> fields =
      absl::StrSplit(text.substr(command_end + 1), ' ', absl::SkipEmpty());
  pid_t parent = -1;
  if (fields.size() < 2 || fields[0] == "Z" || !absl::SimpleAtoi(fields[1], &parent)) return -1;
  return parent;
}

}  // namespace

int KillChildren() {
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (proc == nullptr) return 0;
  int killed = 0;
  while (const dirent* entry = readdir(proc.get())) {
    pid_t pid = -1;
    if (!absl::SimpleAtoi(entry->d_name, &pid) || ParentOf(pid) != getpid()) continue;
    if (kill(pid, SIGKILL) == 0) ++killed;
  }
  return killed;
}

ChildReaper::ChildReaper() : thread_([this] { Run(); }) {}

ChildReaper::~ChildReaper() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.Signal();
  }
  thread_.join();
}

void ChildReaper::Run() {
  MutexLock lock(&mu_);
  while (!stopping_) {
    KillChildren();
    wake_.WaitUntil(&mu_, std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
  }
}

}  // namespace trun
