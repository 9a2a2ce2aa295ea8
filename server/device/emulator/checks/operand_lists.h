// The operands of an instruction's list (ld, st, ldmatrix …) and the undefined bytes of an access.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_OPERAND_LISTS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_OPERAND_LISTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {

inline constexpr uint32_t kFirstListSlot = 7;

inline bool HasUndefined(const uint8_t* undefined, uint32_t bytes) {
  return undefined != nullptr && std::memchr(undefined, 1, bytes) != nullptr;
}

// In the order of their slots.
inline std::vector<const OperandRef*> ListOf(const WatchedStep& step, bool definitions) {
  std::vector<const OperandRef*> list;
  for (const OperandRef& ref : step.operands()) {
    if (ref.is_definition == definitions && ref.slot >= kFirstListSlot && ref.slot != kGuardSlot)
      list.push_back(&ref);
  }
  std::sort(list.begin(), list.end(),
            [](const OperandRef* a, const OperandRef* b) { return a->slot < b->slot; });
  return list;
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_OPERAND_LISTS_H_
