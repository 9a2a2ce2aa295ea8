#include "server/main/instance_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

absl::StatusOr<InstanceLock> InstanceLock::Take(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return FromErrno(errno, absl::StrCat("opening ", path), Reason::kUnavailable);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FromErrno(errno, absl::StrCat("locking ", path), Reason::kUnavailable);
    std::array<char, 32> text;
    const ssize_t length = pread(fd.get(), text.data(), text.size(), 0);
    const absl::string_view pid = absl::StripAsciiWhitespace(
        absl::string_view(text.data(), length > 0 ? static_cast<size_t>(length) : 0));
    return Unavailable(Reason::kUnavailable,
                       absl::StrCat("another daemon", pid.empty() ? "" : absl::StrCat(" (process ", pid, ")"),
                                    " serves this socket; it holds ", path),
                       {{"pid", std::string(pid)}});
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
    return FromErrno(errno, absl::StrCat("writing ", path), Reason::kUnavailable);
  }
  return InstanceLock(std::move(fd));
}

InstanceLock::~InstanceLock() {
  if (fd_.valid() && ftruncate(fd_.get(), 0) != 0) {
    // The next daemon writes its own number over what is left.
  }
}

}  // namespace trun
