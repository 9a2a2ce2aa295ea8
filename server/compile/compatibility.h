// What is known beforehand of which Triton can compile what: the part that need not be tried in a worker.
// docs/compatibility.md shows it as tables; tests/integration/test_versions.py holds the two against what the
// compilers do. Pure functions, thread-safe, linear in the size of the file, which is untrusted.
#ifndef TRUN_SERVER_COMPILE_COMPATIBILITY_H_
#define TRUN_SERVER_COMPILE_COMPATIBILITY_H_

#include <string>

#include "absl/strings/string_view.h"
#include "common/ir/level.h"
#include "common/ir/target.h"
#include "server/toolchain/toolchain.h"

namespace trun {

// Why this Triton cannot generate code for a target; empty where nothing is known against it. Where a version
// is unknown or not of a release (an adopted fork), nothing is.
std::string TargetObstacle(const ToolchainInfo& info, const Target& target);

// Why this Triton cannot read a file of `level`: a dialect or an operation that it lacks, or a PTX version
// that its ptxas does not know. Empty as above.
std::string FileObstacle(const ToolchainInfo& info, Level level, absl::string_view ir, const Target& target);

// The newest release that nothing is known against: "3.2.0". Empty where there is none.
std::string ReleaseFor(Level level, absl::string_view ir, const Target& target);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_COMPATIBILITY_H_
