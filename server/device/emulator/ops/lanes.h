// Loops over lanes. Only for the files that are compiled per instruction set.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_LANES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_LANES_H_

#include <cstdint>

#include "server/device/emulator/exec/warp.h"

#if defined(__clang__)
#define TRUN_LANE_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define TRUN_LANE_LOOP _Pragma("GCC ivdep")
#endif

namespace trun::device::TRUN_OPS {
namespace {

// d[i] = f(i) for the lanes of the mask. Lanes may be computed and thrown away, so f must not trap.
template <typename D, typename F>
inline __attribute__((always_inline)) void ForLanes(D* d, uint32_t mask, F f) {
  if (mask == kFullMask) [[likely]] {
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i) d[i] = f(i);
  } else {
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i) {
      const D value = f(i);
      d[i] = (mask >> i & 1) != 0 ? value : d[i];
    }
  }
}

// The mask of lanes for which f says true.
template <typename F>
inline __attribute__((always_inline)) uint32_t MaskOf(F f) {
  alignas(32) uint8_t bytes[32];
  TRUN_LANE_LOOP
  for (int i = 0; i < 32; ++i) bytes[i] = f(i) ? 0xff : 0;
#if defined(__AVX2__)
  typedef char Bytes __attribute__((vector_size(32)));
  Bytes all;
  __builtin_memcpy(&all, bytes, sizeof all);
  return static_cast<uint32_t>(__builtin_ia32_pmovmskb256(all));
#else
  uint32_t mask = 0;
  for (int i = 0; i < 32; ++i) mask |= static_cast<uint32_t>(bytes[i] & 1) << i;
  return mask;
#endif
}

}  // namespace
}  // namespace trun::device::TRUN_OPS

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_LANES_H_
