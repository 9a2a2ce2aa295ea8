#include "client/cli/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace trun::cli {
namespace {

absl::Status FileError(int error, absl::string_view what, const std::string& path) {
  return FromErrno(error, absl::StrCat("cannot ", what, " '", path, "'"), Reason::kUnspecified);
}

absl::Status WriteAll(int fd, absl::string_view data, const std::string& path) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(errno, "write", path);
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) {
  const bool standard_input = path == "-";
  UniqueFd fd(standard_input ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileError(errno, "open", path);
  const absl::Status too_large =
      ResourceExhausted(Reason::kTooLarge, absl::StrCat("'", path, "' has more than ", limit, " bytes"),
                        {{"limit", absl::StrCat(limit)}});
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return FileError(errno, "read", path);
  if (S_ISDIR(info.st_mode))
    return InvalidArgument(Reason::kUnspecified, absl::StrCat("'", path, "' is a folder"));
  if (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) > limit) return too_large;
  std::string text;
  size_t step = S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) + 1 : size_t{64} << 10;
  for (;;) {
    const size_t done = text.size();
    text.resize(done + step);
    const ssize_t n = read(fd.get(), &text[done], step);
    text.resize(done + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(errno, "read", path);
    if (n == 0) return text;
    if (text.size() > limit) return too_large;
    step = size_t{64} << 10;
  }
}

absl::Status WriteFile(const std::string& path, absl::string_view data) {
  if (path == "-") return WriteAll(STDOUT_FILENO, data, "standard output");
  std::string temporary = absl::StrCat(path, ".XXXXXX");
  UniqueFd fd(mkostemp(&temporary[0], O_CLOEXEC));
  if (!fd.valid()) return FileError(errno, "write", path);
  absl::Status status = WriteAll(fd.get(), data, path);
  const mode_t mask = umask(0);
  umask(mask);
  if (status.ok() && fchmod(fd.get(), 0666 & ~mask) != 0) status = FileError(errno, "write", path);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = FileError(errno, "write", path);
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError(error.value(), "make the folder", path);
  return absl::OkStatus();
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace trun::cli
