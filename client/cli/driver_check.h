// What `doctor` finds about the GPU driver without asking the daemon: its version and this user's access to
// it.
#ifndef TRUN_CLIENT_CLI_DRIVER_CHECK_H_
#define TRUN_CLIENT_CLI_DRIVER_CHECK_H_

#include <string>

namespace trun::cli {

// One line of `doctor`: what was looked at, what was found there, and what to do about it.
struct Check {
  enum class Verdict { kOk, kWarning, kBad };
  std::string name;
  Verdict verdict = Verdict::kOk;
  std::string found;
  std::string help;  // empty where there is nothing to do
};

// The driver's version from proc/driver/nvidia/version and the rights on dev/nvidia*, under the folder
// `root`:
// "/" but in tests. No driver is no fault (kernels run on the emulator); one that is there and cannot be
// used, or is older than the CUDA 12.0 that the daemon needs, is a warning with its help.
Check CheckDriver(const std::string& root);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_DRIVER_CHECK_H_
