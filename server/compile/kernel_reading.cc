#include "server/compile/kernel_reading.h"

#include <utility>

#include "common/base/status.h"
#include "server/artifact/metadata.h"
#include "server/artifact/signature.h"

namespace trun {
namespace {

// Only these tell more than the file a device loads.
bool HasTypes(Level level) { return level == Level::kTtir || level == Level::kTtgir; }

}  // namespace

absl::StatusOr<CompiledKernel> ReadKernel(Level source_level, absl::string_view source, Level last_level,
                                          std::string last, absl::string_view metadata_json,
                                          absl::string_view kernel_name) {
  CompiledKernel kernel;
  TRUN_ASSIGN_OR_RETURN(kernel.metadata, ReadMetadata(metadata_json, last_level, last, kernel_name));
  TRUN_ASSIGN_OR_RETURN(kernel.signature,
                        ReadSignature(last_level, last, kernel_name, HiddenParameters(kernel.metadata)));
  if (last_level != source_level && HasTypes(source_level)) {
    TRUN_ASSIGN_OR_RETURN(const KernelSignature upper, ReadSignature(source_level, source, kernel_name));
    TRUN_ASSIGN_OR_RETURN(kernel.signature, MergeSignatures(upper, kernel.signature));
  }
  kernel.artifacts[last_level] = Artifact{last_level, std::move(last)};
  return kernel;
}

}  // namespace trun
