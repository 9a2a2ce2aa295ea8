#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/kernel_input.h"
#include "client/cli/log_follower.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "client/cpp/daemon_starter.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/rpc/runtime_directory.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

absl::StatusOr<std::string> SocketPath(const Invocation& invocation) {
  return invocation.options.address.empty() ? DaemonSocketPath() : ParseAddress(invocation.options.address);
}

// The daemon that runs; UNAVAILABLE where none does. Never starts one.
absl::StatusOr<Client> Running(const Invocation& invocation) {
  ClientOptions connect;
  connect.address = invocation.options.address;
  connect.start_daemon = false;
  connect.name = "trun-client";
  return Client::Connect(connect);
}

nlohmann::ordered_json InfoJson(const ServerInfo& info) {
  return {{"running", true},           {"version", info.version},
          {"pid", info.pid},           {"uptime_s", absl::ToDoubleSeconds(info.uptime)},
          {"socket", info.socket},     {"cache_path", info.cache_path},
          {"log_path", info.log_path}, {"private", info.private_daemon},
          {"sessions", info.sessions}, {"compiles", info.compiles},
          {"launches", info.launches}, {"draining", info.draining}};
}

absl::StatusOr<int> Start(bool until_idle, const std::vector<std::string>& flags, Invocation& invocation) {
  DaemonStart start;
  TRUN_ASSIGN_OR_RETURN(start.socket_path, SocketPath(invocation));
  start.private_daemon = until_idle;
  start.extra_flags = flags;
  absl::StatusOr<bool> started = false;
  {
    const Progress progress(invocation.console, "starting the daemon");
    started = EnsureDaemon(start);
  }
  TRUN_RETURN_IF_ERROR(started.status());
  ClientOptions connect;
  connect.address = absl::StrCat("unix:", start.socket_path);
  TRUN_ASSIGN_OR_RETURN(const Client client, Client::Connect(connect));
  TRUN_ASSIGN_OR_RETURN(const ServerInfo info, client.GetServerInfo());
  if (invocation.options.json) {
    nlohmann::ordered_json json = InfoJson(info);
    json["started"] = *started;
    invocation.console.PrintJson(json);
  } else {
    invocation.console.Print(absl::StrCat(*started ? "started trund " : "already running: trund ",
                                          info.version, ", process ", info.pid, ", on ", info.socket, "\n"));
  }
  return kExitOk;
}

// Waits for the end of a process that is not our child.
absl::Status WaitForEnd(const UniqueFd& pidfd, int64_t pid, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0) {
      return DeadlineExceeded(
          Reason::kUnavailable,
          absl::StrCat("the daemon, process ", pid, ", is still ending after ", DurationText(timeout)));
    }
    struct pollfd entry = {pidfd.get(), POLLIN, 0};
    const int n = poll(&entry, 1, static_cast<int>(left));
    if (n > 0) return absl::OkStatus();
    if (n < 0 && errno != EINTR) return FromErrno(errno, "cannot wait for the daemon", Reason::kUnavailable);
  }
}

