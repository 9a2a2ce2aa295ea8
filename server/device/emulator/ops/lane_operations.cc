#include "server/device/emulator/ops/lane_operations.h"

#include <cstdlib>

#include "absl/strings/string_view.h"
#include "server/device/emulator/ops/lane_integer.h"

namespace trun::device {
namespace {

#define TRUN_LANE_OPERATIONS(name)     \
  {#name,                              \
   &ops_##name::SelectInteger,         \
   &ops_##name::SelectCompare,         \
   &ops_##name::SelectConvertIntegers, \
   &ops_##name::SelectLoad,            \
   &ops_##name::SelectStore,           \
   &ops_##name::SelectLoadParameter}
constexpr LaneOperations kBaseline = TRUN_LANE_OPERATIONS(baseline);
#if defined(__x86_64__)
constexpr LaneOperations kAvx2 = TRUN_LANE_OPERATIONS(avx2);
constexpr LaneOperations kAvx512 = TRUN_LANE_OPERATIONS(avx512);
#endif
#undef TRUN_LANE_OPERATIONS

const LaneOperations& Choose() {
#if defined(__x86_64__)
  // Tests run the others, too.
  const char* const named = std::getenv("TRUN_EMULATOR_LANES");
  const absl::string_view most = named != nullptr ? named : "avx512";
  if (most == "baseline") return kBaseline;
  if (__builtin_cpu_supports("avx2") == 0 || __builtin_cpu_supports("bmi2") == 0) return kBaseline;
  if (most == "avx512" && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0) {
    return kAvx512;
  }
  return kAvx2;
#else
  return kBaseline;
#endif
}

}  // namespace

const LaneOperations& HostLaneOperations() {
  static const LaneOperations& chosen = Choose();
  return chosen;
}

}  // namespace trun::device
