// From the spelling of a type at some level to a kernel argument. Pure functions, thread-safe.
#ifndef TRUN_SERVER_ARTIFACT_ARGUMENT_TYPES_H_
#define TRUN_SERVER_ARTIFACT_ARGUMENT_TYPES_H_

#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/ir/kernel.h"
#include "server/artifact/cubin_facts.h"
#include "server/artifact/llir_facts.h"
#include "server/artifact/ptx_facts.h"

namespace trun {

inline constexpr uint32_t kTensorMapBytes = 128;  // a CUtensorMap passed by value

// "!tt.ptr<f16>", "i32", "!tt.tensordesc<tensor<64x64xf16, #shared>>": kind, type, bytes, descriptor type.
// nullopt: no launch can pass a value of that type.
std::optional<KernelArgument> ArgumentOfMlirType(absl::string_view type);

std::optional<KernelArgument> ArgumentOfLlirParameter(const LlirParameter& parameter);

// `declares_pointers`: the file marks pointers with .ptr, so that a 64-bit parameter without it is a scalar.
KernelArgument ArgumentOfPtxParameter(const PtxParameter& parameter, bool declares_pointers);
KernelArgument ArgumentOfCubinParameter(const CubinParameter& parameter, bool declares_pointers);

// Rank of the tensor of a descriptor_type such as "fp16[64, 64]", or "fp16[64, 64], input_rank=4" of im2col
// mode; 0 for "", and where it is not known.
int DescriptorRank(absl::string_view descriptor_type);

// Drops the rank × i32 and rank × i64 that follow each tensor descriptor: they are part of it. A descriptor
// without a descriptor_type has as many dimensions as 32-bit parameters follow it. Where they do not follow,
// nothing is dropped.
std::vector<KernelArgument> FoldTensorDescriptors(std::vector<KernelArgument> arguments);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_ARGUMENT_TYPES_H_
