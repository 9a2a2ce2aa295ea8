#include "client/cli/artifact_files.h"

#include "absl/strings/str_cat.h"
#include "client/cli/file.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

// A kernel's name as the stem of files: nothing that leads out of the folder.
std::string FileStem(const std::string& kernel_name) {
  std::string stem;
  for (const char c : kernel_name.substr(0, 128)) {
    const bool fine =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    stem.push_back(fine ? c : '_');
  }
  return stem.empty() ? "kernel" : stem;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> WriteArtifactFiles(
    const std::string& folder, const ArtifactFiles& files,
    const std::function<absl::StatusOr<std::string>(Level)>& read) {
  TRUN_RETURN_IF_ERROR(MakeFolders(folder));
  const std::string stem = absl::StrCat(folder, folder.back() == '/' ? "" : "/", FileStem(files.kernel_name));
  std::vector<std::string> written;
  for (const Level level : files.levels) {
    TRUN_ASSIGN_OR_RETURN(const std::string bytes, read(level));
    written.push_back(absl::StrCat(stem, ".", LevelName(level)));
    TRUN_RETURN_IF_ERROR(WriteFile(written.back(), bytes));
  }
  if (!files.metadata_json.empty() && files.metadata_json != "{}") {
    written.push_back(stem + ".json");
    TRUN_RETURN_IF_ERROR(WriteFile(written.back(), files.metadata_json + "\n"));
  }
  return written;
}

}  // namespace trun::cli
