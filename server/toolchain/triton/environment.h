// A Python environment on disk that holds a Triton: found and identified without running it.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_ENVIRONMENT_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_ENVIRONMENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct TritonEnvironment {
  std::string path;                // the environment's folder
  std::string python;              // its interpreter
  std::string triton;              // the package's folder
  std::string version;             // Triton's
  std::vector<std::string> ptxas;  // every ptxas of the wheel
  std::string digest;              // hex, of every file of the package but byte code
};

// `path` is the environment's folder or its python. Reads only. FAILED_PRECONDITION kToolchainBroken: no
// Python, no Triton, or a file of it missing.
//
// The digest is over (relative path, SHA-256) of the files, sorted by path. A file's SHA-256 is taken from
// the wheel's RECORD where the size is RECORD's and the file is not newer than RECORD (pip writes it last);
// anything else is read and hashed. So the digest is the same for one wheel on every machine, and changes
// when somebody edits the package.
absl::StatusOr<TritonEnvironment> InspectEnvironment(absl::string_view path);

// "12.8.93" of each ptxas, by running it with --version. FAILED_PRECONDITION kToolchainBroken.
absl::StatusOr<std::vector<std::string>> PtxasVersions(const TritonEnvironment& environment);

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_ENVIRONMENT_H_
