// What is known beforehand of which Triton can compile what: the part that need not be tried in a worker.
// docs/compatibility.md shows it as tables; tests/integration/test_versions.py holds the two against what the
// compilers do. Pure functions, thread-safe.
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

// What a file shows of the Tritons that can read it.
struct FileTraits {
  bool has_triton_gpu = false;  // TTGIR of the dialect's first name
  bool has_ttg = false;         // and of its second one
  bool has_tlx = false;
  bool has_dot = false;
  bool has_descriptors = false;
  bool has_block_pointers = false;
  int ptx_version = 0;  // ten times that of a PTX file; 0 where it names none
};

// The only one here that is linear in the size of the file, which is untrusted: a request looks once.
FileTraits TraitsOf(Level level, absl::string_view ir);

// Why this Triton cannot read a file: a dialect or an operation that it lacks, or a PTX version that its
// ptxas does not know. Empty as above.
std::string FileObstacle(const ToolchainInfo& info, const FileTraits& file, const Target& target);

// The newest release that nothing is known against: "3.2.0". Empty where there is none.
std::string ReleaseFor(const FileTraits& file, const Target& target);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_COMPATIBILITY_H_
