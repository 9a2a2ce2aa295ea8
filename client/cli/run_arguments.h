// The words of a command line that say what a kernel is run on: of `run`, and of `matrix`.
#ifndef TRUN_CLIENT_CLI_RUN_ARGUMENTS_H_
#define TRUN_CLIENT_CLI_RUN_ARGUMENTS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "client/cli/arg_spec.h"

namespace trun::cli {

struct RunArguments {
  std::vector<std::string> args, outs, lets, im2cols;
  std::string grid = "1";

  void AddTo(CLI::App& command);
  // INVALID_ARGUMENT kArgument that names the option.
  absl::StatusOr<std::vector<ArgSpec>> Specs() const;
  // --im2col, into the specs that they name.
  absl::Status AddIm2cols(std::vector<ArgSpec>* specs) const;
  absl::StatusOr<Variables> Lets() const;
};

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_RUN_ARGUMENTS_H_
