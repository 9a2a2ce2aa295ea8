#include <filesystem>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

nlohmann::ordered_json ToolchainJson(const ToolchainInfo& toolchain) {
  return {{"name", toolchain.name},
          {"version", toolchain.version},
          {"id", toolchain.id},
          {"path", toolchain.path},
          {"adopted", toolchain.adopted},
          {"usable", toolchain.unusable_reason.empty()},
          {"unusable_reason", toolchain.unusable_reason},
          {"warm_workers", toolchain.warm_workers},
          {"busy_workers", toolchain.busy_workers},
          {"ptxas_versions", toolchain.ptxas_versions}};
}

absl::StatusOr<int> List(Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  TRUN_ASSIGN_OR_RETURN(const std::vector<ToolchainInfo> toolchains, client.toolchains().List());
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["toolchains"] = nlohmann::ordered_json::array();
    for (const ToolchainInfo& toolchain : toolchains) json["toolchains"].push_back(ToolchainJson(toolchain));
    invocation.console.PrintJson(json);
    return kExitOk;
  }
  if (toolchains.empty()) {
    invocation.console.Print("no toolchains yet: 'trun-client toolchains install 3.9.0' installs one\n");
    return kExitOk;
  }
  Table table({"name", "triton", "workers", "ptxas", "path", "state"});
  for (const ToolchainInfo& toolchain : toolchains) {
    table.AddRow({toolchain.name, toolchain.version,
                  absl::StrCat(toolchain.warm_workers, " warm, ", toolchain.busy_workers, " busy"),
                  absl::StrJoin(toolchain.ptxas_versions, ", "), toolchain.path,
                  !toolchain.unusable_reason.empty() ? absl::StrCat("unusable: ", toolchain.unusable_reason)
                  : toolchain.adopted                ? "adopted"
                                                     : "installed"});
  }
  invocation.console.Print(table.Render());
  return kExitOk;
}

absl::StatusOr<int> ReportOne(const ToolchainInfo& toolchain, absl::string_view what,
                              Invocation& invocation) {
  if (invocation.options.json) {
    invocation.console.PrintJson({{"toolchain", ToolchainJson(toolchain)}});
  } else {
    invocation.console.Print(absl::StrCat(what, " ", toolchain.name, " (Triton ", toolchain.version, ") at ",
                                          Printable(toolchain.path), "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Install(const std::string& version, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  absl::StatusOr<ToolchainInfo> installed = absl::UnknownError("");
  {
    Progress progress(invocation.console, absl::StrCat("installing ", version));
    installed = client.toolchains().Install(
        version, [&progress](absl::string_view step, double fraction) { progress.Update(step, fraction); });
  }
  TRUN_RETURN_IF_ERROR(installed.status());
  return ReportOne(*installed, "installed", invocation);
}

absl::StatusOr<int> Adopt(const std::string& python, const std::string& name, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(python, error).lexically_normal().string();
  absl::StatusOr<ToolchainInfo> adopted = absl::UnknownError("");
  {
    const Progress progress(invocation.console, "looking at the environment");
    adopted = client.toolchains().Adopt(error ? python : absolute, name);
  }
  TRUN_RETURN_IF_ERROR(adopted.status());
  return ReportOne(*adopted, "adopted", invocation);
}

absl::StatusOr<int> Remove(const std::string& name, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  TRUN_RETURN_IF_ERROR(client.toolchains().Remove(name));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"removed", name}});
  } else {
    invocation.console.Print(absl::StrCat("removed ", name, "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Options(const std::string& name, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
  absl::StatusOr<std::vector<CompileOptionInfo>> described = absl::UnknownError("");
  {
    const Progress progress(invocation.console, "asking the toolchain");
    described = client.toolchains().DescribeOptions(name);
  }
  TRUN_ASSIGN_OR_RETURN(const std::vector<CompileOptionInfo> options, std::move(described));
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["toolchain"] = name;
    json["options"] = nlohmann::ordered_json::array();
    for (const CompileOptionInfo& option : options) {
      // The default is the toolchain's own word: text that is no JSON stays text.
      const auto value = nlohmann::ordered_json::parse(option.default_json, nullptr, false);
      json["options"].push_back(
          {{"name", option.name},
           {"type", option.type},
           {"default", value.is_discarded() ? nlohmann::ordered_json(option.default_json) : value}});
    }
    invocation.console.PrintJson(json);
    return kExitOk;
  }
  Table table({"option", "type", "default"});
  for (const CompileOptionInfo& option : options)
    table.AddRow({option.name, option.type, option.default_json});
  invocation.console.Print(table.Render());
  return kExitOk;
}

}  // namespace

void AddToolchains(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("toolchains", "Install, adopt, list and remove Triton versions");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  trun-client toolchains install 3.6.0\n"
      "  trun-client toolchains adopt ~/venvs/triton --name mine\n"
      "  trun-client toolchains options 3.9.0\n");

  CLI::App* list = command->add_subcommand("list", "Every toolchain, usable or not");
  tree.commands.push_back({list, List});

  CLI::App* install = command->add_subcommand("install", "Install a Triton version from the package index");
  auto version = std::make_shared<std::string>();
  install->add_option("version", *version, "Such as 3.6.0")->required();
  tree.commands.push_back(
      {install, [version](Invocation& invocation) { return Install(*version, invocation); }});

  CLI::App* adopt =
      command->add_subcommand("adopt", "Use an existing Python environment; it is never changed");
  auto python = std::make_shared<std::string>();
  auto adopt_name = std::make_shared<std::string>();
  adopt->add_option("python", *python, "The environment's folder, or its python")->required();
  adopt->add_option("--name", *adopt_name, "What to call it; else its Triton's version");
  tree.commands.push_back({adopt, [python, adopt_name](Invocation& invocation) {
                             return Adopt(*python, *adopt_name, invocation);
                           }});

  CLI::App* remove =
      command->add_subcommand("remove", "Forget a toolchain, and delete it where trun installed it");
  auto remove_name = std::make_shared<std::string>();
  remove->add_option("name", *remove_name, "Its name in the list")->required();
  tree.commands.push_back(
      {remove, [remove_name](Invocation& invocation) { return Remove(*remove_name, invocation); }});

  CLI::App* options =
      command->add_subcommand("options", "Every compile option of a toolchain with its default");
  auto options_name = std::make_shared<std::string>();
  options->add_option("name", *options_name, "Its name in the list")->required();
  tree.commands.push_back(
      {options, [options_name](Invocation& invocation) { return Options(*options_name, invocation); }});
}

}  // namespace trun::cli
