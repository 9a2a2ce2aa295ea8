// A kernel in a Python file, "kernels.py:softmax": its parameters, and the source bundle that is sent for it
// (docs/formats/source-bundle.md). The file is not run here; the daemon's front end does that, confined.
#ifndef TRUN_CLIENT_CLI_PYTHON_KERNEL_H_
#define TRUN_CLIENT_CLI_PYTHON_KERNEL_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/arg_spec.h"
#include "nlohmann/json_fwd.hpp"
#include "trun/kernel.h"

namespace trun::cli {

struct PythonParameter {
  std::string name;
  bool is_constexpr = false;
  std::string default_text;  // as it stands in the file; empty: none
};

struct PythonKernel {
  std::string file;
  std::string text;  // of the file
  std::string function;
  bool is_gluon = false;
  std::vector<PythonParameter> parameters;

  const PythonParameter* Find(absl::string_view name) const;  // by name, or by position; null: none
};

// "FILE.py:FUNCTION" in its two parts; nothing for any other path.
std::optional<std::pair<std::string, std::string>> SplitPythonKernel(absl::string_view path);
// Finds the function's header in the text. INVALID_ARGUMENT kInvalidIr: there is none, or it does not end.
absl::StatusOr<PythonKernel> ParsePythonKernel(const std::string& file, const std::string& function,
                                               std::string text);

// One launch's arguments, specialised as Triton does it.
struct PythonArguments {
  std::string bundle;
  std::vector<ArgSpec> specs;      // of what the compiled kernel takes, in its order
  std::vector<std::string> names;  // theirs
  Variables constants;             // whole numbers that were compiled in: for the grid's expressions
};

// From --arg and --out of `run`: NAME=VALUE each, a constexpr's value as Python writes it (64, True, "text",
// tl.float32). INVALID_ARGUMENT kArgument: missing, unknown or given twice; see client/cli/arg_spec.h.
absl::StatusOr<PythonArguments> SpecialiseArguments(const PythonKernel& kernel,
                                                    const std::vector<std::string>& arguments,
                                                    const std::vector<std::string>& outputs,
                                                    const Variables& given);

// From --signature of `compile`: a type or value for each parameter in order, "*f32:16, *f32, i32:16, 64";
// ":16" says that it is a multiple of 16. INVALID_ARGUMENT kArgument.
absl::StatusOr<std::string> BundleOfSignature(const PythonKernel& kernel, absl::string_view signature);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_PYTHON_KERNEL_H_
