#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/arg_spec.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/kernel_arguments.h"
#include "client/cli/kernel_input.h"
#include "client/cli/npy.h"
#include "client/cli/progress.h"
#include "client/cli/run_arguments.h"
#include "client/cli/run_report.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

struct RunOptions {
  KernelInput kernel;
  RunArguments run;
  std::vector<std::string> saves, expects;
  double rtol = -1, atol = -1;  // below 0: by the type
  bool equal_nan = false;
  std::string deadline;
  uint32_t repeat = 0;
  std::string session_memory;
  std::vector<std::string> checks, traces;
  std::string trace_program, trace_thread;
};

// "NAME=FILE" of --save and --expect.
struct NamedFile {
  size_t position = 0;
  std::string file;
};

// "1,2" as an index of up to three numbers.
absl::Status ParseIndex(absl::string_view option, const std::string& text, std::array<uint32_t, 3>* index) {
  if (text.empty()) return absl::OkStatus();
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ',');
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i >= 3 || !absl::SimpleAtoi(parts[i], &(*index)[i])) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat(option, " ", text, ": one to three numbers are needed, as in 3,0"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LaunchOptions> ParseWatch(const RunOptions& options) {
  LaunchOptions launch;
  for (const std::string& name : options.checks) {
    if (name == "uninit") launch.checks.uninitialized = true;
    if (name == "race") launch.checks.races = true;
    if (name == "async") launch.checks.async = true;
  }
  for (const std::string& name : options.traces) {
    if (name == "line") launch.trace.lines = true;
    if (name == "reg") launch.trace.registers = true;
  }
  TRUN_RETURN_IF_ERROR(ParseIndex("--trace-program", options.trace_program, &launch.trace.program));
  TRUN_RETURN_IF_ERROR(ParseIndex("--trace-thread", options.trace_thread, &launch.trace.thread));
  return launch;
}

absl::StatusOr<std::vector<NamedFile>> ParseNamedFiles(absl::string_view option,
                                                       const std::vector<std::string>& texts,
                                                       const KernelInfo& kernel,
                                                       const KernelArguments& arguments) {
  std::vector<NamedFile> files;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals + 1 == text.size()) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat(option, " ", text, ": NAME=FILE is needed, as in c=c.npy"));
    }
    absl::StatusOr<size_t> position = FindArgument(text.substr(0, equals), kernel.arguments);
    if (!position.ok()) return Annotate(position.status(), option);
    if (arguments.At(*position) == nullptr) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat(option, " ", text, ": argument ",
                                          DescribeArgument(*position, kernel.arguments), " is no tensor"));
    }
    files.push_back({*position, text.substr(equals + 1)});
  }
  return files;
}

absl::StatusOr<CheckedOutput> CheckAgainst(const std::string& file, const ShownTensor& shown,
                                           const RunOptions& options) {
  TRUN_ASSIGN_OR_RETURN(const NpyArray expected, ReadNpy(file));
  const ScalarType dtype = expected.dtype == ScalarType::kUnspecified ? shown.dtype : expected.dtype;
  if (ScalarTypeBytes(dtype) != expected.element_bytes) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("'", file, "' has raw elements of ", expected.element_bytes,
                                        " bytes, which are not ", ScalarTypeName(dtype)));
  }
  CheckedOutput check;
  check.expected_file = file;
  check.tolerance = DefaultTolerance(shown.dtype, dtype);
  if (options.rtol >= 0) check.tolerance.relative = options.rtol;
  if (options.atol >= 0) check.tolerance.absolute = options.atol;
  check.tolerance.equal_nan = options.equal_nan;
  absl::StatusOr<Comparison> comparison = Compare({shown.dtype, shown.shape, shown.bytes},
                                                  {dtype, expected.shape, expected.data}, check.tolerance);
  if (!comparison.ok())
    return Annotate(comparison.status(), absl::StrCat("--expect ", shown.name, "=", file));
  check.comparison = *comparison;
  return check;
}

