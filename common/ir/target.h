#ifndef TRUN_COMMON_IR_TARGET_H_
#define TRUN_COMMON_IR_TARGET_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// What code is generated for: Triton's GPUTarget. A plain value type.
struct Target {
  std::string backend = "cuda";
  int arch = 0;  // cuda: compute capability ×10, 80 for sm_80; hip: the hexadecimal number after gfx
  int warp_size = 32;

  // "cuda:80:32", "hip:gfx942:64": the canonical form, used in cache keys.
  std::string ToString() const;
  // "sm_80", "80", "cuda:80", "cuda:80:32"; "gfx942", "hip:gfx942", "hip:gfx942:64". INVALID_ARGUMENT
  // otherwise.
  static absl::StatusOr<Target> Parse(absl::string_view text);

  friend bool operator==(const Target&, const Target&) = default;
};

}  // namespace trun

#endif  // TRUN_COMMON_IR_TARGET_H_
