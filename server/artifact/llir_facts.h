// What the text of an LLVM module made by Triton declares: its kernels and their parameters.
// Form: LLVM Language Reference ("Functions", "Parameter Attributes") and the NVPTX guide (kernel
// annotations).
#ifndef TRUN_SERVER_ARTIFACT_LLIR_FACTS_H_
#define TRUN_SERVER_ARTIFACT_LLIR_FACTS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct LlirParameter {
  std::string name;             // empty for %0, %1
  std::string type;             // "ptr", "i32", "half", ...
  uint32_t by_value_bytes = 0;  // ptr byval([128 x i8]): a tensor map
  bool is_pointer = false;
  bool is_unread = false;  // LLVM proved it: readnone on a pointer
};

struct LlirKernel {
  std::string name;
  uint32_t line = 0;
  std::vector<LlirParameter> parameters;
  std::array<uint32_t, 3> required_block = {0, 0, 0};  // nvvm.reqntid; 0 where absent
  std::array<uint32_t, 3> max_block = {0, 0, 0};       // nvvm.maxntid; 0 where absent
  bool block_is_annotated = false;                     // !nvvm.annotations has the block: up to Triton 3.3
};

struct LlirFacts {
  std::vector<LlirKernel> kernels;
  bool has_kernel_convention = false;  // ptx_kernel instead of !nvvm.annotations: Triton 3.3 on
  bool uses_dynamic_shared = false;    // an external addrspace(3) global
};

// Thread-safe; linear in the size of `text`, which is untrusted.
// INVALID_ARGUMENT kInvalidIr (details: line): the head of a function does not parse.
absl::StatusOr<LlirFacts> ReadLlirFacts(absl::string_view text);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_LLIR_FACTS_H_
