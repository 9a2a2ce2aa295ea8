// The exit codes of trun-client: documented in --help and docs/cli.md, never renumbered.
#ifndef TRUN_CLIENT_CLI_EXIT_CODE_H_
#define TRUN_CLIENT_CLI_EXIT_CODE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trun::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitMismatch = 1,       // the numbers are not the expected ones
  kExitUsage = 2,          // the command line is not one
  kExitBadInput = 3,       // a file, argument, name or handle is wrong
  kExitCompileFailed = 4,  // the toolchain refused, died, or ran out of time or memory
  kExitKernelFault = 5,    // the kernel stopped: illegal address, assert, hang, ...
  kExitUnavailable = 6,    // no daemon, or it or a process of its own ended
  kExitLimit = 7,          // a quota, a size limit, or memory
  kExitInternal = 70,      // a bug in trun
};

// kExitOk for OK. By the reason where there is one, else by the code. Thread-safe.
ExitCode ExitCodeFor(const absl::Status& status);

// One line a code, for --help.
absl::string_view ExitCodeHelp();

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_EXIT_CODE_H_
