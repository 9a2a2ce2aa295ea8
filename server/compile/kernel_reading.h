// From the files of a compile to what a launch needs of them.
#ifndef TRUN_SERVER_COMPILE_KERNEL_READING_H_
#define TRUN_SERVER_COMPILE_KERNEL_READING_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"

namespace trun {

// Signature and metadata of the kernel whose file of `last_level` is `last`; names and types come from its
// source where that tells more. The result holds `last` as its artifact. Errors: those of ReadSignature,
// ReadMetadata, MergeSignatures.
absl::StatusOr<CompiledKernel> ReadKernel(Level source_level, absl::string_view source, Level last_level,
                                          std::string last, absl::string_view metadata_json,
                                          absl::string_view kernel_name);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_KERNEL_READING_H_
