#include "common/rpc/runtime_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/rpc/unix_socket.h"

namespace trun {
namespace {

std::string Getenv(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsOwnedDirectory(const std::string& path, uid_t uid) {
  struct stat info;
  return !path.empty() && path[0] == '/' && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         info.st_uid == uid;
}

}  // namespace

RuntimeEnvironment RuntimeEnvironment::Current() {
  RuntimeEnvironment environment;
  environment.trun_address = Getenv("TRUN_ADDRESS");
  environment.xdg_runtime_dir = Getenv("XDG_RUNTIME_DIR");
  environment.uid = geteuid();
  return environment;
}

absl::Status MakePrivateDirectory(const std::string& path, uid_t uid) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return FromErrno(errno, absl::StrCat("making the folder ", path), Reason::kUnavailable);
  }
  struct stat info;
  if (lstat(path.c_str(), &info) != 0)
    return FromErrno(errno, absl::StrCat("looking at ", path), Reason::kUnavailable);
  absl::string_view wrong;
  if (!S_ISDIR(info.st_mode)) {
    wrong = "is not a folder";
  } else if (info.st_uid != uid) {
    wrong = "belongs to another user";
  } else if ((info.st_mode & 0777) != 0700) {
    wrong = "does not have mode 0700";
  }
  if (wrong.empty()) return absl::OkStatus();
  return FailedPrecondition(
      Reason::kNotPermitted,
      absl::StrCat(path, " ", wrong, ": remove it, or set TRUN_ADDRESS to a socket elsewhere"));
}

absl::StatusOr<std::string> RuntimeDirectory(const RuntimeEnvironment& environment) {
  // A folder of another user (left over from su or sudo) is passed over, as the XDG specification asks.
  std::string path = IsOwnedDirectory(environment.xdg_runtime_dir, environment.uid)
                         ? absl::StrCat(environment.xdg_runtime_dir, "/trun")
                         : absl::StrCat(environment.temp, "/trun-", environment.uid);
  TRUN_RETURN_IF_ERROR(MakePrivateDirectory(path, environment.uid));
  return path;
}

absl::StatusOr<std::string> ParseAddress(absl::string_view address) {
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, "unix:")) {
    if (path.substr(0, 3) == "///") path.remove_prefix(2);
  }
  const absl::Status checked = CheckSocketPath(std::string(path));
  if (!checked.ok()) {
    return Annotate(checked, absl::StrCat("the address '", address, "' is not unix:/path or /path"));
  }
  return std::string(path);
}

absl::StatusOr<std::string> DaemonSocketPath(const RuntimeEnvironment& environment) {
  if (!environment.trun_address.empty()) {
    absl::StatusOr<std::string> path = ParseAddress(environment.trun_address);
    if (!path.ok()) return Annotate(path.status(), "TRUN_ADDRESS");
    return path;
  }
  TRUN_ASSIGN_OR_RETURN(const std::string directory, RuntimeDirectory(environment));
  std::string path = absl::StrCat(directory, "/trund.sock");
  TRUN_RETURN_IF_ERROR(CheckSocketPath(DescriptorSocketPath(path)));
  return path;
}

std::string DescriptorSocketPath(absl::string_view socket_path) { return absl::StrCat(socket_path, ".fds"); }
std::string DaemonLockPath(absl::string_view socket_path) { return absl::StrCat(socket_path, ".lock"); }
std::string StartLockPath(absl::string_view socket_path) { return absl::StrCat(socket_path, ".start"); }

}  // namespace trun
