#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

absl::StatusOr<int> List(Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  TRUN_ASSIGN_OR_RETURN(const std::vector<SessionInfo> sessions, client.ListSessions());
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["sessions"] = nlohmann::ordered_json::array();
    for (const SessionInfo& session : sessions) {
      json["sessions"].push_back({{"session", session.session},
                                  {"tenant", session.tenant},
                                  {"client", session.client_name},
                                  {"device", session.device},
                                  {"age_s", absl::ToDoubleSeconds(session.age)},
                                  {"idle_s", absl::ToDoubleSeconds(session.idle)},
                                  {"tensors", session.tensors},
                                  {"tensor_bytes", session.tensor_bytes},
                                  {"kernels", session.kernels},
                                  {"launches", session.launches},
                                  {"executor_restarts", session.executor_restarts},
                                  {"executor_pid", session.executor_pid}});
    }
    invocation.console.PrintJson(json);
    return kExitOk;
  }
  if (sessions.empty()) {
    invocation.console.Print("no sessions\n");
    return kExitOk;
  }
  Table table({"session", "client", "device", "age", "idle", "tensors", "memory", "kernels", "launches",
               "restarts", "pid"});
  for (const SessionInfo& session : sessions) {
    table.AddRow({session.session, session.client_name, session.device, DurationText(session.age),
                  DurationText(session.idle), FormatCount(session.tensors), FormatBytes(session.tensor_bytes),
                  FormatCount(session.kernels), FormatCount(session.launches),
                  FormatCount(session.executor_restarts), absl::StrCat(session.executor_pid)});
  }
  invocation.console.Print(table.Render());
  return kExitOk;
}

absl::StatusOr<int> Close(const std::string& id, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  TRUN_RETURN_IF_ERROR(client.CloseSession(id));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"closed", id}});
  } else {
    invocation.console.Print(absl::StrCat("closed ", id, "\n"));
  }
  return kExitOk;
}

}  // namespace

void AddSessions(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("sessions", "List the sessions, or close one");
  command->require_subcommand(1);
  command->footer("Examples:\n  trun-client sessions list\n  trun-client sessions close 4f2a...\n");
  CLI::App* list = command->add_subcommand("list", "Your sessions; every user's for the daemon's own");
  tree.commands.push_back({list, List});
  CLI::App* close = command->add_subcommand("close", "End a session and return its memory");
  auto id = std::make_shared<std::string>();
  close->add_option("session", *id, "Its id in the list")->required();
  tree.commands.push_back({close, [id](Invocation& invocation) { return Close(*id, invocation); }});
}

}  // namespace trun::cli
