// From the files of a compile to what a launch needs of them.
#ifndef TRUN_SERVER_COMPILE_KERNEL_READING_H_
#define TRUN_SERVER_COMPILE_KERNEL_READING_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"
#include "common/ir/target.h"

namespace trun {

// What a compile started from.
struct KernelSource {
  Level level = Level::kUnspecified;
  absl::string_view bytes;
  Target target;
  bool is_after_pass = false;  // what a pass left behind: it may be half-way to the next level
};

// Signature and metadata of the kernel whose file of `last_level` is `last`; names and types come from its
// source where that tells more. The result holds `last` as its artifact. Of a kernel for an AMD target, which
// nothing here launches, only what its source says is read. Errors: those of ReadSignature, ReadMetadata,
// MergeSignatures.
absl::StatusOr<CompiledKernel> ReadKernel(const KernelSource& source, Level last_level, std::string last,
                                          absl::string_view metadata_json, absl::string_view kernel_name);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_KERNEL_READING_H_
