#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/instruction_mix.h"
#include "client/cli/kernel_arguments.h"
#include "client/cli/kernel_input.h"
#include "client/cli/progress.h"
#include "client/cli/python_kernel.h"
#include "client/cli/run_arguments.h"
#include "client/cli/text.h"
#include "common/base/digest.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

struct MatrixOptions {
  KernelInput kernel;
  std::string versions = "all";
  std::string architectures;
  RunArguments run;
  std::string signature;  // of a kernel in Python that is not run
  std::string deadline;
  int jobs = 2;
};

// What every cell is made from.
struct MatrixInput {
  std::optional<PythonKernel> python;
  PythonArguments arguments;
  Variables lets;
};

// What ptxas said of the only kernel of a file; in the metadata of a compile to cubin.
struct Resources {
  int64_t registers = 0, stack_bytes = 0, spill_store_bytes = 0, spill_load_bytes = 0;
};

// One version and architecture.
struct Cell {
  std::string version, architecture;
  absl::Status compiled;  // the rest holds where this is OK
  KernelInfo info;
  std::optional<Resources> resources;
  std::map<std::string, int> instructions;
  absl::Status ran = absl::CancelledError("");  // CANCELLED: nobody asked, or no device of this architecture
  absl::Duration time = absl::ZeroDuration();
  std::string outputs;  // digest over every --out tensor
};

bool WasAskedToRun(const MatrixOptions& options) { return !options.run.outs.empty(); }

std::optional<Resources> ReadResources(const std::string& metadata_json) {
  const auto metadata = nlohmann::json::parse(metadata_json, nullptr, /*allow_exceptions=*/false);
  if (!metadata.is_object() || !metadata.contains("ptxas_resources")) return std::nullopt;
  const nlohmann::json& given = metadata["ptxas_resources"];
  if (!given.is_object()) return std::nullopt;
  const auto number = [&given](const char* key) {
    return given.contains(key) && given[key].is_number_integer() ? given[key].get<int64_t>() : 0;
  };
  return Resources{number("registers"), number("stack_bytes"), number("spill_store_bytes"),
                   number("spill_load_bytes")};
}

absl::StatusOr<std::vector<std::string>> ChooseVersions(const std::string& asked, const Client& client) {
  TRUN_ASSIGN_OR_RETURN(const std::vector<ToolchainInfo> installed, client.toolchains().List());
  if (asked == "all") {
    std::vector<std::string> all;
    for (const ToolchainInfo& toolchain : installed) all.push_back(toolchain.name);
    std::reverse(all.begin(), all.end());  // the oldest first
    if (all.empty()) return NotFound(Reason::kToolchainNotFound, "no Triton is installed");
    return all;
  }
  return std::vector<std::string>(absl::StrSplit(asked, ',', absl::SkipEmpty()));
}

// Device by architecture, "sm_80" → "emulator:0".
absl::StatusOr<std::map<std::string, std::string>> DevicesByArchitecture(const Client& client) {
  TRUN_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, client.ListDevices());
  std::map<std::string, std::string> by_target;
  // A GPU's results and times before the emulator's.
  for (const bool emulated : {false, true}) {
    for (const DeviceInfo& device : devices) {
      if (!device.unusable_reason.empty() || (device.device.rfind("emulator", 0) == 0) != emulated) continue;
      const std::vector<std::string> parts = absl::StrSplit(device.target, ':');
      if (parts.size() >= 2) by_target.emplace(absl::StrCat("sm_", parts[1]), device.device);
    }
  }
  return by_target;
}

absl::StatusOr<std::string> DigestOfOutputs(const KernelArguments& arguments) {
  std::string bytes;
  for (const TensorArgument& argument : arguments.tensors) {
    if (!argument.output) continue;
    TRUN_ASSIGN_OR_RETURN(const std::string output, argument.tensor.Read());
    absl::StrAppend(&bytes, Digest::Of(output).ToHex());
  }
  return Digest::Of(bytes).ToHex();
}

