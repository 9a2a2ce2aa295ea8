#include "common/base/program_path.h"

#include <elf.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

absl::StatusOr<std::string> ProgramPath() {
  std::array<char, PATH_MAX> text;
  const ssize_t length = readlink("/proc/self/exe", text.data(), text.size());
  if (length > 0) return std::string(text.data(), static_cast<size_t>(length));
  const int error = errno;
  const auto* started_as = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (started_as == nullptr || *started_as == '\0') {
    return FromErrno(error, "reading /proc/self/exe, to find this program's own folder",
                     Reason::kUnavailable);
  }
  if (*started_as == '/') return std::string(started_as);
  if (getcwd(text.data(), text.size()) == nullptr) {
    return FromErrno(errno, "reading the current folder, to find this program's own", Reason::kUnavailable);
  }
  return absl::StrCat(text.data(), "/", started_as);
}

}  // namespace trun
