#include "common/ir/target.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/ir/amd_target.h"

namespace trun {
namespace {

absl::Status NoTarget(absl::string_view text) {
  return InvalidArgument(
      Reason::kUnsupportedTarget,
      absl::StrCat("'", text,
                   "' is not a target; write sm_80, 80, cuda:80, cuda:80:32, gfx942 or hip:gfx942"));
}

// The number of "gfx942", "gfx90a", "gfx1100"; 0 for what is none.
int GfxNumber(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "gfx") || name.size() < 3 || name.size() > 4) return 0;
  int number = 0;
  for (const char c : name) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && !(c >= 'a' && c <= 'f')) return 0;
    number = number * 16 + (is_digit ? c - '0' : c - 'a' + 10);
  }
  return number;
}

}  // namespace

std::string GfxName(const Target& target) { return absl::StrCat("gfx", absl::Hex(target.arch)); }

std::string Target::ToString() const {
  if (IsAmd(*this)) return absl::StrCat(backend, ":", GfxName(*this), ":", warp_size);
  return absl::StrCat(backend, ":", arch, ":", warp_size);
}

absl::StatusOr<Target> Target::Parse(absl::string_view text) {
  Target target;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  absl::string_view arch = parts[0];
  if (parts.size() > 1) {
    target.backend = std::string(parts[0]);
    arch = parts[1];
  } else if (absl::StartsWith(arch, "gfx")) {
    target.backend = "hip";
  }
  if (parts.size() > 3) return NoTarget(text);
  if (IsAmd(target)) {
    target.arch = GfxNumber(arch);
    if (target.arch == 0) return NoTarget(text);
    // CDNA (gfx9) runs 64 threads in a warp, RDNA 32.
    target.warp_size = target.arch < 0x1000 ? 64 : 32;
    int warp_size = target.warp_size;
    if (parts.size() == 3 && (!absl::SimpleAtoi(parts[2], &warp_size) || warp_size != target.warp_size)) {
      return NoTarget(text);
    }
    return target;
  }
  absl::ConsumePrefix(&arch, "sm_");
  absl::ConsumeSuffix(&arch, "a");
  if (target.backend != "cuda" || !absl::SimpleAtoi(arch, &target.arch)) return NoTarget(text);
  if (parts.size() == 3 && !absl::SimpleAtoi(parts[2], &target.warp_size)) return NoTarget(text);
  if (target.arch < 10 || target.arch > 999 || target.warp_size != 32) return NoTarget(text);
  return target;
}

}  // namespace trun