// Reads back every output and whatever else is to be saved or checked.
absl::StatusOr<std::vector<ShownTensor>> ReadBack(const RunOptions& options, const KernelInfo& kernel,
                                                  const KernelArguments& arguments,
                                                  absl::Duration* read_time) {
  TRUN_ASSIGN_OR_RETURN(const std::vector<NamedFile> saves,
                        ParseNamedFiles("--save", options.saves, kernel, arguments));
  TRUN_ASSIGN_OR_RETURN(const std::vector<NamedFile> expects,
                        ParseNamedFiles("--expect", options.expects, kernel, arguments));
  std::vector<ShownTensor> all;
  for (const TensorArgument& argument : arguments.tensors) {
    ShownTensor shown;
    const NamedFile* save = nullptr;
    const NamedFile* expect = nullptr;
    for (const NamedFile& file : saves) save = file.position == argument.position ? &file : save;
    for (const NamedFile& file : expects) expect = file.position == argument.position ? &file : expect;
    if (!argument.output && save == nullptr && expect == nullptr) continue;
    shown.name = argument.name;
    shown.position = argument.position;
    shown.dtype = argument.spec.dtype;
    shown.shape = argument.spec.shape;
    const absl::Time start = absl::Now();
    TRUN_ASSIGN_OR_RETURN(shown.bytes, argument.tensor.Read());
    *read_time += absl::Now() - start;
    if (save != nullptr) {
      TRUN_RETURN_IF_ERROR(WriteNpy(save->file, shown.dtype, shown.shape, shown.bytes));
      shown.saved_to = save->file;
    }
    if (expect != nullptr) {
      TRUN_ASSIGN_OR_RETURN(shown.check, CheckAgainst(expect->file, shown, options));
    }
    all.push_back(std::move(shown));
  }
  return all;
}

absl::StatusOr<int> Run(const RunOptions& options, Invocation& invocation) {
  const absl::Time start = absl::Now();
  // What can be wrong without a daemon is found before one is asked for.
  TRUN_ASSIGN_OR_RETURN(Variables lets, options.run.Lets());
  TRUN_ASSIGN_OR_RETURN(const std::optional<PythonKernel> python,
                        ReadPythonInput(options.kernel, invocation));
  PythonArguments specialised;
  if (python) {
    TRUN_ASSIGN_OR_RETURN(specialised,
                          SpecialiseArguments(*python, options.run.args, options.run.outs, lets));
    lets.insert(specialised.constants.begin(), specialised.constants.end());
  } else {
    TRUN_ASSIGN_OR_RETURN(specialised.specs, options.run.Specs());
  }
  TRUN_RETURN_IF_ERROR(options.run.AddIm2cols(&specialised.specs));
  const std::vector<ArgSpec>& specs = specialised.specs;
  TRUN_ASSIGN_OR_RETURN(const absl::Duration deadline, ParseDuration(options.deadline));
  TRUN_ASSIGN_OR_RETURN(LaunchOptions launch_options, ParseWatch(options));
  launch_options.deadline = deadline;
  SessionOptions session_options;
  session_options.device = options.kernel.device;
  TRUN_ASSIGN_OR_RETURN(session_options.memory_limit_bytes, ParseBytes(options.session_memory));

  RunReport report;
  TRUN_ASSIGN_OR_RETURN(Client client, invocation.Connect());
  TRUN_ASSIGN_OR_RETURN(Session session, client.OpenSession(session_options));
  report.device = session.device();
  report.device_name = session.device_name();
  report.target = session.target();
  absl::Time now = absl::Now();
  report.open_time = now - start;

  TRUN_ASSIGN_OR_RETURN(const Kernel kernel,
                        CompileInput(options.kernel, Level::kUnspecified, session, invocation,
                                     python ? &*python : nullptr, specialised.bundle));
  // The compiled kernel of a Triton before 3.5 has no names; its source has.
  KernelInfo info = kernel.info();
  for (size_t i = 0; python && i < std::min(info.arguments.size(), specialised.names.size()); ++i) {
    info.arguments[i].name = specialised.names[i];
  }
  report.kernel = info;
  report.compile_time = absl::Now() - now;
  now = absl::Now();

  absl::StatusOr<KernelArguments> made = absl::UnknownError("");
  {
    const Progress progress(invocation.console, "filling tensors");
    made = MakeArguments(specs, info, lets, session);
  }
  TRUN_ASSIGN_OR_RETURN(const KernelArguments arguments, std::move(made));
  TRUN_ASSIGN_OR_RETURN(report.grid, ResolveGrid(options.run.grid, arguments.variables));
  for (const TensorArgument& tensor : arguments.tensors) {
    invocation.diagnostic.tensors.push_back(
        {tensor.tensor.handle(),
         absl::StrCat("argument ", DescribeArgument(tensor.position, info.arguments))});
    if (tensor.unwritten) launch_options.checks.unwritten.push_back(tensor.tensor.handle());
  }
  report.uploaded_bytes = arguments.uploaded_bytes;
  report.upload_time = absl::Now() - now;
  now = absl::Now();

  {
    const Progress progress(invocation.console, "running");
    TRUN_ASSIGN_OR_RETURN(report.launch, kernel.Launch(report.grid, arguments.launch, launch_options));
  }
  report.launch_time = absl::Now() - now;
  TRUN_ASSIGN_OR_RETURN(report.tensors, ReadBack(options, info, arguments, &report.read_time));
  if (options.repeat > 0) {
    const Progress progress(invocation.console, "measuring");
    BenchmarkOptions benchmark;
    benchmark.repetitions = options.repeat;
    benchmark.deadline = deadline;
    TRUN_ASSIGN_OR_RETURN(report.benchmark, kernel.Benchmark(report.grid, arguments.launch, benchmark));
  }
  report.total_time = absl::Now() - start;

  if (invocation.options.json) {
    nlohmann::ordered_json json = RunReportJson(report);
    json["ok"] = report.Matches();
    invocation.console.PrintJson(json);
  } else {
    invocation.console.Print(RenderRunReport(report));
  }
  // The result is out before the session ends, which waits for its executor. One call ends all that was made
  // in it. A lease that ran out meanwhile takes nothing away from the result.
  invocation.console.Flush();
  session.Close().IgnoreError();
  return report.Matches() ? kExitOk : kExitMismatch;
}

}  // namespace

