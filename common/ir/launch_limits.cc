#include "common/ir/launch_limits.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

absl::Status TooMuchSharedMemory(absl::string_view kernel, uint64_t needed, absl::string_view where,
                                 uint64_t limit) {
  return InvalidArgument(
      Reason::kLaunchShape,
      absl::StrCat("kernel '", absl::CHexEscape(kernel.substr(0, 200)), "' needs ", needed,
                   " bytes of shared memory for one block; ", where, " has at most ", limit,
                   ": compile it with smaller blocks or fewer stages (num_stages)"),
      {{"key", "shared"}, {"bytes", absl::StrCat(needed)}, {"limit", absl::StrCat(limit)}});
}

}  // namespace trun