absl::StatusOr<MatrixInput> ReadInput(const MatrixOptions& options, Invocation& invocation) {
  MatrixInput input;
  TRUN_ASSIGN_OR_RETURN(input.lets, options.run.Lets());
  TRUN_ASSIGN_OR_RETURN(input.python, ReadPythonInput(options.kernel, invocation));
  if (!input.python) {
    TRUN_ASSIGN_OR_RETURN(input.arguments.specs, options.run.Specs());
  } else if (WasAskedToRun(options)) {
    TRUN_ASSIGN_OR_RETURN(input.arguments,
                          SpecialiseArguments(*input.python, options.run.args, options.run.outs, input.lets));
    input.lets.insert(input.arguments.constants.begin(), input.arguments.constants.end());
  } else {
    TRUN_ASSIGN_OR_RETURN(input.arguments.bundle, BundleOfSignature(*input.python, options.signature));
  }
  TRUN_RETURN_IF_ERROR(options.run.AddIm2cols(&input.arguments.specs));
  return input;
}

absl::Status RunCell(const MatrixOptions& options, const MatrixInput& input, Session& session,
                     const Kernel& kernel, Cell* cell) {
  // The compiled kernel of a Triton before 3.5 has no names; its source has.
  KernelInfo info = kernel.info();
  for (size_t i = 0; i < std::min(info.arguments.size(), input.arguments.names.size()); ++i) {
    info.arguments[i].name = input.arguments.names[i];
  }
  TRUN_ASSIGN_OR_RETURN(const absl::Duration deadline, ParseDuration(options.deadline));
  TRUN_ASSIGN_OR_RETURN(const KernelArguments arguments,
                        MakeArguments(input.arguments.specs, info, input.lets, session));
  TRUN_ASSIGN_OR_RETURN(const Grid grid, ResolveGrid(options.run.grid, arguments.variables));
  TRUN_ASSIGN_OR_RETURN(const LaunchResult result, kernel.Launch(grid, arguments.launch, {deadline}));
  cell->time = result.device_time;
  TRUN_ASSIGN_OR_RETURN(cell->outputs, DigestOfOutputs(arguments));
  return absl::OkStatus();
}

// A session of its own: what one version does to its executor is nothing to the others.
void FillCell(const MatrixOptions& options, const MatrixInput& input, Client& client,
              const std::string& device, Invocation& invocation, Cell* cell) {
  SessionOptions session_options;
  session_options.device = device;
  absl::StatusOr<Session> session = client.OpenSession(session_options);
  if (!session.ok()) {
    cell->compiled = session.status();
    return;
  }
  KernelInput file = options.kernel;
  file.toolchain = cell->version;
  file.target = cell->architecture;
  const absl::StatusOr<Kernel> kernel =
      CompileInput(file, Level::kCubin, *session, invocation, input.python ? &*input.python : nullptr,
                   input.arguments.bundle);
  cell->compiled = kernel.status();
  if (!kernel.ok()) return;
  cell->info = kernel->info();
  cell->resources = ReadResources(cell->info.metadata_json);
  const absl::StatusOr<std::string> ptx = kernel->GetArtifact(Level::kPtx);
  if (ptx.ok()) cell->instructions = CountInstructions(*ptx);
  if (WasAskedToRun(options) && !device.empty()) cell->ran = RunCell(options, input, *session, *kernel, cell);
  session->Close().IgnoreError();  // the next session is another one
}

std::string FirstLine(const absl::Status& status) {
  const std::string text(status.message());
  return text.substr(0, std::min<size_t>(text.find('\n'), 100));
}

// Letters for equal outputs, in the order of their first version: "A", "B"; per architecture.
std::map<std::string, std::string> NameOutputs(const std::vector<Cell>& cells) {
  std::map<std::string, std::string> names;
  std::map<std::string, int> count;
  for (const Cell& cell : cells) {
    if (cell.outputs.empty()) continue;
    const std::string key = absl::StrCat(cell.architecture, " ", cell.outputs);
    if (names.count(key) != 0) continue;
    const int number = count[cell.architecture]++;
    names[key] = number < 26 ? std::string(1, static_cast<char>('A' + number)) : absl::StrCat("#", number);
  }
  return names;
}

