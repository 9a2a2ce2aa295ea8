#include "server/device/memory_check.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {

absl::Status NotInAnArena(uint64_t address, uint64_t bytes) {
  return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument,
                   absl::StrCat(bytes, " bytes at 0x", absl::Hex(address), " do not lie in one arena"));
}

absl::Status CheckPattern(absl::string_view pattern, uint64_t bytes) {
  if (!pattern.empty() && pattern.size() <= 8 && bytes % pattern.size() == 0) return absl::OkStatus();
  return InvalidArgument(Reason::kArgument,
                         absl::StrCat("a pattern of ", pattern.size(), " bytes does not fill ", bytes,
                                      " bytes evenly; it has 1 to 8"));
}

absl::Status CheckDisjoint(uint64_t to, uint64_t from, uint64_t bytes) {
  const uint64_t apart = to > from ? to - from : from - to;
  if (bytes == 0 || apart >= bytes) return absl::OkStatus();
  return InvalidArgument(Reason::kArgument, "the ranges of the copy overlap");
}

}  // namespace trun::device
