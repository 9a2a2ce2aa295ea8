#include "server/main/server_options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <iostream>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/program_path.h"
#include "common/base/status.h"
#include "common/ir/amd_target.h"
#include "common/ir/target.h"
#include "common/rpc/runtime_directory.h"
#include "common/rpc/unix_socket.h"

namespace trun {
namespace {

constexpr char kAbout[] =
    "trund: compiles, caches and launches Triton kernels for the programs of one user.\n"
    "It listens on a UNIX socket of mode 0600 and nowhere else. SIGTERM or SIGINT: running work ends or is "
    "cut at\n"
    "the drain deadline, then it ends with exit code 0; a second signal cuts at once. Every flag may also "
    "stand in\n"
    "the file given to --config, as NAME = VALUE lines.";

// A flag whose value is a duration ("30s", "10m", "1h30m").
CLI::Option* AddDuration(CLI::App& app, const std::string& name, absl::Duration* value,
                         const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [name, value](const std::string& text) {
            if (!absl::ParseDuration(text, value) || *value < absl::ZeroDuration() ||
                *value == absl::InfiniteDuration()) {
              throw CLI::ValidationError(name,
                                         absl::StrCat("'", text, "' is not a duration such as 30s or 10m"));
            }
          },
          help)
      ->type_name("DURATION")
      ->default_str(absl::FormatDuration(*value));
}

void AddBytes(CLI::App& app, const std::string& name, uint64_t* value, const std::string& help) {
  app.add_option(name, *value, help)
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES")
      ->capture_default_str();
}

absl::StatusOr<std::string> HomeFolder(const char* variable, const char* below_home) {
  const char* given = std::getenv(variable);
  if (given != nullptr && given[0] == '/') return std::string(given);
  const char* home = std::getenv("HOME");
  if (home == nullptr || home[0] != '/') {
    return InvalidArgument(Reason::kArgument, absl::StrCat("neither ", variable,
                                                           " nor HOME is set: give --cache-dir "
                                                           "and --toolchains-dir"));
  }
  return absl::StrCat(home, below_home);
}

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return FromErrno(errno, absl::StrCat("making the folder ", part), Reason::kUnavailable);
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

absl::StatusOr<std::string> FolderOfThisBinary() {
  TRUN_ASSIGN_OR_RETURN(const std::string binary, ProgramPath());
  return binary.substr(0, binary.rfind('/'));
}

absl::Status Absolute(std::string& path, absl::string_view flag) {
  if (path.empty() || path[0] == '/') return absl::OkStatus();
  std::array<char, PATH_MAX> folder;
  if (getcwd(folder.data(), folder.size()) == nullptr) return FromErrno(errno, flag);
  path = absl::StrCat(folder.data(), "/", path);
  return absl::OkStatus();
}

}  // namespace

