#include "server/compile/toolchain_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "server/compile/compatibility.h"

namespace trun {
namespace {

// "3.4" of "3.4.0"; what has no two parts stays as it is.
absl::string_view MinorOf(absl::string_view version) {
  const size_t first = version.find('.');
  if (first == absl::string_view::npos) return version;
  return version.substr(0, version.find('.', first + 1));
}

absl::Status CannotTarget(const ToolchainInfo& info, const Target& target) {
  const std::string obstacle = TargetObstacle(info, target);
  if (obstacle.empty()) return absl::OkStatus();
  return FailedPrecondition(
      Reason::kUnsupportedTarget,
      absl::StrCat("toolchain ", info.name, " cannot compile for ", target.ToString(), ": ", obstacle),
      {{"toolchain", info.name}});
}

// The usable ones, the newest first; what is wrong with the others goes to `unusable`.
std::vector<ToolchainChoice> Usable(ToolchainRegistry& registry, std::string* unusable) {
  std::vector<ToolchainChoice> usable;
  for (std::shared_ptr<Toolchain>& toolchain : registry.List()) {
    ToolchainInfo info = toolchain->info();
    if (!info.usable.ok()) {
      absl::StrAppend(unusable, "; ", info.name, ": ", info.usable.message());
      continue;
    }
    usable.push_back(ToolchainChoice{std::move(toolchain), std::move(info), {}});
  }
  return usable;
}

absl::Status NoneInstalled(const ToolchainQuestion& question, const FileTraits& file, absl::string_view why) {
  const std::string release = ReleaseFor(file, question.target);
  if (release.empty()) {
    return FailedPrecondition(Reason::kUnsupportedTarget,
                              absl::StrCat("no released Triton compiles this ", LevelName(question.level),
                                           " for ", question.target.ToString(), why));
  }
  return NotFound(Reason::kToolchainNotFound,
                  absl::StrCat("no installed Triton compiles this ", LevelName(question.level), " for ",
                               question.target.ToString(), why, "; Triton ", release,
                               " does: run `trun-client toolchains install ", release, "`"),
                  {{"toolchain", release}});
}

// The choice that the metadata's version asks for; an empty one where nothing of that minor version is there,
// or only what is known to refuse the file.
ToolchainChoice OfVersion(std::vector<ToolchainChoice>& usable, const ToolchainQuestion& question,
                          const FileTraits& file) {
  const absl::string_view version = question.triton_version;
  for (ToolchainChoice& choice : usable) {
    if (choice.info.version != version) continue;
    choice.reason = absl::StrCat("the metadata names Triton ", version);
    return choice;
  }
  for (ToolchainChoice& choice : usable) {
    if (MinorOf(choice.info.version) != MinorOf(version)) continue;
    // A fork's version may have the number of a release that cannot read its files.
    if (!FileObstacle(choice.info, file, question.target).empty()) continue;
    choice.reason = absl::StrCat("the metadata names Triton ", version, ", this is its nearest relative");
    return choice;
  }
  return {};
}

}  // namespace

absl::StatusOr<std::vector<ToolchainChoice>> ChooseToolchains(ToolchainRegistry& registry,
                                                              const ToolchainQuestion& question) {
  if (!question.name.empty()) {
    TRUN_ASSIGN_OR_RETURN(std::shared_ptr<Toolchain> toolchain, registry.Find(question.name));
    ToolchainInfo info = toolchain->info();
    TRUN_RETURN_IF_ERROR(info.usable);
    TRUN_RETURN_IF_ERROR(CannotTarget(info, question.target));
    return std::vector<ToolchainChoice>{{std::move(toolchain), std::move(info), "the request names it"}};
  }
  std::string unusable;
  std::vector<ToolchainChoice> usable = Usable(registry, &unusable);
  const FileTraits file = TraitsOf(question.level, question.ir);
  if (usable.empty()) {
    const std::string release = ReleaseFor(file, question.target);
    return NotFound(Reason::kToolchainNotFound,
                    absl::StrCat("no usable toolchain is installed: run `trun-client toolchains install ",
                                 release, "`", unusable),
                    {{"toolchain", release}});
  }
  std::string reason = "the newest that is installed";
  if (!question.triton_version.empty()) {
    ToolchainChoice named = OfVersion(usable, question, file);
    if (named.toolchain != nullptr) {
      TRUN_RETURN_IF_ERROR(CannotTarget(named.info, question.target));
      return std::vector<ToolchainChoice>{std::move(named)};
    }
    reason = absl::StrCat("the metadata names Triton ", question.triton_version,
                          ", which is not installed; the newest one");
  }
  std::vector<ToolchainChoice> choices;
  std::string against;  // of the newest
  for (ToolchainChoice& choice : usable) {
    std::string obstacle = TargetObstacle(choice.info, question.target);
    if (obstacle.empty()) obstacle = FileObstacle(choice.info, file, question.target);
    if (!obstacle.empty()) {
      if (against.empty() && choices.empty()) against = absl::StrCat(choice.info.name, ": ", obstacle);
      continue;
    }
    choice.reason =
        against.empty() ? reason : absl::StrCat("the newest that can compile this file (not ", against, ")");
    choices.push_back(std::move(choice));
  }
  if (choices.empty()) return NoneInstalled(question, file, absl::StrCat(" (", against, ")"));
  return choices;
}

std::string InstallAdvice(ToolchainRegistry& registry, const ToolchainQuestion& question) {
  const std::string release = ReleaseFor(TraitsOf(question.level, question.ir), question.target);
  if (release.empty() || registry.Find(release).ok()) return "";
  return absl::StrCat("; Triton ", release, " may take it: run `trun-client toolchains install ", release,
                      "`");
}

}  // namespace trun
