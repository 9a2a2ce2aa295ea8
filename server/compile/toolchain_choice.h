// Which toolchain compiles a file when the request names none.
#ifndef TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_
#define TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/level.h"
#include "common/ir/target.h"
#include "server/toolchain/toolchain.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

struct ToolchainChoice {
  std::shared_ptr<Toolchain> toolchain;
  ToolchainInfo info;
  std::string reason;  // for people
};

struct ToolchainQuestion {
  absl::string_view name;            // asked for; empty: chosen
  absl::string_view triton_version;  // the metadata's; empty where it says none
  Level level = Level::kUnspecified;
  absl::string_view ir;
  Target target;
};

// In the order in which to try them, at least one:
// - `name` given: that one only.
// - `triton_version` given: that version, else one of the same minor version, only; where neither is there,
// as below.
// - else the usable ones, the newest first, less those that something is known against (compatibility.h).
// NOT_FOUND kToolchainNotFound (details: toolchain, where a release is known that can: the message names the
// command that installs it). FAILED_PRECONDITION kToolchainBroken when the named one does not work;
// kUnsupportedTarget when the one that was named, or that the metadata names, cannot generate code for the
// target, or no release can.
absl::StatusOr<std::vector<ToolchainChoice>> ChooseToolchains(ToolchainRegistry& registry,
                                                              const ToolchainQuestion& question);

// What a message that all toolchains refused a file can add: the release to install, where that could help.
// May be empty.
std::string InstallAdvice(ToolchainRegistry& registry, const ToolchainQuestion& question);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_TOOLCHAIN_CHOICE_H_
