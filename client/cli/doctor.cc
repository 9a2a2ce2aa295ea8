#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/driver_check.h"
#include "client/cli/exit_code.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "client/cpp/daemon_starter.h"
#include "common/base/status.h"
#include "common/rpc/runtime_directory.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

constexpr uint64_t kLowDiskBytes = uint64_t{2} << 30;

using Verdict = Check::Verdict;

Check FromStatus(std::string name, const absl::Status& status) {
  return {std::move(name), Verdict::kBad, std::string(status.message()), HelpFor(status)};
}

Check CheckRuntimeFolder(const Invocation& invocation) {
  const absl::StatusOr<std::string> socket =
      invocation.options.address.empty() ? DaemonSocketPath() : ParseAddress(invocation.options.address);
  if (!socket.ok()) return FromStatus("socket", socket.status());
  return {"socket", Verdict::kOk, *socket, ""};
}

Check CheckTrund() {
  const absl::StatusOr<std::string> trund = FindTrund();
  if (trund.ok()) return {"trund", Verdict::kOk, *trund, ""};
  return {"trund", Verdict::kWarning, "not beside this program nor in PATH: no private daemon can be started",
          "set TRUN_TRUND to its path"};
}

Check CheckVersions(const ServerInfo& info) {
  Check check{
      "daemon", Verdict::kOk,
      absl::StrCat("trund ", info.version, ", process ", info.pid, ", up for ", DurationText(info.uptime)),
      ""};
  if (info.draining) {
    check.verdict = Verdict::kWarning;
    check.help = "it is ending: the next command gets a new one";
  } else if (info.version != TRUN_VERSION) {
    check.verdict = Verdict::kWarning;
    check.help = absl::StrCat("this client is ", TRUN_VERSION,
                              ": 'trun-client daemon stop' makes room for its own daemon");
  }
  return check;
}

std::vector<Check> CheckDevices(const Client& client) {
  const absl::StatusOr<std::vector<DeviceInfo>> devices = client.ListDevices();
  if (!devices.ok()) return {FromStatus("devices", devices.status())};
  std::vector<Check> checks;
  bool usable = false;
  for (const DeviceInfo& device : *devices) {
    const bool fine = device.unusable_reason.empty();
    usable = usable || fine;
    checks.push_back({absl::StrCat("device ", device.device), fine ? Verdict::kOk : Verdict::kWarning,
                      fine ? absl::StrCat(device.name, ", ", device.target, device.driver.empty() ? "" : ", ",
                                          device.driver)
                           : device.unusable_reason,
                      ""});
    if (fine && !device.pinning_refused.empty()) {
      checks.push_back(
          {absl::StrCat("copies to ", device.device), Verdict::kWarning,
           absl::StrCat("slow: the driver registers no memory of the host (", device.pinning_refused, ")"),
           "copies work at the speed of ordinary memory; a container's sandbox or an old driver may be why"});
    }
  }
  if (!usable)
    checks.push_back({"devices", Verdict::kBad, "none can be used", "'trun-client daemon logs' says why"});
  return checks;
}

std::vector<Check> CheckToolchains(const Client& client) {
  const absl::StatusOr<std::vector<ToolchainInfo>> toolchains = client.toolchains().List();
  if (!toolchains.ok()) return {FromStatus("toolchains", toolchains.status())};
  std::vector<Check> checks;
  bool usable = false;
  for (const ToolchainInfo& toolchain : *toolchains) {
    const bool fine = toolchain.unusable_reason.empty();
    usable = usable || fine;
    checks.push_back(
        {absl::StrCat("toolchain ", toolchain.name), fine ? Verdict::kOk : Verdict::kBad,
         fine ? toolchain.path : toolchain.unusable_reason,
         fine ? ""
              : absl::StrCat("'trun-client toolchains remove ", toolchain.name, "' and install it again")});
  }
  if (!usable) {
    checks.push_back({"toolchains", Verdict::kBad, "none is installed",
                      "'trun-client toolchains install 3.9.0' installs one"});
  }
  return checks;
}

