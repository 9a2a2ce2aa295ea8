#include "client/cli/log_follower.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace trun::cli {

absl::Status FollowLog(const std::string& path, off_t from, Console& console) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd watch(inotify_init1(IN_CLOEXEC));
  if (!file.valid() || !watch.valid() ||
      inotify_add_watch(watch.get(), path.c_str(), IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF) <
          0) {
    return FromErrno(errno, absl::StrCat("cannot follow '", path, "'"), Reason::kUnspecified);
  }
  const off_t size = lseek(file.get(), 0, SEEK_END);
  // A shorter one is another file: it took the place of the one that was looked at before.
  if (size < 0 || lseek(file.get(), from <= size ? from : 0, SEEK_SET) < 0) {
    return FromErrno(errno, absl::StrCat("cannot read '", path, "'"));
  }
  bool gone = false;
  for (;;) {
    char buffer[4096];
    ssize_t n;
    while ((n = read(file.get(), buffer, sizeof buffer)) > 0) {
      console.Print(absl::string_view(buffer, static_cast<size_t>(n)));
    }
    if (n < 0 && errno != EINTR) return FromErrno(errno, absl::StrCat("cannot read '", path, "'"));
    if (console.Flush() != 0 || gone) return absl::OkStatus();
    alignas(struct inotify_event) char events[4096];
    const ssize_t bytes = read(watch.get(), events, sizeof events);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return FromErrno(errno, absl::StrCat("cannot follow '", path, "'"));
    for (ssize_t at = 0; at < bytes;) {
      const auto* event = reinterpret_cast<const struct inotify_event*>(events + at);
      gone = gone || (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0;
      at += static_cast<ssize_t>(sizeof(struct inotify_event) + event->len);
    }
  }
}

}  // namespace trun::cli
