// A compiled kernel as a folder of files, the form that `run` and Triton's own cache have it in.
#ifndef TRUN_CLIENT_CLI_ARTIFACT_FILES_H_
#define TRUN_CLIENT_CLI_ARTIFACT_FILES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ir/level.h"

namespace trun::cli {

struct ArtifactFiles {
  std::string kernel_name;  // the files' name, less what may lead out of the folder
  std::vector<Level> levels;
  std::string metadata_json;  // none is written for "" and "{}"
};

// Writes FOLDER/NAME.LEVEL for each level, read by `read`, and FOLDER/NAME.json; makes the folder. Returns
// the paths. Errors: those of `read` and of WriteFile.
absl::StatusOr<std::vector<std::string>> WriteArtifactFiles(
    const std::string& folder, const ArtifactFiles& files,
    const std::function<absl::StatusOr<std::string>(Level)>& read);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_ARTIFACT_FILES_H_
