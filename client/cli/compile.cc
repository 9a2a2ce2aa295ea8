#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/artifact_files.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/file.h"
#include "client/cli/kernel_input.h"
#include "client/cli/pass_files.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "common/ir/pass_record_level.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

struct CompileCommandOptions {
  KernelInput kernel;
  std::string to;
  std::string signature;
  std::string output;
  std::string passes;  // folder
  bool changed_only = false;
};

// Where the result goes: a folder gets every artifact and the metadata, a file name with a level's extension
// or "-" the last artifact alone.
absl::StatusOr<std::vector<std::string>> WriteArtifacts(const CompileCommandOptions& options,
                                                        const Kernel& kernel) {
  std::vector<std::string> written;
  const KernelInfo& info = kernel.info();
  if (options.output.empty() || info.artifacts.empty()) return written;
  const std::string extension = std::filesystem::path(options.output).extension().string();
  const bool one_file =
      options.output == "-" ||
      (!extension.empty() && LevelFromName(extension.substr(1)).ok() && options.output.back() != '/');
  if (one_file) {
    Level level = info.artifacts.back().level;
    if (level == kPassRecordLevel && info.artifacts.size() > 1)
      level = info.artifacts[info.artifacts.size() - 2].level;
    if (options.output != "-") {
      TRUN_ASSIGN_OR_RETURN(level, LevelFromName(extension.substr(1)));
    }
    TRUN_ASSIGN_OR_RETURN(const std::string bytes, kernel.GetArtifact(level));
    TRUN_RETURN_IF_ERROR(WriteFile(options.output, bytes));
    written.push_back(options.output);
    return written;
  }
  ArtifactFiles files{info.name, {}, info.metadata_json};
  for (const ArtifactInfo& artifact : info.artifacts) {
    if (artifact.level != kPassRecordLevel) files.levels.push_back(artifact.level);
  }
  return WriteArtifactFiles(options.output, files, [&](Level level) { return kernel.GetArtifact(level); });
}

// The record is fetched and written, and what it holds is told for people: "76 passes, 31 changed something".
absl::StatusOr<std::string> WritePasses(const CompileCommandOptions& options, const Kernel& kernel,
                                        nlohmann::ordered_json* list) {
  TRUN_ASSIGN_OR_RETURN(const std::string record, kernel.GetArtifact(kPassRecordLevel));
  TRUN_ASSIGN_OR_RETURN(const std::vector<RecordedPass> passes, ParsePassRecord(record));
  TRUN_RETURN_IF_ERROR(WritePassFiles(passes, options.passes, options.changed_only).status());
  int changed = 0;
  for (const RecordedPass& pass : passes) {
    changed += pass.changed ? 1 : 0;
    list->push_back({{"pass", pass.name}, {"changed", pass.changed}, {"us", pass.microseconds}});
  }
  return absl::StrCat(passes.size(), " passes, ", changed, " changed something: ", options.passes);
}

