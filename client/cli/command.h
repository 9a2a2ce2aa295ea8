// What a subcommand is, and what all of them share.
#ifndef TRUN_CLIENT_CLI_COMMAND_H_
#define TRUN_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "client/cli/console.h"
#include "client/cli/diagnostic.h"
#include "trun/client.h"

namespace trun::cli {

// Options that every subcommand has, filled by the parser before a subcommand runs.
struct GlobalOptions {
  bool json = false;
  std::string address;
  bool no_start = false;
  std::string color = "auto";
};

// One run of the program. Thread-compatible.
struct Invocation {
  const GlobalOptions& options;
  Console& console;
  DiagnosticContext diagnostic;  // filled by a command as it learns what an error may be about

  // Connects as the global options say. Shows progress while a daemon starts.
  absl::StatusOr<Client> Connect() const;
};

// A leaf of the command tree. Run returns the exit code, or the error that main shows.
struct Command {
  const CLI::App* app;
  std::function<absl::StatusOr<int>(Invocation&)> run;
};

// The whole tree. Commands keep what the parser fills alive as long as they are.
struct CommandTree {
  GlobalOptions options;
  std::vector<Command> commands;
};

// One function per file, named after the subcommand: adds it to `root` and its leaves to `tree`.
void AddRun(CLI::App& root, CommandTree& tree);
void AddCompile(CLI::App& root, CommandTree& tree);
void AddMatrix(CLI::App& root, CommandTree& tree);
void AddDevices(CLI::App& root, CommandTree& tree);
void AddToolchains(CLI::App& root, CommandTree& tree);
void AddCache(CLI::App& root, CommandTree& tree);
void AddSessions(CLI::App& root, CommandTree& tree);
void AddDaemon(CLI::App& root, CommandTree& tree);
void AddDoctor(CLI::App& root, CommandTree& tree);
void AddVersion(CLI::App& root, CommandTree& tree);
void AddCompletion(CLI::App& root, CommandTree& tree);

// The program's own options and every subcommand.
void AddAll(CLI::App& root, CommandTree& tree);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_COMMAND_H_
