// The kernel file and the compile options that `run` and `compile` share.
#ifndef TRUN_CLIENT_CLI_KERNEL_INPUT_H_
#define TRUN_CLIENT_CLI_KERNEL_INPUT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/command.h"
#include "client/cli/python_kernel.h"
#include "nlohmann/json_fwd.hpp"
#include "trun/client.h"

namespace trun::cli {

struct KernelInput {
  std::string file;
  std::string level;
  std::string metadata;
  std::string target;
  std::string toolchain;
  std::string kernel_name;
  std::vector<std::string> options;  // -O name=value
  std::string compile_deadline;
  std::string from_pass;
  bool record_passes = false;  // set by the subcommand
  bool recompile = false;
  std::string device;

  void AddTo(CLI::App& command);
};

// -O words as the server wants them: name to JSON value. A value that is JSON is taken as it is ("8", "true",
// "[1, 2]"), True, False and None as Python means them, anything else as a string. INVALID_ARGUMENT
// kUnknownOption.
absl::StatusOr<std::map<std::string, std::string>> ParseCompileOptions(const std::vector<std::string>& words);

// "30", "30s", "2min", "1m30s". Empty: zero. INVALID_ARGUMENT.
absl::StatusOr<absl::Duration> ParseDuration(const std::string& text);
// "4GiB", "512MiB", "1g", "1000". Empty: zero. INVALID_ARGUMENT.
absl::StatusOr<uint64_t> ParseBytes(const std::string& text);

// The Python kernel that the input names (FILE.py:FUNCTION), read and left in invocation.diagnostic; nothing
// for other inputs.
absl::StatusOr<std::optional<PythonKernel>> ReadPythonInput(const KernelInput& input, Invocation& invocation);

// Reads the files and compiles, with a progress bar. Of a Python kernel `bundle` is sent. Leaves the file in
// invocation.diagnostic, for its errors.
absl::StatusOr<Kernel> CompileInput(const KernelInput& input, Level last_level, Session& session,
                                    Invocation& invocation, const PythonKernel* python = nullptr,
                                    const std::string& bundle = "");

// "ttir 3.1 ms, ttgir 12 ms, ptx cached": the stages for people.
std::string DescribeStages(const std::vector<StageEvent>& stages);
nlohmann::ordered_json KernelJson(const KernelInfo& info);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_KERNEL_INPUT_H_