absl::StatusOr<int> Compile(CompileCommandOptions options, Invocation& invocation) {
  Level last_level = Level::kUnspecified;
  if (!options.to.empty()) {
    TRUN_ASSIGN_OR_RETURN(last_level, LevelFromName(options.to));
  }
  TRUN_ASSIGN_OR_RETURN(const std::optional<PythonKernel> python,
                        ReadPythonInput(options.kernel, invocation));
  std::string bundle;
  if (python) {
    TRUN_ASSIGN_OR_RETURN(bundle, BundleOfSignature(*python, options.signature));
  } else if (!options.signature.empty()) {
    return InvalidArgument(Reason::kArgument, "--signature belongs to a kernel in Python: FILE.py:FUNCTION");
  }
  options.kernel.record_passes = !options.passes.empty();
  TRUN_ASSIGN_OR_RETURN(Client client, invocation.Connect());
  SessionOptions session_options;
  session_options.device = options.kernel.device;
  TRUN_ASSIGN_OR_RETURN(Session session, client.OpenSession(session_options));
  TRUN_ASSIGN_OR_RETURN(const Kernel kernel, CompileInput(options.kernel, last_level, session, invocation,
                                                          python ? &*python : nullptr, bundle));
  TRUN_ASSIGN_OR_RETURN(const std::vector<std::string> written, WriteArtifacts(options, kernel));
  std::string pass_summary;
  nlohmann::ordered_json pass_list = nlohmann::ordered_json::array();
  if (!options.passes.empty()) {
    TRUN_ASSIGN_OR_RETURN(pass_summary, WritePasses(options, kernel, &pass_list));
  }
  session.Close().IgnoreError();

  const KernelInfo& info = kernel.info();
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["kernel"] = KernelJson(info);
    json["written"] = written;
    if (!options.passes.empty()) json["passes"] = pass_list;
    if (options.output != "-") invocation.console.PrintJson(json);
    return kExitOk;
  }
  if (options.output == "-") return kExitOk;
  std::vector<std::pair<std::string, std::string>> facts = {
      {"kernel", absl::StrCat(info.name, "  warps ", info.num_warps, "  shared ",
                              FormatBytes(info.shared_bytes), "  ", info.target)},
      {"toolchain",
       absl::StrCat(info.toolchain, info.toolchain_reason.empty() ? "" : "  ", info.toolchain_reason)},
      {"cache", absl::StrCat(info.cached ? "hit" : "miss", "  ", info.cache_key.substr(0, 12))},
      {"compile", absl::StrCat(DurationText(info.total_time), info.stages.empty() ? "" : "  (",
                               DescribeStages(info.stages), info.stages.empty() ? "" : ")")}};
  if (!pass_summary.empty()) facts.emplace_back("passes", pass_summary);
  for (const std::string& path : written) facts.emplace_back("wrote", path);
  invocation.console.Print(RenderFacts(facts));
  Table table({"level", "size", "sha-256"});
  for (const ArtifactInfo& artifact : info.artifacts) {
    table.AddRow(
        {std::string(LevelName(artifact.level)), FormatBytes(artifact.bytes), artifact.digest.substr(0, 16)});
  }
  invocation.console.Print("\n" + table.Render());
  if (!info.log.empty()) invocation.console.PrintError(absl::StrCat("note: ", Printable(info.log), "\n"));
  return kExitOk;
}

}  // namespace

void AddCompile(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("compile", "Compile a kernel file of any level to a later one");
  auto options = std::make_shared<CompileCommandOptions>();
  options->kernel.AddTo(*command);
  command
      ->add_option("--signature", options->signature,
                   "Of FILE.py:FUNCTION: each parameter's type or value, ':16' where it is a multiple of 16")
      ->type_name("TYPES");
  command
      ->add_option("--to", options->to,
                   "The last level: ttgir, llir, ptx or cubin; else what the device loads")
      ->type_name("LEVEL");
  command
      ->add_option("-o,--output,--out-dir", options->output,
                   "A folder for every artifact, a file for one, - to print it")
      ->type_name("PATH");
  command
      ->add_option(
          "--passes", options->passes,
          "A folder for the IR after every pass: numbered files, -changed where a pass did something")
      ->type_name("DIR");
  command->add_flag("--changed-only", options->changed_only, "With --passes: leave out what changed nothing");
  command->footer(
      "Examples:\n"
      "  trun-client compile matmul.ttir -o out/                all artifacts and the metadata to a folder\n"
      "  trun-client compile matmul.ttir --to ptx -o matmul.ptx\n"
      "  trun-client compile matmul.ttgir --to cubin --target sm_90 --toolchain 3.9.0 -O num_warps=8 -o "
      "out/\n"
      "  trun-client compile add.ttir --to ttgir -o - | less\n"
      "  trun-client compile kernels.py:add --signature '*f32:16,*f32:16,*f32:16,i32,1024' -o out/\n"
      "  trun-client compile matmul.ttir --to cubin --passes passes/ --changed-only\n"
      "  trun-client compile passes/015-ttgir-coalesce-changed.mlir --from-pass ttgir/coalesce --to ptx -o "
      "-\n");
  tree.commands.push_back(
      {command, [options](Invocation& invocation) { return Compile(*options, invocation); }});
}

}  // namespace trun::cli