void AddRun(CLI::App& root, CommandTree& tree) {
  CLI::App* command =
      root.add_subcommand("run", "Run a kernel file on arguments and show, save or check the results");
  auto options = std::make_shared<RunOptions>();
  options->kernel.AddTo(*command);
  options->run.AddTo(*command);
  command->add_option("--save", options->saves, "Write a tensor to a .npy file: c=c.npy")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command->add_option("--expect", options->expects, "Compare a tensor with a .npy file: c=ref.npy")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command->add_option("--rtol", options->rtol, "Relative tolerance; else by the type")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--atol", options->atol, "Absolute tolerance; else by the type")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--equal-nan", options->equal_nan, "A NaN where one is expected is right");
  command->add_option("--deadline", options->deadline, "End the launch after this time (30s)")
      ->type_name("TIME");
  command->add_option("--repeat", options->repeat, "Then launch it this often and show the times")
      ->check(CLI::Range(1, 10000))
      ->type_name("TIMES");
  command
      ->add_option(
          "--check", options->checks,
          "Look for more, on the emulator, many times slower: uninit (values that nothing wrote), race\n"
          "(accesses that nothing orders), async (copies and wgmma that nothing waited for)")
      ->delimiter(',')
      ->check(CLI::IsMember({"uninit", "race", "async"}))
      ->type_name("CHECK,...")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--trace", options->traces,
          "Print what one thread does, on the emulator: line (source lines), reg (registers written)")
      ->delimiter(',')
      ->check(CLI::IsMember({"line", "reg"}))
      ->type_name("WHAT,...")
      ->allow_extra_args(false);
  command->add_option("--trace-program", options->trace_program, "The program to trace (0)")
      ->type_name("X[,Y[,Z]]");
  command->add_option("--trace-thread", options->trace_thread, "Its thread to trace (0)")
      ->type_name("X[,Y[,Z]]");
  command->add_option("--session-memory", options->session_memory, "Most memory of this run, such as 4GiB")
      ->type_name("BYTES");
  command->footer(
      "Arguments (every argument of the kernel needs one):\n"
      "  x=f32[4096]                 a tensor of zeros; types i1 i8..i64 u8..u64 f16 bf16 f32 f64 f8e4m3 "
      "f8e5m2\n"
      "  a=f16[M,K]:randn(seed=1)    filled: zeros ones full(value) arange(start,step) rand(seed,lo,hi)\n"
      "                              randn(seed,mean,std) randint(seed,lo,hi) eye nan\n"
      "  x=@x.npy  x=bf16@x.npy      from a file; its raw elements as bf16\n"
      "  n=4096  stride=M*K  p=null  a number, an expression over other arguments, no pointer\n"
      "  0=...                       by position, where the kernel's file has no names\n"
      "Expressions: + - * / % ( ) cdiv(a,b) min max pow2(a).\n\n"
      "Examples:\n"
      "  trun-client run vector_add.ttir -a 'x_ptr=f32[4096]:randn(seed=1)' -a 'y_ptr=f32[4096]:ones' \\\n"
      "      -o 'out_ptr=f32[4096]' -a n_elements=4096 -g 'cdiv(n_elements,1024)'\n"
      "  trun-client run softmax.ttgir -a 0=@x.npy -o '1=f32[1024,1000]' -a 2=1000 -a 3=1000 -g 1024 \\\n"
      "      --expect 1=ref.npy --rtol 1e-5 --save 1=y.npy\n"
      "  trun-client run kernels.py:add -a 'x_ptr=f32[n]:ones' -a 'y_ptr=f32[n]:ones' -o 'out_ptr=f32[n]' "
      "\\\n"
      "      -a n=5000 -a BLOCK=1024 -g 'cdiv(n,BLOCK)'         Triton source, constexprs as arguments\n");
  tree.commands.push_back({command, [options](Invocation& invocation) { return Run(*options, invocation); }});
}

}  // namespace trun::cli
