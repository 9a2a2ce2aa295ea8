#include "server/compile/kernel_reading.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/ir/amd_target.h"
#include "server/artifact/metadata.h"
#include "server/artifact/metadata_json.h"
#include "server/artifact/signature.h"

namespace trun {
namespace {

// Only these tell more than the file a device loads.
bool HasTypes(Level level) { return level == Level::kTtir || level == Level::kTtgir; }

absl::StatusOr<CompiledKernel> ReadAmdKernel(const KernelSource& source, absl::string_view metadata_json,
                                             absl::string_view kernel_name) {
  CompiledKernel kernel;
  TRUN_ASSIGN_OR_RETURN(const MetadataJson json, MetadataJson::Parse(metadata_json));
  if (HasTypes(source.level)) {
    TRUN_ASSIGN_OR_RETURN(kernel.signature, ReadSignature(source.level, source.bytes, kernel_name));
  }
  TRUN_ASSIGN_OR_RETURN(const std::optional<std::string> name, json.String("name"));
  if (name.has_value()) kernel.signature.name = *name;
  kernel.metadata.name = kernel.signature.name;
  kernel.metadata.target = source.target;
  kernel.metadata.warp_size = source.target.warp_size;
  TRUN_ASSIGN_OR_RETURN(const std::optional<int64_t> warps, json.Integer("num_warps", 1, 32));
  kernel.metadata.num_warps = static_cast<int>(warps.value_or(0));
  TRUN_ASSIGN_OR_RETURN(const std::optional<int64_t> shared, json.Integer("shared", 0, int64_t{1} << 20));
  kernel.metadata.shared_bytes = static_cast<uint32_t>(shared.value_or(0));
  TRUN_ASSIGN_OR_RETURN(const std::optional<std::string> version, json.String("triton_version"));
  kernel.metadata.triton_version = version.value_or("");
  kernel.metadata.raw_json = json.Canonical();
  return kernel;
}

}  // namespace

absl::StatusOr<CompiledKernel> ReadKernel(const KernelSource& source, Level last_level, std::string last,
                                          absl::string_view metadata_json, absl::string_view kernel_name) {
  CompiledKernel kernel;
  if (IsAmd(source.target)) {
    TRUN_ASSIGN_OR_RETURN(kernel, ReadAmdKernel(source, metadata_json, kernel_name));
  } else {
    TRUN_ASSIGN_OR_RETURN(kernel.metadata, ReadMetadata(metadata_json, last_level, last, kernel_name));
    std::optional<int> hidden = HiddenParameters(kernel.metadata);
    // Written by hand, or by no Triton that is known: a cubin does not tell, but what it was made from does.
    if (!hidden.has_value() && last_level == Level::kCubin &&
        (source.level == Level::kPtx || source.level == Level::kLlir)) {
      TRUN_ASSIGN_OR_RETURN(hidden, CountHiddenParameters(source.level, source.bytes, kernel_name));
    }
    TRUN_ASSIGN_OR_RETURN(kernel.signature, ReadSignature(last_level, last, kernel_name, hidden));
    if (last_level != source.level && HasTypes(source.level)) {
      const absl::StatusOr<KernelSignature> upper = ReadSignature(source.level, source.bytes, kernel_name);
      // In the middle of the stage to LLIR a function is no tt.func any more, and the last level has to do.
      if (!upper.ok() && !source.is_after_pass) return upper.status();
      if (upper.ok()) {
        TRUN_ASSIGN_OR_RETURN(kernel.signature, MergeSignatures(*upper, kernel.signature));
      }
    }
  }
  kernel.artifacts[last_level] = Artifact{last_level, std::move(last)};
  return kernel;
}

}  // namespace trun