std::vector<Check> CheckCache(const Client& client) {
  const absl::StatusOr<CacheStatistics> statistics = client.cache().GetStatistics();
  if (!statistics.ok()) return {FromStatus("cache", statistics.status())};
  std::vector<Check> checks = {{"cache", Verdict::kOk,
                                absl::StrCat(statistics->path, ", ", FormatCount(statistics->entries),
                                             " entries, ", FormatBytes(statistics->disk_bytes)),
                                ""}};
  if (statistics->healed > 0) {
    checks[0].verdict = Verdict::kWarning;
    checks[0].help = absl::StrCat(FormatCount(statistics->healed),
                                  " damaged artifacts were found and made anew: check the disk");
  }
  struct statvfs disk;
  if (statvfs(statistics->path.c_str(), &disk) == 0) {
    const uint64_t free_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    checks.push_back({"disk", free_bytes < kLowDiskBytes ? Verdict::kWarning : Verdict::kOk,
                      absl::StrCat(FormatBytes(free_bytes), " free for the cache"),
                      free_bytes < kLowDiskBytes ? "a toolchain alone takes 1 GiB: make room" : ""});
  }
  return checks;
}

Check CheckSystem() {
  struct utsname name;
  if (uname(&name) != 0) return {"system", Verdict::kWarning, "unknown", ""};
  return {"system", Verdict::kOk,
          absl::StrCat(name.sysname, " ", name.release, " ", name.machine, ", ",
                       sysconf(_SC_NPROCESSORS_ONLN), " CPUs"),
          ""};
}

absl::StatusOr<int> Doctor(Invocation& invocation) {
  std::vector<Check> checks = {CheckSystem(), CheckDriver("/"), CheckRuntimeFolder(invocation), CheckTrund()};
  {
    Progress progress(invocation.console, "checking");
    const absl::StatusOr<Client> client = invocation.Connect();
    const absl::StatusOr<ServerInfo> info = client.ok() ? client->GetServerInfo() : client.status();
    if (!info.ok()) {
      checks.push_back(FromStatus("daemon", info.status()));
    } else {
      checks.push_back(CheckVersions(*info));
      for (const auto& check_group : {CheckDevices, CheckToolchains, CheckCache}) {
        for (Check& check : check_group(*client)) checks.push_back(std::move(check));
      }
    }
  }
  bool bad = false;
  for (const Check& check : checks) bad = bad || check.verdict == Verdict::kBad;
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["ok"] = !bad;
    json["checks"] = nlohmann::ordered_json::array();
    for (const Check& check : checks) {
      static constexpr const char* kVerdicts[] = {"ok", "warning", "bad"};
      json["checks"].push_back({{"name", check.name},
                                {"verdict", kVerdicts[static_cast<int>(check.verdict)]},
                                {"found", check.found},
                                {"help", check.help}});
    }
    invocation.console.PrintJson(json);
  } else {
    const bool color = invocation.console.output_color();
    for (const Check& check : checks) {
      static constexpr const char* kMarks[] = {"ok  ", "warn", "BAD "};
      static constexpr const char* kColors[] = {"\x1b[32m", "\x1b[33m", "\x1b[1;31m"};
      const int verdict = static_cast<int>(check.verdict);
      invocation.console.Print(absl::StrCat(color ? kColors[verdict] : "", kMarks[verdict],
                                            color ? "\x1b[0m" : "", "  ", check.name, ": ",
                                            Printable(check.found), "\n"));
      if (!check.help.empty()) invocation.console.Print(absl::StrCat("      help: ", check.help, "\n"));
    }
    invocation.console.Print(bad ? "something is wrong: see above\n" : "all good\n");
  }
  return bad ? kExitUnavailable : kExitOk;
}

}  // namespace

void AddDoctor(CLI::App& root, CommandTree& tree) {
  CLI::App* command =
      root.add_subcommand("doctor", "Check daemon, devices, toolchains and cache, and say what to do");
  command->footer("Exit code 6 when something is wrong.\n");
  tree.commands.push_back({command, Doctor});
}

}  // namespace trun::cli
