#include "client/cli/command.h"

#include "client/cli/exit_code.h"
#include "client/cli/progress.h"

namespace trun::cli {

absl::StatusOr<Client> Invocation::Connect() const {
  ClientOptions connect;
  connect.address = options.address;
  connect.start_daemon = !options.no_start;
  connect.name = "trun-client";
  const Progress progress(console, "waiting for the daemon");
  return Client::Connect(connect);
}

void AddAll(CLI::App& root, CommandTree& tree) {
  root.description("Compiles, runs and looks after Triton kernels on a trund daemon.");
  root.require_subcommand(1);
  root.fallthrough();
  root.add_flag("--json", tree.options.json, "Print one JSON object instead of text; errors too");
  root.add_option("--address", tree.options.address,
                  "The daemon's socket, unix:/path (else TRUN_ADDRESS, else yours)")
      ->type_name("ADDRESS");
  root.add_flag("--no-start", tree.options.no_start, "Do not start a private daemon when none answers");
  root.add_option("--color", tree.options.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  root.footer(
      std::string("Examples:\n"
                  "  trun-client run add.ttir --arg 'x=f32[4096]:randn(seed=1)' --arg 'y=f32[4096]:ones' \\\n"
                  "      --out 'out=f32[4096]' --arg n=4096 --grid 'cdiv(n,1024)'\n"
                  "  trun-client compile matmul.ttir --to ptx -o out/\n"
                  "  trun-client toolchains install 3.6.0\n"
                  "  trun-client doctor\n\n") +
      std::string(ExitCodeHelp()));
  AddRun(root, tree);
  AddCompile(root, tree);
  AddMatrix(root, tree);
  AddDevices(root, tree);
  AddToolchains(root, tree);
  AddCache(root, tree);
  AddSessions(root, tree);
  AddDaemon(root, tree);
  AddDoctor(root, tree);
  AddVersion(root, tree);
  AddCompletion(root, tree);
}

}  // namespace trun::cli
