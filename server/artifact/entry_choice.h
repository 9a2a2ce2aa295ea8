// Picks the entry a caller means from those a file has. Pure function, thread-safe.
#ifndef TRUN_SERVER_ARTIFACT_ENTRY_CHOICE_H_
#define TRUN_SERVER_ARTIFACT_ENTRY_CHOICE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"

namespace trun {

// The entry called `name`, or the only one where `name` is empty. `Entry` has a `name`.
// INVALID_ARGUMENT kArgument (details: kernel) that lists the entries; kInvalidIr where there is none at all.
template <typename Entry>
absl::StatusOr<const Entry*> ChooseEntry(const std::vector<Entry>& entries, absl::string_view name) {
  if (entries.empty())
    return InvalidArgument(Reason::kInvalidIr, "the file has no kernel: no public entry is in it");
  if (name.empty() && entries.size() == 1) return &entries[0];
  for (const Entry& entry : entries) {
    if (!name.empty() && entry.name == name) return &entry;
  }
  constexpr size_t kListed = 16;
  std::string listed;
  for (size_t i = 0; i < entries.size() && i < kListed; ++i) {
    absl::StrAppend(&listed, i == 0 ? "" : ", ",
                    absl::CHexEscape(absl::string_view(entries[i].name).substr(0, 100)));
  }
  if (entries.size() > kListed) absl::StrAppend(&listed, " and ", entries.size() - kListed, " more");
  if (name.empty()) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("the file has ", entries.size(), " kernels (",
                                                           listed, "): say which by its name"));
  }
  return InvalidArgument(
      Reason::kArgument,
      absl::StrCat("the file has no kernel '", absl::CHexEscape(name.substr(0, 200)), "'; it has ", listed),
      {{"kernel", absl::CHexEscape(name.substr(0, 200))}});
}

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_ENTRY_CHOICE_H_
