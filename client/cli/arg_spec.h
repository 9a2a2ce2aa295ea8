// The arguments of a kernel as the command line writes them.
//
//   KEY=VALUE   KEY: the argument's name, or its position from 0
//   VALUE       f16[512,256]               a tensor of zeros; the dimensions may be expressions: f32[M, N]
//               f16[512,256]:randn(seed=1) filled by a generator (client/cli/generator.h)
//               @x.npy                     a tensor from a file
//               bf16@x.npy                 the same, its raw elements taken as that type
//               512, 0x10, M*K, 1.5, -inf, true, null   a scalar, an expression over other arguments, or no
//               pointer
#ifndef TRUN_CLIENT_CLI_ARG_SPEC_H_
#define TRUN_CLIENT_CLI_ARG_SPEC_H_

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/expression.h"
#include "client/cli/generator.h"
#include "common/ir/scalar_type.h"
#include "trun/kernel.h"
#include "trun/launch.h"

namespace trun::cli {

struct GeneratedTensor {
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<std::string> dimensions;  // expressions
  Generator generator;
  bool generated = false;  // a generator was given; else zeros
};

struct FileTensor {
  std::string path;
  ScalarType dtype = ScalarType::kUnspecified;  // unspecified: the file's
};

struct FloatScalar {
  double value = 0;
};

struct IntegerScalar {
  std::string expression;
};

struct NullPointer {};

struct ArgSpec {
  std::string text;  // as it was given
  std::string key;
  bool output = false;  // --out: shown after the run
  std::variant<GeneratedTensor, FileTensor, FloatScalar, IntegerScalar, NullPointer> value;
  std::optional<Im2col> im2col;  // --im2col, of a tensor for a descriptor of im2col mode

  bool IsTensor() const {
    return std::holds_alternative<GeneratedTensor>(value) || std::holds_alternative<FileTensor>(value);
  }
};

// INVALID_ARGUMENT kArgument with what is wrong and an example.
absl::StatusOr<ArgSpec> ParseArgSpec(absl::string_view text, bool output);

// "x=-1,-1:-1,-1" or "x=-1,-1:-1,-1:1,2,2,1", the corners of a descriptor in im2col mode and its steps: sets
// them in the spec of that key. INVALID_ARGUMENT kArgument with what is wrong and an example.
absl::Status AddIm2col(absl::string_view text, std::vector<ArgSpec>* specs);

// Which spec is which argument of the kernel: the result has one index into `specs` for each argument.
// INVALID_ARGUMENT kArgument naming every argument that is missing, unknown or given twice, and a tensor
// given for a scalar or the reverse.
absl::StatusOr<std::vector<size_t>> BindArguments(const std::vector<ArgSpec>& specs,
                                                  const std::vector<ArgumentInfo>& arguments);

// The position that a key names. INVALID_ARGUMENT kArgument as above.
absl::StatusOr<size_t> FindArgument(absl::string_view key, const std::vector<ArgumentInfo>& arguments);

// The whole-number scalars by name ("argN" for position N too), and `given` beside them. Expressions may name
// each other in any order. INVALID_ARGUMENT kArgument: a name that is none, or a circle.
absl::StatusOr<Variables> ResolveVariables(const std::vector<ArgSpec>& specs,
                                           const std::vector<size_t>& bound,
                                           const std::vector<ArgumentInfo>& arguments,
                                           const Variables& given);

// "2 'c_ptr' (pointer to f32)": an argument in messages.
std::string DescribeArgument(size_t position, const std::vector<ArgumentInfo>& arguments);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_ARG_SPEC_H_
