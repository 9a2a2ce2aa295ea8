#include "client/cli/kernel_input.h"

#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/file.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

constexpr uint64_t kMaxKernelBytes = 64 << 20;
constexpr uint64_t kMaxMetadataBytes = 1 << 20;

// The metadata JSON that Triton's cache keeps beside a kernel's files: same name, .json. Empty where there is
// none.
std::string MetadataBeside(const std::string& file) {
  std::string path = std::filesystem::path(file).replace_extension(".json").string();
  return path != file && FileExists(path) ? path : "";
}

std::string JsonValue(const std::string& text) {
  if (text == "True") return "true";
  if (text == "False") return "false";
  if (text == "None") return "null";
  if (nlohmann::json::accept(text)) return text;
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void KernelInput::AddTo(CLI::App& command) {
  command
      .add_option("kernel", file,
                  "The kernel: a .ttir, .ttgir, .llir or .ptx file, FILE.py:FUNCTION, or - for standard "
                  "input")
      ->required();
  command.add_option("--level", level, "The file's level, where its name does not say")->type_name("LEVEL");
  command.add_option("--metadata", metadata, "Triton's metadata JSON (found by itself beside the file)")
      ->type_name("JSON");
  command.add_option("--toolchain", toolchain, "Which Triton compiles it; else the daemon chooses")
      ->type_name("NAME");
  command.add_option("--target", target, "Architecture, such as sm_90; else the device's")->type_name("ARCH");
  command.add_option("--device", device, "Device, such as emulator:0; else the default one")
      ->type_name("DEVICE");
  command.add_option("--kernel-name", kernel_name, "Which kernel of a file with several")->type_name("NAME");
  command.add_option("-O,--option", options, "A compile option: -O num_warps=8 (repeat for more)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command.add_option("--compile-deadline", compile_deadline, "End the compile after this time, such as 2min")
      ->type_name("TIME");
  command
      .add_option(
          "--from-pass", from_pass,
          "The file is what this pass left behind: begin after it (ttgir/coalesce, or coalesce alone)")
      ->type_name("PASS");
  command.add_flag("--recompile", recompile, "Do not look into the cache");
}

absl::StatusOr<std::map<std::string, std::string>> ParseCompileOptions(
    const std::vector<std::string>& words) {
  std::map<std::string, std::string> options;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
      return InvalidArgument(Reason::kUnknownOption,
                             absl::StrCat("-O ", word, ": NAME=VALUE is needed, as in -O num_warps=8"));
    }
    const std::string name = word.substr(0, equals);
    if (!options.emplace(name, JsonValue(word.substr(equals + 1))).second) {
      return InvalidArgument(Reason::kUnknownOption, absl::StrCat("-O ", name, " is given twice"));
    }
  }
  return options;
}

absl::StatusOr<absl::Duration> ParseDuration(const std::string& text) {
  if (text.empty()) return absl::ZeroDuration();
  std::string normal = text;
  if (absl::EndsWith(normal, "min")) normal.resize(normal.size() - 2);  // absl knows "m"
  double seconds;
  absl::Duration duration;
  if (absl::SimpleAtod(normal, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(normal, &duration)) {
    return InvalidArgument(Reason::kUnspecified,
                           absl::StrCat("'", text, "' is not a time: 30s, 2min and 500ms are"));
  }
  if (duration <= absl::ZeroDuration() || duration > absl::Hours(24 * 365)) {
    return InvalidArgument(Reason::kUnspecified, absl::StrCat("'", text, "' is no time to wait"));
  }
  return duration;
}

absl::StatusOr<uint64_t> ParseBytes(const std::string& text) {
  if (text.empty()) return uint64_t{0};
  const size_t end = text.find_first_not_of("0123456789.");
  const std::string unit =
      end == std::string::npos ? "" : absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(end)));
  double number;
  int shift = -1;
  if (unit.empty() || unit == "b") shift = 0;
  if (unit == "k" || unit == "kib") shift = 10;
  if (unit == "m" || unit == "mib") shift = 20;
  if (unit == "g" || unit == "gib") shift = 30;
  if (unit == "t" || unit == "tib") shift = 40;
  if (shift < 0 || !absl::SimpleAtod(text.substr(0, end), &number) || !(number >= 1) ||
      number > 0x1p60 / static_cast<double>(uint64_t{1} << shift)) {
    return InvalidArgument(Reason::kUnspecified,
                           absl::StrCat("'", text, "' is not a size: 512MiB and 4GiB are"));
  }
  return static_cast<uint64_t>(number * static_cast<double>(uint64_t{1} << shift));
}

