#include "server/device/cuda/output_capture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "common/base/status.h"

namespace trun::device {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<OutputCapture>> OutputCapture::Start() {
  UniqueFd file(memfd_create("trun-printed", MFD_CLOEXEC));
  // Appending: both descriptors share one end, and what was taken can be cut off behind the writers' backs.
  if (!file.valid() || fcntl(file.get(), F_SETFL, O_APPEND) != 0) {
    return FromErrno(errno, "making a file for what kernels print");
  }
  std::fflush(stdout);
  std::fflush(stderr);
  UniqueFd out(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  UniqueFd error(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  if (dup2(file.get(), STDOUT_FILENO) < 0 || dup2(file.get(), STDERR_FILENO) < 0) {
    return FromErrno(errno, "redirecting what kernels print");
  }
  return std::unique_ptr<OutputCapture>(new OutputCapture(std::move(file), std::move(out), std::move(error)));
}

OutputCapture::~OutputCapture() {
  std::fflush(stdout);
  std::fflush(stderr);
  if (saved_out_.valid()) dup2(saved_out_.get(), STDOUT_FILENO);
  if (saved_error_.valid()) dup2(saved_error_.get(), STDERR_FILENO);
}

std::string OutputCapture::Take() {
  // The driver prints through stdio.
  std::fflush(stdout);
  MutexLock lock(&mu_);
  struct stat facts{};
  if (fstat(file_.get(), &facts) != 0 || facts.st_size == 0) return "";
  std::string text(std::min(static_cast<size_t>(facts.st_size), kMaxBytes), '\0');
  const ssize_t got = pread(file_.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (ftruncate(file_.get(), 0) != 0) return text;
  return text;
}

}  // namespace trun::device