std::string InstructionsText(const std::map<std::string, int>& counts) {
  std::vector<std::pair<std::string, int>> kinds(counts.begin(), counts.end());
  kinds.erase(std::remove_if(kinds.begin(), kinds.end(),
                             [](const auto& kind) { return kind.first == "total" || kind.first == "other"; }),
              kinds.end());
  std::stable_sort(kinds.begin(), kinds.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (kinds.size() > 6) kinds.resize(6);
  return absl::StrJoin(kinds, " ", [](std::string* out, const auto& kind) {
    absl::StrAppend(out, kind.first, ":", kind.second);
  });
}

void PrintTable(const std::vector<Cell>& cells, const MatrixOptions& options, Console& console) {
  std::vector<std::string> header = {"triton", "arch",   "compiles", "registers",
                                     "shared", "spills", "instr",    "most of them"};
  if (WasAskedToRun(options)) header.insert(header.end(), {"time", "output"});
  Table table(header);
  const std::map<std::string, std::string> names = NameOutputs(cells);
  for (const Cell& cell : cells) {
    if (!cell.compiled.ok()) {
      table.AddRow({cell.version, cell.architecture,
                    absl::StrCat(ReasonName(GetReason(cell.compiled)), ": ", FirstLine(cell.compiled))});
      continue;
    }
    std::vector<std::string> row = {cell.version, cell.architecture, "yes"};
    if (cell.resources) {
      row.push_back(absl::StrCat(cell.resources->registers));
    } else {
      row.push_back("-");
    }
    row.push_back(FormatBytes(cell.info.shared_bytes));
    row.push_back(cell.resources
                      ? absl::StrCat(cell.resources->spill_store_bytes + cell.resources->spill_load_bytes)
                      : "-");
    const auto total = cell.instructions.find("total");
    row.push_back(total == cell.instructions.end() ? "-" : absl::StrCat(total->second));
    row.push_back(InstructionsText(cell.instructions));
    if (WasAskedToRun(options)) {
      if (absl::IsCancelled(cell.ran)) {
        row.insert(row.end(), {"-", "no device of this architecture"});
      } else if (!cell.ran.ok()) {
        row.insert(row.end(),
                   {"-", absl::StrCat(ReasonName(GetReason(cell.ran)), ": ", FirstLine(cell.ran))});
      } else {
        row.insert(row.end(),
                   {DurationText(cell.time), names.at(absl::StrCat(cell.architecture, " ", cell.outputs))});
      }
    }
    table.AddRow(std::move(row));
  }
  console.Print(table.Render());
  if (WasAskedToRun(options)) console.Print("Equal letters: outputs that are equal bit for bit.\n");
}

nlohmann::ordered_json CellJson(const Cell& cell) {
  nlohmann::ordered_json json = {
      {"version", cell.version}, {"arch", cell.architecture}, {"compiles", cell.compiled.ok()}};
  if (!cell.compiled.ok()) {
    json["reason"] = std::string(ReasonName(GetReason(cell.compiled)));
    json["message"] = std::string(cell.compiled.message());
    return json;
  }
  if (cell.resources) {
    json["registers"] = cell.resources->registers;
    json["stack_bytes"] = cell.resources->stack_bytes;
    json["spill_store_bytes"] = cell.resources->spill_store_bytes;
    json["spill_load_bytes"] = cell.resources->spill_load_bytes;
  }
  json["shared_bytes"] = cell.info.shared_bytes;
  json["num_warps"] = cell.info.num_warps;
  json["instructions"] = cell.instructions;
  json["compile_us"] = absl::ToDoubleMicroseconds(cell.info.total_time);
  json["cached"] = cell.info.cached;
  if (cell.ran.ok()) {
    json["time_us"] = absl::ToDoubleMicroseconds(cell.time);
    json["outputs"] = cell.outputs;
  } else if (!absl::IsCancelled(cell.ran)) {
    json["run_reason"] = std::string(ReasonName(GetReason(cell.ran)));
    json["run_message"] = std::string(cell.ran.message());
  }
  return json;
}

absl::StatusOr<int> Matrix(const MatrixOptions& options, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const MatrixInput input, ReadInput(options, invocation));
  TRUN_ASSIGN_OR_RETURN(Client client, invocation.Connect());
  TRUN_ASSIGN_OR_RETURN(const std::vector<std::string> versions, ChooseVersions(options.versions, client));
  TRUN_ASSIGN_OR_RETURN(const auto devices, DevicesByArchitecture(client));
  std::vector<std::string> architectures = absl::StrSplit(options.architectures, ',', absl::SkipEmpty());
  if (architectures.empty()) {
    for (const auto& [architecture, device] : devices) architectures.push_back(architecture);
  }
  std::vector<Cell> cells;
  for (const std::string& architecture : architectures) {
    for (const std::string& version : versions) {
      cells.emplace_back();
      cells.back().version = version;
      cells.back().architecture = architecture;
    }
  }
  std::atomic<size_t> next{0};
  // Progress and diagnostics are for one thread: each gets a console that shows nothing.
  const auto work = [&] {
    Console silent(Console::Color::kNever);
    Invocation own{invocation.options, silent, {}};
    for (size_t i = next++; i < cells.size(); i = next++) {
      const auto device = devices.find(cells[i].architecture);
      FillCell(options, input, client, device == devices.end() ? "" : device->second, own, &cells[i]);
    }
  };
  {
    const Progress progress(invocation.console,
                            absl::StrCat("compiling with ", versions.size(), " versions"));
    std::vector<std::thread> threads;
    for (int i = 0; i < options.jobs; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  }
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["file"] = options.kernel.file;
    json["cells"] = nlohmann::ordered_json::array();
    for (const Cell& cell : cells) json["cells"].push_back(CellJson(cell));
    invocation.console.PrintJson(json);
  } else {
    PrintTable(cells, options, invocation.console);
  }
  const bool any =
      std::any_of(cells.begin(), cells.end(), [](const Cell& cell) { return cell.compiled.ok(); });
  return any ? kExitOk : kExitCompileFailed;
}

}  // namespace

