// Installs a Triton version from the package index into a fresh virtual environment.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_INSTALLER_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_INSTALLER_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

struct InstallRequest {
  std::string python;   // the interpreter the environment is made from
  std::string folder;   // where toolchains lie; the new one becomes FOLDER/VERSION
  std::string version;  // Triton's, checked
};

// Blocks; `on_progress` is called from the calling thread. The environment is built beside its place and
// renamed into it, so that a half-made one is never seen. INVALID_ARGUMENT kArgument: no such version.
// UNAVAILABLE kUnavailable: the index cannot be reached. FAILED_PRECONDITION kToolchainBroken: python cannot
// make environments. RESOURCE_EXHAUSTED kOutOfMemory: the disk is full.
absl::Status InstallTriton(const InstallRequest& request,
                           const std::function<void(const ToolchainProgress&)>& on_progress);

// The status for the output of a pip that failed.
absl::Status StatusOfPip(absl::string_view version, absl::string_view output);

// What pip's output so far says: the step, and how large the download is.
struct PipState {
  std::string step;
  double download_bytes = 0;  // of the wheel being downloaded; 0 before that
  bool installing = false;    // everything was downloaded
};
PipState ParsePipOutput(absl::string_view output);

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_INSTALLER_H_
