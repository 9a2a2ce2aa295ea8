// What an operator can set: flags, or the same names in one configuration file. docs/operations.md lists
// them.
#ifndef TRUN_SERVER_MAIN_SERVER_OPTIONS_H_
#define TRUN_SERVER_MAIN_SERVER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/telemetry/log.h"

namespace trun {

// Every default is safe for a shared box. Plain.
struct ServerOptions {
  std::string socket;     // empty: DaemonSocketPath()
  std::string cache_dir;  // empty: $XDG_CACHE_HOME/trun or ~/.cache/trun
  uint64_t cache_limit = uint64_t{10} << 30;
  std::vector<std::string>
      toolchain_dirs;  // empty: $XDG_DATA_HOME/trun/toolchains; TRUN_TOOLCHAINS_DIR's are added
  std::string python = "/usr/bin/python3";
  std::string executor;                         // empty: trun-executor beside this binary
  std::vector<int> emulators = {80, 90};        // one device each: emulator:0, emulator:1, …
  int emulator_threads = 0;                     // 0: one per core
  std::vector<std::string> devices = {"auto"};  // auto, cuda, emulator, or GPUs by name: cuda:0, …
  std::string libcuda;                          // the driver's library; empty: the system's
  uint32_t max_sessions = 256;
  uint64_t memory_limit = 0;  // of a tenant's tensors; 0: half of the host's memory
  int compile_workers = 0;    // of each toolchain; 0: one per core
  uint64_t compile_memory = uint64_t{8} << 30;
  absl::Duration compile_deadline = absl::Seconds(120);
  bool allow_unconfined_frontend = false;
  bool private_daemon = false;
  absl::Duration idle_timeout = absl::Minutes(10);
  std::string log_file;  // empty: stderr
  LogLevel log_level = LogLevel::kInfo;
  std::string metrics_file;  // empty: none
  absl::Duration drain_deadline = absl::Seconds(10);
  int ready_fd = -1;  // one byte is written there when the daemon serves
};

// The exit code of a run that ends before it starts: --help, --version, a wrong flag (already told on the
// terminal).
struct ExitNow {
  int code = 0;
};

std::variant<ServerOptions, ExitNow> ParseServerOptions(int argc, char** argv);

// Fills what is empty from the environment, and makes the folders. FAILED_PRECONDITION kNotPermitted,
// INVALID_ARGUMENT kArgument (a socket path that is too long, no home folder, no executor).
absl::Status ResolveServerOptions(ServerOptions& options);

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_SERVER_OPTIONS_H_