absl::StatusOr<std::optional<PythonKernel>> ReadPythonInput(const KernelInput& input,
                                                            Invocation& invocation) {
  const auto parts = SplitPythonKernel(input.file);
  if (!parts) {
    if (!absl::EndsWith(input.file, ".py")) return std::nullopt;
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("'", input.file, "' may hold several kernels: name one, ", input.file, ":FUNCTION"));
  }
  TRUN_ASSIGN_OR_RETURN(std::string text, ReadFile(parts->first, kMaxKernelBytes));
  // What the messages of the daemon name: it knows nothing of this working folder.
  const std::string file = std::filesystem::absolute(parts->first).lexically_normal().string();
  invocation.diagnostic.source = SourceText{file, text};
  TRUN_ASSIGN_OR_RETURN(PythonKernel kernel, ParsePythonKernel(file, parts->second, std::move(text)));
  return kernel;
}

absl::StatusOr<Kernel> CompileInput(const KernelInput& input, Level last_level, Session& session,
                                    Invocation& invocation, const PythonKernel* python,
                                    const std::string& bundle) {
  CompileOptions options;
  options.file_name = input.file == "-" ? "<stdin>" : input.file;
  if (!input.level.empty()) {
    TRUN_ASSIGN_OR_RETURN(options.level, LevelFromName(input.level));
  }
  TRUN_ASSIGN_OR_RETURN(options.options, ParseCompileOptions(input.options));
  TRUN_ASSIGN_OR_RETURN(options.deadline, ParseDuration(input.compile_deadline));
  std::string text = bundle;
  if (python != nullptr) {
    options.level = python->is_gluon ? Level::kGluon : Level::kPython;
    options.file_name = python->file;
  } else {
    TRUN_ASSIGN_OR_RETURN(text, ReadFile(input.file, kMaxKernelBytes));
  }
  std::string metadata_path = input.metadata;
  if (metadata_path.empty() && python == nullptr) metadata_path = MetadataBeside(input.file);
  if (!metadata_path.empty()) {
    TRUN_ASSIGN_OR_RETURN(options.metadata_json, ReadFile(metadata_path, kMaxMetadataBytes));
  }
  options.target = input.target;
  options.toolchain = input.toolchain;
  options.kernel_name = input.kernel_name;
  options.recompile = input.recompile;
  options.resume_after_pass = input.from_pass;
  options.record_passes = input.record_passes;
  options.last_level = last_level;
  if (python == nullptr) invocation.diagnostic.source = SourceText{options.file_name, text};
  Progress progress(invocation.console, "compiling");
  options.on_stage = [&progress](const StageEvent& event) {
    if (!event.pass.empty()) {
      progress.Update(event.pass, -1);
    } else if (!event.done) {  // the next stage is told at once, though it may arrive a little later
      progress.Update(absl::StrCat("making ", LevelName(event.level)), -1);
    }
  };
  return session.Compile(text, options);
}

std::string DescribeStages(const std::vector<StageEvent>& stages) {
  return absl::StrJoin(stages, ", ", [](std::string* out, const StageEvent& stage) {
    absl::StrAppend(out, LevelName(stage.level), " ", stage.cached ? "cached" : DurationText(stage.time));
  });
}

nlohmann::ordered_json KernelJson(const KernelInfo& info) {
  nlohmann::ordered_json json;
  json["name"] = info.name;
  json["arguments"] = nlohmann::ordered_json::array();
  for (const ArgumentInfo& argument : info.arguments) {
    static constexpr const char* kKinds[] = {"pointer", "scalar", "tensor_descriptor"};
    nlohmann::ordered_json one;
    one["name"] = argument.name;
    one["kind"] = kKinds[static_cast<int>(argument.kind)];
    one["dtype"] = std::string(ScalarTypeName(argument.dtype));
    one["bytes"] = argument.bytes;
    one["divisibility"] = argument.divisibility;
    if (!argument.descriptor_type.empty()) one["descriptor_type"] = argument.descriptor_type;
    json["arguments"].push_back(one);
  }
  json["num_warps"] = info.num_warps;
  json["num_ctas"] = info.num_ctas;
  json["shared_bytes"] = info.shared_bytes;
  json["target"] = info.target;
  json["triton_version"] = info.triton_version;
  json["toolchain"] = info.toolchain;
  json["toolchain_reason"] = info.toolchain_reason;
  json["cached"] = info.cached;
  json["cache_key"] = info.cache_key;
  json["total_us"] = absl::ToDoubleMicroseconds(info.total_time);
  json["stages"] = nlohmann::ordered_json::array();
  for (const StageEvent& stage : info.stages) {
    json["stages"].push_back({{"level", std::string(LevelName(stage.level))},
                              {"us", absl::ToDoubleMicroseconds(stage.time)},
                              {"cached", stage.cached},
                              {"bytes", stage.bytes}});
  }
  json["artifacts"] = nlohmann::ordered_json::array();
  for (const ArtifactInfo& artifact : info.artifacts) {
    json["artifacts"].push_back({{"level", std::string(LevelName(artifact.level))},
                                 {"bytes", artifact.bytes},
                                 {"digest", artifact.digest}});
  }
  if (!info.log.empty()) json["log"] = info.log;
  return json;
}

}  // namespace trun::cli
