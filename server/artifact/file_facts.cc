#include "server/artifact/file_facts.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "server/artifact/cubin_facts.h"
#include "server/artifact/entry_choice.h"
#include "server/artifact/llir_facts.h"
#include "server/artifact/mlir_facts.h"
#include "server/artifact/ptx_facts.h"

namespace trun {
namespace {

std::optional<int> Clamped(std::optional<int64_t> value) {
  if (!value.has_value()) return std::nullopt;
  return static_cast<int>(std::clamp<int64_t>(*value, -1, INT32_MAX));
}

absl::StatusOr<FileFacts> OfMlir(absl::string_view bytes, absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(MlirFacts mlir, ReadMlirFacts(bytes));
  std::erase_if(mlir.functions, [](const MlirFunction& function) { return !function.is_public; });
  TRUN_ASSIGN_OR_RETURN(const MlirFunction* function, ChooseEntry(mlir.functions, kernel_name));
  FileFacts facts;
  facts.name = function->name;
  facts.num_warps = Clamped(mlir.integer("num-warps"));
  facts.total_num_warps = Clamped(mlir.integer("total-num-warps"));
  facts.warp_specialized = mlir.warp_specialized;
  facts.num_ctas = Clamped(mlir.integer("num-ctas"));
  facts.shared_bytes = mlir.integer("shared");
  absl::string_view target = mlir.target;
  if (absl::ConsumePrefix(&target, "cuda:") && (!absl::SimpleAtoi(target, &facts.arch) || facts.arch < 10)) {
    facts.arch = 0;
  }
  return facts;
}

absl::StatusOr<FileFacts> OfLlir(absl::string_view bytes, absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(const LlirFacts llir, ReadLlirFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const LlirKernel* kernel, ChooseEntry(llir.kernels, kernel_name));
  FileFacts facts;
  facts.name = kernel->name;
  facts.required_block = kernel->required_block;
  facts.max_block = kernel->max_block;
  facts.no_dynamic_shared = !llir.uses_dynamic_shared;
  return facts;
}

absl::StatusOr<FileFacts> OfPtx(absl::string_view bytes, absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(const PtxFacts ptx, ReadPtxFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const PtxEntry* entry, ChooseEntry(ptx.entries, kernel_name));
  FileFacts facts;
  facts.name = entry->name;
  facts.arch = ptx.arch;
  facts.required_block = entry->required_block;
  facts.max_block = entry->max_block;
  facts.required_cluster = entry->required_cluster;
  facts.no_dynamic_shared = !ptx.uses_dynamic_shared;
  for (const PtxParameter& parameter : entry->parameters)
    facts.parameter_is_read.push_back(parameter.is_read);
  return facts;
}

absl::StatusOr<FileFacts> OfCubin(absl::string_view bytes, absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(const CubinFacts cubin, ReadCubinFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const CubinEntry* entry, ChooseEntry(cubin.entries, kernel_name));
  FileFacts facts;
  facts.name = entry->name;
  facts.arch = cubin.arch;
  facts.required_block = entry->required_block;
  facts.max_block = entry->max_block;
  facts.required_cluster = entry->required_cluster;
  return facts;
}

}  // namespace

absl::StatusOr<FileFacts> ReadFileFacts(Level level, absl::string_view bytes, absl::string_view kernel_name) {
  switch (level) {
    case Level::kTtir:
    case Level::kTtgir:
      return OfMlir(bytes, kernel_name);
    case Level::kLlir:
      return OfLlir(bytes, kernel_name);
    case Level::kPtx:
      return OfPtx(bytes, kernel_name);
    case Level::kCubin:
      return OfCubin(bytes, kernel_name);
    default:
      return InvalidArgument(
          Reason::kUnsupportedLevel,
          absl::StrCat(LevelName(level), " says nothing of a launch; TTIR and later levels do"));
  }
}

}  // namespace trun
