#include "server/toolchain/triton/installer.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <regex>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/subprocess/subprocess.h"
#include "server/toolchain/triton/worker_json.h"

extern char** environ;

namespace trun {
namespace {

namespace fs = std::filesystem;

constexpr double kVenvDone = 0.08;
constexpr double kDownloadDone = 0.75;
constexpr double kInstallDone = 0.95;

// pip needs the operator's proxy, certificates, index and cache; nothing else of our environment.
std::map<std::string, std::string> PipEnvironment(const std::string& scratch) {
  std::map<std::string, std::string> env = {
      {"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"LANG", "C.UTF-8"}, {"TMPDIR", scratch}};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::pair<absl::string_view, absl::string_view> setting =
        absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    const absl::string_view name = setting.first;
    if (absl::StartsWith(name, "PIP_") || absl::EndsWithIgnoreCase(name, "_proxy") || name == "HOME" ||
        name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" || name == "REQUESTS_CA_BUNDLE" ||
        name == "XDG_CACHE_HOME" || name == "XDG_CONFIG_HOME") {
      env[std::string(name)] = std::string(setting.second);
    }
  }
  return env;
}

std::string ReadAll(const UniqueFd& file) {
  struct stat state{};
  if (fstat(file.get(), &state) != 0 || state.st_size <= 0) return "";
  std::string text(static_cast<size_t>(std::min<off_t>(state.st_size, 8 << 20)), '\0');
  const ssize_t got = pread(file.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

// The largest file being downloaded: pip keeps it in a pip-unpack folder under TMPDIR.
double LargestFile(const std::string& folder) {
  double largest = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (it->is_regular_file(gone)) largest = std::max(largest, static_cast<double>(it->file_size(gone)));
  }
  return largest;
}

// Runs a command to its end, calling `tick` with its output so far about four times a second.
absl::StatusOr<ExitStatus> RunWithTicks(std::vector<std::string> argv, const std::string& scratch,
                                        std::string* output,
                                        const std::function<void(absl::string_view)>& tick) {
  UniqueFd log(memfd_create("trun-install-log", MFD_CLOEXEC));
  if (!log.valid()) return FromErrno(errno, "cannot make a log", Reason::kUnavailable);
  SubprocessOptions options;
  options.argv = std::move(argv);
  options.env = PipEnvironment(scratch);
  options.stdout_fd = log.get();
  options.stderr_fd = log.get();
  TRUN_ASSIGN_OR_RETURN(const std::unique_ptr<Subprocess> child, Subprocess::Start(options));
  while (true) {
    absl::StatusOr<ExitStatus> exit = child->Wait(absl::Milliseconds(250));
    *output = ReadAll(log);
    tick(*output);
    if (exit.ok() || !absl::IsDeadlineExceeded(exit.status())) return exit;
  }
}

double BytesOf(const std::string& number, const std::string& unit) {
  double value = 0;
  if (!absl::SimpleAtod(number, &value)) return 0;
  return value * (unit == "GB" ? 1e9 : unit == "MB" ? 1e6 : unit == "kB" ? 1e3 : 1);
}

}  // namespace

PipState ParsePipOutput(absl::string_view output) {
  PipState state{"asking the package index", 0, false};
  // Of an index other than the usual one pip shows the whole address; what ends in .whl.metadata is no wheel.
  static const std::regex download(
      R"(Downloading (?:\S*/)?([^/\s]+?)-(\d[^/\s]*?)-[^/\s]*\.whl(?:[?#]\S*)? \(([\d.]+) ?([kMG]?B)\))");
  for (absl::string_view view : absl::StrSplit(output, '\n')) {
    const std::string line(view.substr(0, 1000));
    std::smatch found;
    if (std::regex_search(line, found, download)) {
      state.step = absl::StrCat("downloading ", found[1].str(), " ", found[2].str(), " (", found[3].str(),
                                " ", found[4].str(), ")");
      state.download_bytes = BytesOf(found[3], found[4]);
    } else if (absl::StrContains(line, "Using cached")) {
      state.step = "taking the wheel from pip's cache";
    } else if (absl::StrContains(line, "Installing collected packages")) {
      state.step = "installing";
      state.installing = true;
    }
  }
  return state;
}

absl::Status StatusOfPip(absl::string_view version, absl::string_view output) {
  const std::string tail =
      PrintableText(output.substr(output.size() - std::min<size_t>(output.size(), 1500)));
  if (absl::StrContains(output, "No space left on device")) {
    return ResourceExhausted(Reason::kOutOfMemory, absl::StrCat("the disk is full: triton ", version,
                                                                " needs up to 2 GB while it is installed"));
  }
  for (absl::string_view sign : {"Retrying (Retry(", "NewConnectionError", "ConnectionError",
                                 "Could not fetch URL", "Max retries exceeded", "ReadTimeoutError",
                                 "ProxyError", "SSLError", "Temporary failure in name resolution"}) {
    if (absl::StrContains(output, sign)) {
      return Unavailable(
          Reason::kUnavailable,
          absl::StrCat("the package index cannot be reached (is a proxy or PIP_INDEX_URL needed?)\n", tail));
    }
  }
  if (absl::StrContains(output, "No matching distribution") ||
      absl::StrContains(output, "Could not find a version")) {
    std::smatch found;
    static const std::regex list(R"(from versions: ([^)]*)\))");
    const std::string text(output);
    const bool listed = std::regex_search(text, found, list);
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("there is no triton ", version, " for this Python and machine",
                                        listed ? absl::StrCat("; there are: ", found[1].str()) : ""),
                           {{"argument", "version"}});
  }
  return FailedPrecondition(Reason::kToolchainBroken,
                            absl::StrCat("pip failed to install triton ", version, "\n", tail));
}

absl::Status InstallTriton(const InstallRequest& request,
                           const std::function<void(const ToolchainProgress&)>& on_progress) {
  double reached = 0;
  std::string last_step;
  const auto report = [&](const std::string& step, double fraction) {
    if (fraction <= reached && step == last_step) return;
    reached = std::max(reached, fraction);
    last_step = step;
    on_progress({step, reached});
  };
  std::error_code error;
  fs::create_directories(request.folder, error);
  if (error) {
    return FromErrno(error.value(), absl::StrCat("cannot make ", request.folder), Reason::kUnavailable);
  }
  const std::string building = absl::StrCat(request.folder, "/.installing-", request.version, "-", getpid());
  const std::string scratch = absl::StrCat(building, "/tmp");
  fs::remove_all(building, error);
  const auto clean = absl::MakeCleanup([&building] {
    std::error_code ignored;
    fs::remove_all(building, ignored);
  });
  fs::create_directories(scratch, error);
  if (error) return FromErrno(error.value(), absl::StrCat("cannot make ", building), Reason::kUnavailable);

  std::string output;
  report("making a virtual environment", 0.01);
  absl::StatusOr<ExitStatus> exit =
      RunWithTicks({request.python, "-m", "venv", building}, scratch, &output, [](absl::string_view) {});
  if (!exit.ok() || exit->signaled || exit->code != 0) {
    return FailedPrecondition(
        Reason::kToolchainBroken,
        absl::StrCat(request.python,
                     " cannot make a virtual environment (is python3-venv "
                     "installed?): ",
                     exit.ok() ? PrintableText(output) : std::string(exit.status().message())));
  }

  const std::string python = absl::StrCat(building, "/bin/python");
  exit = RunWithTicks(
      {python, "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check", "--retries",
       "2", "--timeout", "20", absl::StrCat("triton==", request.version), "setuptools", "filelock"},
      scratch, &output, [&](absl::string_view so_far) {
        const PipState state = ParsePipOutput(so_far);
        double fraction = kVenvDone;
        if (state.installing) {
          fraction = kDownloadDone + 0.01;
        } else if (state.download_bytes > 0) {
          const double part = std::min(1.0, LargestFile(scratch) / state.download_bytes);
          fraction = kVenvDone + (kDownloadDone - kVenvDone) * part;
        }
        report(state.step, fraction);
      });
  if (!exit.ok()) return exit.status();
  if (exit->signaled) {
    return Unavailable(Reason::kUnavailable, absl::StrCat("pip was ended by ", exit->ToString()));
  }
  if (exit->code != 0) return StatusOfPip(request.version, output);

  report("putting it into place", kInstallDone);
  fs::remove_all(scratch, error);
  const std::string place = absl::StrCat(request.folder, "/", request.version);
  if (rename(building.c_str(), place.c_str()) != 0) {
    return FromErrno(errno, absl::StrCat("cannot rename ", building, " to ", place), Reason::kUnavailable);
  }
  return absl::OkStatus();
}

}  // namespace trun
