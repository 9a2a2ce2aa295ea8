// Which toolchain compiles a file when the request names none.
#ifndef TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_
#define TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/level.h"
#include "server/toolchain/toolchain.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

struct ToolchainChoice {
  std::shared_ptr<Toolchain> toolchain;
  ToolchainInfo info;
  std::string reason;  // for people
};

// In the order in which to try them, at most `limit`, at least one:
// - `name` given: that one only.
// - `triton_version` (the metadata's) given: that version, else one of the same minor version, only; when
// neither is
//   there, as below.
// - else the usable ones, the newest first; of TTGIR those only that know the dialect's name in `ir`
// (triton_gpu until
//   3.2, ttg from 3.3).
// NOT_FOUND kToolchainNotFound; FAILED_PRECONDITION kToolchainBroken when the named one does not work.
absl::StatusOr<std::vector<ToolchainChoice>> ChooseToolchains(ToolchainRegistry& registry,
                                                              absl::string_view name,
                                                              absl::string_view triton_version, Level level,
                                                              absl::string_view ir, int limit);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_
