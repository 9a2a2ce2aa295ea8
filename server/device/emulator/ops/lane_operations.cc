#include "server/device/emulator/ops/lane_operations.h"

#include "server/device/emulator/ops/lane_integer.h"

namespace trun::device {

const LaneOperations& HostLaneOperations() {
  static const LaneOperations kBaseline = {"baseline",
                                           &ops_baseline::SelectInteger,
                                           &ops_baseline::SelectCompare,
                                           &ops_baseline::SelectConvertIntegers,
                                           &ops_baseline::SelectLoad,
                                           &ops_baseline::SelectStore,
                                           &ops_baseline::SelectLoadParameter};
#if defined(__x86_64__)
  static const LaneOperations kAvx2 = {"avx2",
                                       &ops_avx2::SelectInteger,
                                       &ops_avx2::SelectCompare,
                                       &ops_avx2::SelectConvertIntegers,
                                       &ops_avx2::SelectLoad,
                                       &ops_avx2::SelectStore,
                                       &ops_avx2::SelectLoadParameter};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return kAvx2;
#endif
  return kBaseline;
}

}  // namespace trun::device
