#include "common/ir/level.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/ir/pass_record_level.h"

namespace trun {
namespace {

constexpr std::array<absl::string_view, 11> kNames = {
    "unspecified", "python", "gluon", "ttir", "ttgir", "llir", "ptx", "cubin", "amdgcn", "hsaco", "passes"};

}  // namespace

absl::string_view LevelName(Level level) {
  const size_t index = static_cast<size_t>(level);
  return index < kNames.size() ? kNames[index] : kNames[0];
}

absl::StatusOr<Level> LevelFromName(absl::string_view name) {
  for (size_t i = 1; i < static_cast<size_t>(kPassRecordLevel); ++i) {
    if (kNames[i] == name) return static_cast<Level>(i);
  }
  return InvalidArgument(Reason::kUnsupportedLevel,
                         absl::StrCat("'", name,
                                      "' is not a level; the levels are python, gluon, ttir, ttgir, llir, "
                                      "ptx, cubin, amdgcn and hsaco"));
}

}  // namespace trun