void AddMatrix(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand(
      "matrix", "Compile a kernel with several Triton versions and compare what comes out");
  auto options = std::make_shared<MatrixOptions>();
  options->kernel.AddTo(*command);
  command
      ->add_option("--versions", options->versions,
                   "all, or names as `toolchains list` has them: 3.4.0,3.9.0")
      ->type_name("NAMES")
      ->capture_default_str();
  command
      ->add_option("--arch", options->architectures, "Architectures: sm_80,sm_90; else those of the devices")
      ->type_name("ARCHS");
  options->run.AddTo(*command);
  command
      ->add_option("--signature", options->signature,
                   "Of a kernel in Python that is not run: as of `compile`, '*f32:16, i32, 1024'")
      ->type_name("TYPES");
  command->add_option("--deadline", options->deadline, "End a launch after this time (30s)")
      ->type_name("TIME");
  command->add_option("-j,--jobs", options->jobs, "Compiles at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->footer(
      "With --out (and --arg, --grid as of `run`) every version's kernel is run on the same arguments, where "
      "a device of\n"
      "the architecture is there, and the outputs are compared bit for bit.\n\n"
      "Examples:\n"
      "  trun-client matrix matmul.ttir --arch sm_80,sm_90\n"
      "  trun-client matrix add.ttir --versions 3.4.0,3.9.0 -a 0=f32[4096]:randn -a 1=f32[4096]:ones \\\n"
      "      -o 2=f32[4096] -a 3=4096 -g 4 --json\n");
  tree.commands.push_back(
      {command, [options](Invocation& invocation) { return Matrix(*options, invocation); }});
}

}  // namespace trun::cli
