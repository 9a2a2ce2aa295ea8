// What is known of a compiled kernel: its signature, how it is launched, its artifacts. Plain value types.
#ifndef TRUN_COMMON_IR_KERNEL_H_
#define TRUN_COMMON_IR_KERNEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/ir/level.h"
#include "common/ir/scalar_type.h"
#include "common/ir/target.h"

namespace trun {

// One argument of a kernel as its file declares it.
struct KernelArgument {
  enum class Kind { kPointer, kScalar, kTensorDescriptor };
  std::string name;  // empty where the file has no names (TTIR of Triton 3.4 and before, PTX)
  Kind kind = Kind::kScalar;
  // Of the scalar or the pointee. kUnspecified where the file does not tell (PTX: any pointer is .u64).
  ScalarType type = ScalarType::kUnspecified;
  uint32_t bytes = 0;    // size as a kernel parameter; 8 for pointers
  int divisibility = 1;  // tt.divisibility baked into the code; 16 means the value must be a multiple of 16
  // A tensor descriptor's declared block, "fp16[64, 64]", in im2col mode with the rank of its tensor,
  // "fp16[64, 64], input_rank=4"; empty otherwise.
  std::string descriptor_type;

  friend bool operator==(const KernelArgument&, const KernelArgument&) = default;
};

// The user's arguments in order, hidden ones (scratch) left out.
struct KernelSignature {
  std::string name;  // the entry's symbol
  std::vector<KernelArgument> arguments;

  friend bool operator==(const KernelSignature&, const KernelSignature&) = default;
};

// Launch facts of one kernel: Triton's metadata JSON of any version, made uniform.
// Source of the keys: triton/backends/nvidia/compiler.py and driver.py of each version
// (docs/formats/metadata.md).
struct KernelMetadata {
  std::string name;
  int num_warps = 0;  // of the launched block: ttg.total-num-warps for warp-specialised kernels
  int num_ctas = 1;
  int warp_size = 32;
  uint32_t shared_bytes = 0;  // dynamic shared memory
  int cluster[3] = {1, 1, 1};
  bool cooperative_grid = false;
  bool programmatic_dependent_launch = false;
  uint64_t global_scratch_bytes = 0;  // a program, times num_ctas
  uint32_t global_scratch_align = 1;
  uint64_t profile_scratch_bytes = 0;
  uint32_t profile_scratch_align = 1;
  uint32_t tensor_memory_columns = 0;
  Target target;
  std::string triton_version;  // empty where unknown
  // The JSON as the toolchain wrote it, canonical (sorted keys); "{}" where there was none.
  std::string raw_json = "{}";
};

// One file of a kernel. `bytes` is text for every level but cubin and hsaco.
struct Artifact {
  Level level = Level::kUnspecified;
  std::string bytes;
};

// The result of a compile, from the given level to the asked one.
struct CompiledKernel {
  KernelSignature signature;
  KernelMetadata metadata;
  std::map<Level, Artifact> artifacts;
};

}  // namespace trun

#endif  // TRUN_COMMON_IR_KERNEL_H_
