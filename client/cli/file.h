#ifndef TRUN_CLIENT_CLI_FILE_H_
#define TRUN_CLIENT_CLI_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun::cli {

// A whole file; "-" is standard input. NOT_FOUND, PERMISSION_DENIED, ... with the path in the message;
// RESOURCE_EXHAUSTED kTooLarge over `limit` bytes, without reading them.
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit);
// Writes beside `path` and renames: a reader never sees half a file. "-" is standard output.
absl::Status WriteFile(const std::string& path, absl::string_view data);
// Makes the folder and its parents.
absl::Status MakeFolders(const std::string& path);
bool FileExists(const std::string& path);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_FILE_H_
