// The levels of Triton's pipeline, in order: a compile goes from a level to a later one.
#ifndef TRUN_COMMON_IR_LEVEL_H_
#define TRUN_COMMON_IR_LEVEL_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// Numbers are those of trun.v1.Level. kAmdgcn and kHsaco stand for PTX and cubin on AMD targets.
enum class Level : int {
  kUnspecified = 0,
  kPython = 1,
  kGluon = 2,
  kTtir = 3,
  kTtgir = 4,
  kLlir = 5,
  kPtx = 6,
  kCubin = 7,
  kAmdgcn = 8,
  kHsaco = 9,
};

// "ttir", ...: also the file extension and the name of Triton's stage.
absl::string_view LevelName(Level level);
// INVALID_ARGUMENT that lists the names.
absl::StatusOr<Level> LevelFromName(absl::string_view name);

}  // namespace trun

#endif  // TRUN_COMMON_IR_LEVEL_H_
