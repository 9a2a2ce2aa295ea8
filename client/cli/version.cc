#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

// Looks for a daemon and starts none: asking for a version must not leave a process behind.
absl::StatusOr<int> Version(Invocation& invocation) {
  ClientOptions connect;
  connect.address = invocation.options.address;
  connect.start_daemon = false;
  std::string server;
  if (absl::StatusOr<Client> client = Client::Connect(connect); client.ok()) {
    TRUN_ASSIGN_OR_RETURN(const ServerInfo info, client->GetServerInfo());
    server = info.version;
  }
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["client"] = TRUN_VERSION;
    json["server"] = server.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(server);
    invocation.console.PrintJson(json);
  } else {
    invocation.console.Print(absl::StrCat("trun-client ", TRUN_VERSION, "\n",
                                          server.empty() ? "no daemon runs" : absl::StrCat("trund ", server),
                                          "\n"));
  }
  return kExitOk;
}

}  // namespace

void AddVersion(CLI::App& root, CommandTree& tree) {
  CLI::App* command =
      root.add_subcommand("version", "This program's version, and the daemon's where one runs");
  tree.commands.push_back({command, Version});
}

}  // namespace trun::cli