std::variant<ServerOptions, ExitNow> ParseServerOptions(int argc, char** argv) {
  ServerOptions options;
  CLI::App app(kAbout, "trund");
  app.set_version_flag("--version", std::string("trund ") + TRUN_VERSION);
  app.set_config("--config", "", "Read flags from this file");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.get_formatter()->column_width(40);

  app.add_option(
      "--socket", options.socket,
      "Path of the socket, at most 102 bytes [TRUN_ADDRESS, else $XDG_RUNTIME_DIR/trun/trund.sock, else "
      "/tmp/trun-UID/trund.sock]");
  app.add_option("--cache-dir", options.cache_dir, "Folder of the kernel cache [$XDG_CACHE_HOME/trun]");
  AddBytes(app, "--cache-limit", &options.cache_limit,
           "Size of the cache on disk; the longest unused go first");
  app.add_option(
         "--toolchains-dir", options.toolchain_dirs,
         "Folder with a Triton version in each sub-folder; may be given again, new ones are installed into "
         "the first [$XDG_DATA_HOME/trun/toolchains; TRUN_TOOLCHAINS_DIR is added]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--python", options.python, "Python that installs new toolchains")->capture_default_str();
  app.add_option("--executor", options.executor, "Path of trun-executor [beside trund]");
  std::vector<std::string> emulators = {"sm_80", "sm_90"};
  app.add_option("--emulator", emulators,
                 "Architectures to emulate, a device each: sm_75, sm_80, sm_86, sm_89, sm_90")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--emulator-threads", options.emulator_threads,
                 "Host threads of an emulator; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--devices", options.devices,
                 "Devices to offer: auto (every GPU, and the emulators), cuda (every GPU, at least one), "
                 "emulator, or "
                 "GPUs by name: cuda:0,cuda:1")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--libcuda", options.libcuda,
                 "Path of the CUDA driver's library [TRUN_LIBCUDA, else the system's libcuda.so.1]");
  app.add_option("--max-sessions", options.max_sessions, "Sessions open at a time")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  AddBytes(app, "--memory-limit", &options.memory_limit,
           "Tensor memory of one user; 0: half of the machine's memory");
  app.add_option("--compile-workers", options.compile_workers, "Workers of each toolchain; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddBytes(app, "--compile-memory", &options.compile_memory, "Memory of one compile");
  AddDuration(app, "--compile-deadline", &options.compile_deadline,
              "Longest compile, where a request names none");
  app.add_flag("--allow-unconfined-frontend", options.allow_unconfined_frontend,
               "Lower Python source also where the kernel offers no seccomp: a kernel's source is then run "
               "with all rights of this daemon");
  app.add_flag("--private", options.private_daemon,
               "End when no session and no connection has been open for --idle-timeout");
  AddDuration(app, "--idle-timeout", &options.idle_timeout, "See --private");
  app.add_option("--log-file", options.log_file, "Log there, 3 files of 16 MiB [stderr]");
  std::string level = "info";
  app.add_option("--log-level", level, "Least important lines to log")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--metrics-file", options.metrics_file,
                 "Write counters there every 10 s, as Prometheus text");
  AddDuration(app, "--drain-deadline", &options.drain_deadline,
              "How long running work may go on after SIGTERM");
  app.add_option("--ready-fd", options.ready_fd,
                 "Write one byte to this descriptor when serving, then close it")
      ->check(CLI::Range(3, 1 << 20));
  try {
    app.parse(argc, argv);
    if (emulators.empty()) throw CLI::ValidationError("--emulator", "name at least one architecture");
    for (const std::string& device : options.devices) {
      int number = 0;
      absl::string_view name = device;
      if (device != "auto" && device != "cuda" && device != "emulator" &&
          !(absl::ConsumePrefix(&name, "cuda:") && absl::SimpleAtoi(name, &number) && number >= 0)) {
        throw CLI::ValidationError("--devices",
                                   absl::StrCat("'", device, "' is none of auto, cuda, emulator, cuda:N"));
      }
    }
    if (options.devices.empty()) throw CLI::ValidationError("--devices", "name at least one");
    options.emulators.clear();
    for (const std::string& name : emulators) {
      const absl::StatusOr<Target> target = Target::Parse(name);
      if (!target.ok()) throw CLI::ValidationError("--emulator", std::string(target.status().message()));
      if (IsAmd(*target))
        throw CLI::ValidationError("--emulator", "kernels of AMD's architectures are not run");
      options.emulators.push_back(target->arch);
    }
  } catch (const CLI::ConfigError& error) {
    const std::string text = error.what();
    absl::string_view name = text;
    if (!absl::ConsumePrefix(&name, "INI was not able to parse "))
      return ExitNow{app.exit(error) == 0 ? 0 : 2};
    const bool is_section = absl::ConsumeSuffix(&name, ".++");
    std::cerr << "trund: '" << name << "' in the file given to --config is "
              << (is_section ? "a section, and there are none" : "no flag; trund --help lists them")
              << std::endl;
    return ExitNow{2};
  } catch (const CLI::ParseError& error) {
    return ExitNow{app.exit(error) == 0 ? 0 : 2};
  }
  LogLevelFromName(level, &options.log_level);
  return options;
}

absl::Status ResolveServerOptions(ServerOptions& options) {
  if (options.socket.empty()) {
    TRUN_ASSIGN_OR_RETURN(options.socket, DaemonSocketPath());
  } else {
    TRUN_RETURN_IF_ERROR(Absolute(options.socket, "--socket"));
  }
  TRUN_RETURN_IF_ERROR(CheckSocketPath(DescriptorSocketPath(options.socket)));
  if (options.cache_dir.empty()) {
    TRUN_ASSIGN_OR_RETURN(const std::string folder, HomeFolder("XDG_CACHE_HOME", "/.cache"));
    options.cache_dir = absl::StrCat(folder, "/trun");
  }
  TRUN_RETURN_IF_ERROR(Absolute(options.cache_dir, "--cache-dir"));
  TRUN_RETURN_IF_ERROR(MakeFolders(options.cache_dir));
  if (options.toolchain_dirs.empty()) {
    TRUN_ASSIGN_OR_RETURN(const std::string folder, HomeFolder("XDG_DATA_HOME", "/.local/share"));
    options.toolchain_dirs.push_back(absl::StrCat(folder, "/trun/toolchains"));
  }
  if (const char* more = std::getenv("TRUN_TOOLCHAINS_DIR"); more != nullptr && *more != '\0') {
    for (absl::string_view folder : absl::StrSplit(more, ':', absl::SkipEmpty())) {
      options.toolchain_dirs.emplace_back(folder);
    }
  }
  for (std::string& folder : options.toolchain_dirs) {
    TRUN_RETURN_IF_ERROR(Absolute(folder, "--toolchains-dir"));
  }
  TRUN_RETURN_IF_ERROR(MakeFolders(options.toolchain_dirs.front()));
  TRUN_RETURN_IF_ERROR(Absolute(options.log_file, "--log-file"));
  TRUN_RETURN_IF_ERROR(Absolute(options.metrics_file, "--metrics-file"));
  if (options.executor.empty()) {
    TRUN_ASSIGN_OR_RETURN(const std::string folder, FolderOfThisBinary());
    options.executor = absl::StrCat(folder, "/trun-executor");
  }
  TRUN_RETURN_IF_ERROR(Absolute(options.executor, "--executor"));
  if (const char* libcuda = std::getenv("TRUN_LIBCUDA"); options.libcuda.empty() && libcuda != nullptr) {
    options.libcuda = libcuda;
  }
  if (access(options.executor.c_str(), X_OK) != 0) {
    return FailedPrecondition(Reason::kUnavailable, absl::StrCat(options.executor,
                                                                 " is not there: it belongs beside "
                                                                 "trund, or is named by --executor"));
  }
  return absl::OkStatus();
}

}  // namespace trun
