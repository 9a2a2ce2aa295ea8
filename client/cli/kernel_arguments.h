// From argument specs to what a launch takes: tensors allocated and filled, numbers resolved.
#ifndef TRUN_CLIENT_CLI_KERNEL_ARGUMENTS_H_
#define TRUN_CLIENT_CLI_KERNEL_ARGUMENTS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/arg_spec.h"
#include "trun/client.h"

namespace trun::cli {

struct TensorArgument {
  size_t position = 0;
  std::string name;  // the kernel's name for it, else its position
  bool output = false;
  bool unwritten = false;  // an output that no generator fills: the kernel is to write it
  TensorSpec spec;
  Tensor tensor;
};

struct KernelArguments {
  std::vector<TensorArgument> tensors;
  std::vector<Argument> launch;  // one for each argument of the kernel
  Variables variables;           // for the grid
  uint64_t uploaded_bytes = 0;

  // The tensor of a position; null where that argument is none.
  const TensorArgument* At(size_t position) const;
};

// Binds, resolves, reads the files, allocates all tensors in one call and uploads what is not zero.
// INVALID_ARGUMENT kArgument: see client/cli/arg_spec.h; plus the statuses of Session::Allocate and
// Tensor::Write.
absl::StatusOr<KernelArguments> MakeArguments(const std::vector<ArgSpec>& specs, const KernelInfo& kernel,
                                              const Variables& given, Session& session);

// --grid as numbers. INVALID_ARGUMENT kLaunchShape.
absl::StatusOr<Grid> ResolveGrid(const std::string& text, const Variables& variables);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_KERNEL_ARGUMENTS_H_
