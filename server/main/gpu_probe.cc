#include "server/main/gpu_probe.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/subprocess/subprocess.h"
#include "server/executor/control/subprocess_executor_factory.h"

namespace trun {
namespace {

constexpr char kDriverDevice[] = "/dev/nvidiactl";
constexpr absl::Duration kProbeTimeout = absl::Seconds(30);

absl::Status NoGpu(absl::string_view why) {
  return FailedPrecondition(Reason::kUnavailable, absl::StrCat("no GPU can be used: ", why));
}

std::string ReadAll(const UniqueFd& file) {
  std::array<char, 4096> text;
  const ssize_t got = pread(file.get(), text.data(), text.size(), 0);
  return std::string(
      absl::StripSuffix(absl::string_view(text.data(), got > 0 ? static_cast<size_t>(got) : 0), "\n"));
}

}  // namespace

absl::StatusOr<int> ProbeGpus(const std::string& executor, const std::string& libcuda) {
  if (libcuda.empty() && access(kDriverDevice, F_OK) != 0) {
    return NoGpu(absl::StrCat(kDriverDevice,
                              " is not there: this machine has no NVIDIA GPU, or its driver is not "
                              "loaded, or the container was not given it"));
  }
  const UniqueFd out(memfd_create("trun-probe", MFD_CLOEXEC));
  const UniqueFd error(memfd_create("trun-probe-error", MFD_CLOEXEC));
  if (!out.valid() || !error.valid()) return FromErrno(errno, "making files for the GPU probe");
  // The environment of a GPU's executor, so that the answer is its too.
  const ExecutorCommand command = CudaExecutorCommand(executor, 0, libcuda);
  SubprocessOptions options;
  options.argv = {executor, "--probe"};
  if (!libcuda.empty()) options.argv.push_back(absl::StrCat("--libcuda=", libcuda));
  options.env = command.environment;
  options.stdout_fd = out.get();
  options.stderr_fd = error.get();
  TRUN_ASSIGN_OR_RETURN(const std::unique_ptr<Subprocess> process, Subprocess::Start(options));
  const absl::StatusOr<ExitStatus> exit = process->Wait(kProbeTimeout);
  if (!exit.ok())
    return NoGpu(absl::StrCat("the driver did not answer within ", absl::FormatDuration(kProbeTimeout)));
  int count = 0;
  if (exit->code == 0 && !exit->signaled && absl::SimpleAtoi(ReadAll(out), &count) && count > 0) return count;
  const std::string said = ReadAll(error);
  return NoGpu(said.empty() ? absl::StrCat("trun-executor --probe ended with ", exit->ToString()) : said);
}

}  // namespace trun
