// The record of a compile's passes as files in a folder. Its bytes: docs/formats/passes.md.
#ifndef TRUN_CLIENT_CLI_PASS_FILES_H_
#define TRUN_CLIENT_CLI_PASS_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun::cli {

struct RecordedPass {
  std::string name;  // "ttgir/cse#2"
  uint32_t index = 0;
  bool changed = false;
  double microseconds = 0;
  absl::string_view ir;  // after it, also where it changed nothing; points into the record
};

// DATA_LOSS kCorrupt: not a record. The result points into `record`.
absl::StatusOr<std::vector<RecordedPass>> ParsePassRecord(absl::string_view record);

// "012-ttgir-accelerate_matmul-changed.mlir", "013-ttgir-cse.2.mlir".
std::string PassFileName(const RecordedPass& pass);

// Writes a file a pass, only those that changed something where `changed_only`, and passes.json, which lists
// all of them. Returns the number of files of passes. The statuses of WriteFile and MakeFolders.
absl::StatusOr<int> WritePassFiles(const std::vector<RecordedPass>& passes, const std::string& folder,
                                   bool changed_only);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_PASS_FILES_H_
