// Where the state spaces lie in generic 64-bit addresses.
//
// Global memory has the addresses that arenas are mapped at. The other spaces are windows far above anything
// that a host can map: a generic address is the window's base plus the address within the space (cvta).
#ifndef TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ADDRESS_SPACE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ADDRESS_SPACE_H_

#include <cstdint>

#include "server/device/emulator/program/form.h"

namespace trun::device {

inline constexpr uint64_t kWindowBytes = uint64_t{1} << 32;
inline constexpr uint64_t kModuleBase = 0x00f0'0000'0000'0000;  // variables of modules (.global, .const)
inline constexpr uint64_t kSharedWindow = 0x00fe'0000'0000'0000;
inline constexpr uint64_t kLocalWindow = 0x00fd'0000'0000'0000;
inline constexpr uint64_t kParamWindow = 0x00fc'0000'0000'0000;

// Shared addresses have 32 bits. The top byte is 0 for the own CTA and 1 + rank for a CTA of the cluster
// (mapa), so that a shared::cta address is a shared::cluster address too.
inline constexpr uint32_t kSharedRankShift = 24;
inline constexpr uint32_t kMaxSharedBytes = uint32_t{1} << kSharedRankShift;

constexpr Space SpaceOfGeneric(uint64_t address) {
  if (address < kParamWindow || address >= kSharedWindow + kWindowBytes) return Space::kGlobal;
  if (address >= kSharedWindow) return Space::kSharedCluster;
  if (address >= kLocalWindow && address < kLocalWindow + kWindowBytes) return Space::kLocal;
  if (address < kParamWindow + kWindowBytes) return Space::kParam;
  return Space::kGlobal;
}

constexpr uint64_t WindowOf(Space space) {
  switch (space) {
    case Space::kShared:
    case Space::kSharedCluster:
      return kSharedWindow;
    case Space::kLocal:
      return kLocalWindow;
    case Space::kParam:
      return kParamWindow;
    default:
      return 0;
  }
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ADDRESS_SPACE_H_
