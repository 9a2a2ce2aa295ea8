#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

absl::StatusOr<int> Devices(Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  TRUN_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, client.ListDevices());
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["devices"] = nlohmann::ordered_json::array();
    for (const DeviceInfo& device : devices) {
      nlohmann::ordered_json users = nlohmann::ordered_json::array();
      for (const DeviceInfo::User& user : device.users) {
        users.push_back({{"client", user.client_name},
                         {"used_bytes", user.used_bytes},
                         {"executor_pid", user.executor_pid}});
      }
      json["devices"].push_back({{"device", device.device},
                                 {"name", device.name},
                                 {"target", device.target},
                                 {"memory_bytes", device.memory_bytes},
                                 {"used_bytes", device.used_bytes},
                                 {"multiprocessors", device.multiprocessors},
                                 {"max_shared_bytes", device.max_shared_bytes},
                                 {"clock_khz", device.clock_khz},
                                 {"memory_clock_khz", device.memory_clock_khz},
                                 {"driver", device.driver},
                                 {"pinning_refused", device.pinning_refused},
                                 {"sessions", device.sessions},
                                 {"users", users},
                                 {"default", device.is_default},
                                 {"usable", device.unusable_reason.empty()},
                                 {"unusable_reason", device.unusable_reason}});
    }
    invocation.console.PrintJson(json);
    return kExitOk;
  }
  Table table({"device", "target", "memory", "used", "shared", "SMs", "clock", "sessions", "name"});
  std::string below;
  for (const DeviceInfo& device : devices) {
    std::string name = device.name;
    if (device.is_default) name += " (default)";
    if (!device.driver.empty()) absl::StrAppend(&name, ", ", device.driver);
    for (const DeviceInfo::User& user : device.users) {
      absl::StrAppend(&below, device.device, " is used by ",
                      user.client_name.empty() ? "a session" : user.client_name, " (executor ",
                      user.executor_pid, "): ", FormatBytes(user.used_bytes), "\n");
    }
    if (!device.pinning_refused.empty()) {
      absl::StrAppend(&below, device.device, " copies slowly: its driver registers no memory of the host (",
                      device.pinning_refused, ")\n");
    }
    if (!device.unusable_reason.empty()) absl::StrAppend(&name, "  unusable: ", device.unusable_reason);
    table.AddRow({device.device, device.target, FormatBytes(device.memory_bytes),
                  FormatBytes(device.used_bytes), FormatBytes(device.max_shared_bytes),
                  absl::StrCat(device.multiprocessors),
                  device.clock_khz == 0 ? std::string("-") : absl::StrCat(device.clock_khz / 1000, " MHz"),
                  absl::StrCat(device.sessions), name});
  }
  invocation.console.Print(absl::StrCat(table.Render(), below));
  return kExitOk;
}

}  // namespace

void AddDevices(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("devices", "List the devices, and why one cannot be used");
  command->footer("Example:\n  trun-client devices --json | jq '.devices[].device'\n");
  tree.commands.push_back({command, Devices});
}

}  // namespace trun::cli
