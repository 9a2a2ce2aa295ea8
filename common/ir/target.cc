#include "common/ir/target.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"

namespace trun {

std::string Target::ToString() const { return absl::StrCat(backend, ":", arch, ":", warp_size); }

absl::StatusOr<Target> Target::Parse(absl::string_view text) {
  const absl::Status error =
      InvalidArgument(Reason::kUnsupportedTarget,
                      absl::StrCat("'", text, "' is not a target; write sm_80, 80, cuda:80 or cuda:80:32"));
  Target target;
  std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  absl::string_view arch = parts[0];
  if (parts.size() > 1) {
    target.backend = std::string(parts[0]);
    arch = parts[1];
  }
  absl::ConsumePrefix(&arch, "sm_");
  absl::ConsumeSuffix(&arch, "a");
  if (parts.size() > 3 || target.backend != "cuda" || !absl::SimpleAtoi(arch, &target.arch)) return error;
  if (parts.size() == 3 && !absl::SimpleAtoi(parts[2], &target.warp_size)) return error;
  if (target.arch < 10 || target.arch > 999 || target.warp_size != 32) return error;
  return target;
}

}  // namespace trun
