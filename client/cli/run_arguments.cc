#include "client/cli/run_arguments.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/expression.h"
#include "common/base/status.h"

namespace trun::cli {

void RunArguments::AddTo(CLI::App& command) {
  command.add_option("-a,--arg", args, "An argument, by name or position")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command.add_option("-o,--out", outs, "A tensor to show after the run: c=f32[512,256]")
      ->type_name("NAME=TENSOR")
      ->allow_extra_args(false);
  command
      .add_option("--im2col", im2cols,
                  "Corners of the box of a tensor descriptor in im2col mode, and its steps: x=-1,-1:-1,-1")
      ->type_name("NAME=LOWER:UPPER[:STRIDES]")
      ->allow_extra_args(false);
  command.add_option("-g,--grid", grid, "Programs in x[,y[,z]]; expressions over the arguments are fine")
      ->type_name("X[,Y[,Z]]")
      ->capture_default_str();
  command.add_option("--let", lets, "A number for expressions that is no argument: BLOCK=64")
      ->type_name("NAME=NUMBER")
      ->allow_extra_args(false);
}

absl::StatusOr<std::vector<ArgSpec>> RunArguments::Specs() const {
  std::vector<ArgSpec> specs;
  for (const bool output : {false, true}) {
    for (const std::string& text : output ? outs : args) {
      absl::StatusOr<ArgSpec> spec = ParseArgSpec(text, output);
      if (!spec.ok()) return Annotate(spec.status(), output ? "--out" : "--arg");
      specs.push_back(*std::move(spec));
    }
  }
  return specs;
}

absl::Status RunArguments::AddIm2cols(std::vector<ArgSpec>* specs) const {
  for (const std::string& text : im2cols) {
    const absl::Status added = AddIm2col(text, specs);
    if (!added.ok()) return Annotate(added, "--im2col");
  }
  return absl::OkStatus();
}

absl::StatusOr<Variables> RunArguments::Lets() const {
  Variables variables;
  for (const std::string& text : lets) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || !IsName(text.substr(0, equals))) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("--let ", text, ": NAME=NUMBER is needed, as in BLOCK=64"));
    }
    absl::StatusOr<int64_t> value = Evaluate(text.substr(equals + 1), variables);
    if (!value.ok()) return Annotate(value.status(), "--let");
    variables[text.substr(0, equals)] = *value;
  }
  return variables;
}

}  // namespace trun::cli
