// trund: the daemon. docs/operations.md.
#include <fcntl.h>
#include <signal.h>

#include <iostream>

#include "common/telemetry/log.h"
#include "server/main/server.h"
#include "server/main/server_options.h"

namespace trun {
namespace {

constexpr int kExitCannotStart = 1;

// stderr too: whoever started the daemon looks there, and the log may not be open yet.
int Fail(const absl::Status& status) {
  LogError(status.message());
  std::cerr << "trund: " << status.message() << std::endl;
  return kExitCannotStart;
}

int Main(int argc, char** argv) {
  // Before any thread starts, so that all inherit it: signals are read from a descriptor.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);

  std::variant<ServerOptions, ExitNow> parsed = ParseServerOptions(argc, argv);
  if (const ExitNow* exit = std::get_if<ExitNow>(&parsed)) return exit->code;
  ServerOptions& options = std::get<ServerOptions>(parsed);
  if (options.ready_fd >= 0 && fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC) != 0) {
    std::cerr << "trund: --ready-fd names no open descriptor" << std::endl;
    return 2;
  }
  const absl::Status resolved = ResolveServerOptions(options);
  if (!resolved.ok()) return Fail(resolved);
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(options);
  if (!server.ok()) return Fail(server.status());
  (*server)->Run();
  server->reset();
  LogInfo("ended");
  FlushLog();
  return 0;
}

}  // namespace
}  // namespace trun

int main(int argc, char** argv) { return trun::Main(argc, argv); }