absl::StatusOr<int> Stop(const std::string& deadline_text, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const absl::Duration deadline, ParseDuration(deadline_text));
  TRUN_ASSIGN_OR_RETURN(const std::string socket_path, SocketPath(invocation));
  if (!DaemonAnswers(socket_path)) {
    if (invocation.options.json) {
      invocation.console.PrintJson({{"stopped", false}, {"running", false}});
    } else {
      invocation.console.Print("no daemon runs\n");
    }
    return kExitOk;
  }
  TRUN_ASSIGN_OR_RETURN(const Client client, Running(invocation));
  TRUN_ASSIGN_OR_RETURN(const ServerInfo info, client.GetServerInfo());
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(info.pid), 0)));
  {
    const Progress progress(invocation.console, "waiting for running work");
    const absl::Status drained = client.Drain(deadline);
    // A daemon that ends takes its connection with it, at times before the answer.
    if (!drained.ok() && !absl::IsUnavailable(drained)) return drained;
    if (pidfd.valid()) {
      TRUN_RETURN_IF_ERROR(WaitForEnd(pidfd, info.pid, deadline + absl::Minutes(1)));
    }
  }
  if (invocation.options.json) {
    invocation.console.PrintJson({{"stopped", true}, {"running", false}, {"pid", info.pid}});
  } else {
    invocation.console.Print(absl::StrCat("stopped trund, process ", info.pid, "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Status(Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const std::string socket_path, SocketPath(invocation));
  if (!DaemonAnswers(socket_path)) {
    if (invocation.options.json) {
      invocation.console.PrintJson({{"running", false}, {"socket", socket_path}});
    } else {
      invocation.console.Print(absl::StrCat("no daemon runs on ", socket_path, "\n"));
    }
    return kExitUnavailable;
  }
  TRUN_ASSIGN_OR_RETURN(const Client client, Running(invocation));
  TRUN_ASSIGN_OR_RETURN(const ServerInfo info, client.GetServerInfo());
  if (invocation.options.json) {
    invocation.console.PrintJson(InfoJson(info));
    return kExitOk;
  }
  invocation.console.Print(RenderFacts(
      {{"trund", absl::StrCat(info.version, ", process ", info.pid, info.draining ? ", draining" : "",
                              info.private_daemon ? ", ends by itself when idle" : "")},
       {"up for", DurationText(info.uptime)},
       {"socket", info.socket},
       {"cache", info.cache_path},
       {"log", info.log_path},
       {"sessions", absl::StrCat(info.sessions)},
       {"work",
        absl::StrCat(FormatCount(info.compiles), " compiles, ", FormatCount(info.launches), " launches")}}));
  return kExitOk;
}

absl::StatusOr<int> Logs(int lines, bool follow, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const std::string socket_path, SocketPath(invocation));
  std::string path = DaemonLogPath(socket_path);
  if (DaemonAnswers(socket_path)) {
    TRUN_ASSIGN_OR_RETURN(const Client client, Running(invocation));
    TRUN_ASSIGN_OR_RETURN(const ServerInfo info, client.GetServerInfo());
    if (!info.log_path.empty()) path = info.log_path;
  }
  if (access(path.c_str(), R_OK) != 0) {
    return FromErrno(errno, absl::StrCat("there is no log at '", path, "'"), Reason::kUnspecified);
  }
  if (invocation.options.json) {
    invocation.console.PrintJson({{"path", path}, {"tail", LogTail(path, lines)}});
    return kExitOk;
  }
  off_t end = 0;
  invocation.console.Print(LogTail(path, lines, &end));
  if (follow) TRUN_RETURN_IF_ERROR(FollowLog(path, end, invocation.console));
  return kExitOk;
}

}  // namespace

void AddDaemon(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("daemon", "Start, stop and look at the daemon");
  command->require_subcommand(1);
  command->footer(
      "Every other command starts a private daemon by itself when none answers; it ends by itself when "
      "idle.\n\n"
      "Examples:\n"
      "  trun-client daemon status\n"
      "  trun-client daemon start -- --cache-dir /var/tmp/kernels\n"
      "  trun-client daemon logs -f\n");
  struct Values {
    bool until_idle = false, follow = false;
    std::vector<std::string> flags;
    std::string deadline;
    int lines = 50;
  };
  auto values = std::make_shared<Values>();
  CLI::App* start = command->add_subcommand("start", "Start a daemon that stays until it is stopped");
  start->add_flag("--until-idle", values->until_idle,
                  "Let it end by itself when idle, as a private one does");
  start->add_option("flags", values->flags, "Flags of trund, after --");
  tree.commands.push_back(
      {start, [values](Invocation& i) { return Start(values->until_idle, values->flags, i); }});
  CLI::App* stop =
      command->add_subcommand("stop", "Refuse new work, let running work end, then end the daemon");
  stop->add_option("--deadline", values->deadline, "Cut running work after this time")->type_name("TIME");
  tree.commands.push_back({stop, [values](Invocation& i) { return Stop(values->deadline, i); }});
  CLI::App* status = command->add_subcommand("status", "What runs where; exit code 6 when nothing does");
  tree.commands.push_back({status, Status});
  CLI::App* logs = command->add_subcommand("logs", "The end of the daemon's log");
  logs->add_option("-n,--lines", values->lines, "How many lines")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  logs->add_flag("-f,--follow", values->follow, "Keep printing as it grows");
  tree.commands.push_back({logs, [values](Invocation& i) { return Logs(values->lines, values->follow, i); }});
}

}  // namespace trun::cli
