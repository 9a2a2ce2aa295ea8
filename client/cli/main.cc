#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

Console::Color ColorOf(const std::string& name) {
  return name == "always"  ? Console::Color::kAlways
         : name == "never" ? Console::Color::kNever
                           : Console::Color::kAuto;
}

// A program that asked for JSON gets JSON, even for a command line that did not parse.
bool AsksForJson(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (absl::string_view(argv[i]) == "--json") return true;
  }
  return false;
}

int UsageError(const CLI::App& root, const CLI::ParseError& error, bool json) {
  Console console;
  if (json) {
    nlohmann::ordered_json body = {{"code", "USAGE"},
                                   {"reason", "USAGE"},
                                   {"message", error.what()},
                                   {"exit_code", static_cast<int>(kExitUsage)}};
    console.PrintJson({{"error", body}});
    return kExitUsage;
  }
  const CLI::App* where = &root;
  while (!where->get_subcommands().empty()) where = where->get_subcommands().front();
  std::string name = where->get_name();
  for (const CLI::App* up = where->get_parent(); up != nullptr; up = up->get_parent())
    name = up->get_name() + " " + name;
  console.PrintError(std::string("error: ") + error.what() + "\nhelp: '" + name +
                     " --help' shows the options, with examples\n");
  return kExitUsage;
}

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App root("", "trun-client");
  CommandTree tree;
  AddAll(root, tree);
  try {
    root.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return root.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return root.exit(help);
  } catch (const CLI::ParseError& error) {
    return UsageError(root, error, AsksForJson(argc, argv));
  }

  Console console(ColorOf(tree.options.color));
  for (const Command& command : tree.commands) {
    if (!command.app->parsed()) continue;
    Invocation invocation{tree.options, console, {}};
    const absl::StatusOr<int> result = command.run(invocation);
    int code = kExitOk;
    if (result.ok()) {
      code = *result;
    } else {
      code = ExitCodeFor(result.status());
      if (tree.options.json) {
        console.PrintJson(DiagnosticJson(result.status(), invocation.diagnostic));
      } else {
        console.PrintError(RenderDiagnostic(result.status(), invocation.diagnostic, console.error_color()));
      }
    }
    // A result that could not be written must not look like one that was. A reader that left early (`| head`)
    // has seen what it wanted.
    const int written = console.Flush();
    if (written != 0 && written != EPIPE && code == kExitOk) {
      console.PrintError(
          absl::StrCat("error: cannot write to standard output: ", std::strerror(written), "\n"));
      code = kExitBadInput;
    }
    return code;
  }
  return kExitUsage;
}

}  // namespace
}  // namespace trun::cli

int main(int argc, char** argv) { return trun::cli::Main(argc, argv); }
