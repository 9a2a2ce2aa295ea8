#include "server/compile/toolchain_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"

namespace trun {
namespace {

struct MinorVersion {
  int major = 0;
  int minor = 0;
  friend bool operator==(const MinorVersion&, const MinorVersion&) = default;
};

// {0, 0} for what is no version.
MinorVersion ParseMinor(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, absl::MaxSplits('.', 2));
  MinorVersion out;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &out.major) ||
      !absl::SimpleAtoi(parts[1], &out.minor)) {
    return MinorVersion();
  }
  return out;
}

bool KnowsDialect(const ToolchainInfo& info, Level level, absl::string_view ir) {
  const MinorVersion version = ParseMinor(info.version);
  if (level != Level::kTtgir || version == MinorVersion()) return true;
  const bool is_old = version.major < 3 || (version.major == 3 && version.minor <= 2);
  if (absl::StrContains(ir, "#triton_gpu.") || absl::StrContains(ir, "triton_gpu.num-warps")) return is_old;
  if (absl::StrContains(ir, "#ttg.") || absl::StrContains(ir, "ttg.num-warps")) return !is_old;
  return true;
}

}  // namespace

absl::StatusOr<std::vector<ToolchainChoice>> ChooseToolchains(ToolchainRegistry& registry,
                                                              absl::string_view name,
                                                              absl::string_view triton_version, Level level,
                                                              absl::string_view ir, int limit) {
  if (!name.empty()) {
    TRUN_ASSIGN_OR_RETURN(std::shared_ptr<Toolchain> toolchain, registry.Find(name));
    ToolchainInfo info = toolchain->info();
    TRUN_RETURN_IF_ERROR(info.usable);
    return std::vector<ToolchainChoice>{{std::move(toolchain), std::move(info), "the request names it"}};
  }
  std::vector<ToolchainChoice> usable;
  std::string unusable;
  for (std::shared_ptr<Toolchain>& toolchain : registry.List()) {
    ToolchainInfo info = toolchain->info();
    if (!info.usable.ok()) {
      absl::StrAppend(&unusable, "; ", info.name, ": ", info.usable.message());
      continue;
    }
    usable.push_back(ToolchainChoice{std::move(toolchain), std::move(info), {}});
  }
  if (usable.empty()) {
    return NotFound(
        Reason::kToolchainNotFound,
        absl::StrCat("no usable toolchain is installed: run `trun-client toolchains install VERSION`",
                     unusable));
  }
  std::string reason = "the newest that is installed";
  if (!triton_version.empty()) {
    for (ToolchainChoice& choice : usable) {
      if (choice.info.version != triton_version) continue;
      choice.reason = absl::StrCat("the metadata names Triton ", triton_version);
      return std::vector<ToolchainChoice>{std::move(choice)};
    }
    for (ToolchainChoice& choice : usable) {
      const MinorVersion version = ParseMinor(choice.info.version);
      if (version == MinorVersion() || !(version == ParseMinor(triton_version))) continue;
      choice.reason =
          absl::StrCat("the metadata names Triton ", triton_version, ", this is its nearest relative");
      return std::vector<ToolchainChoice>{std::move(choice)};
    }
    reason = absl::StrCat("the metadata names Triton ", triton_version,
                          ", which is not installed; the newest one");
  }
  std::vector<ToolchainChoice> choices;
  for (ToolchainChoice& choice : usable) {
    if (static_cast<int>(choices.size()) >= std::max(limit, 1)) break;
    if (!KnowsDialect(choice.info, level, ir)) continue;
    choice.reason = reason;
    choices.push_back(std::move(choice));
  }
  if (choices.empty()) {
    return NotFound(
        Reason::kToolchainNotFound,
        "no installed Triton knows this file's dialect (triton_gpu until 3.2, ttg from 3.3): install one "
        "with `trun-client toolchains install VERSION`");
  }
  if (choices.front().info.name != usable.front().info.name && !usable.front().info.name.empty()) {
    choices.front().reason = "the newest that knows this file's dialect";
  }
  return choices;
}

}  // namespace trun
