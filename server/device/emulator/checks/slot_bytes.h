// Undefined bytes of the operands of one instruction, by slot: for instructions that mix lanes.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_SLOT_BYTES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_SLOT_BYTES_H_

#include <cstdint>
#include <vector>

#include "server/device/emulator/checks/definedness.h"

namespace trun::device {

// Thread-compatible.
class SlotBytes {
 public:
  void Clear() {
    slots_.clear();
    any = false;
    origin = kNowhere;
  }
  LaneBytes& At(uint32_t slot) {
    if (slots_.size() <= slot) slots_.resize(slot + 1, LaneBytes{});
    return slots_[slot];
  }
  // All defined where nothing has been noted.
  const LaneBytes& Get(uint32_t slot) const {
    static constexpr LaneBytes kDefined = {};
    return slot < slots_.size() ? slots_[slot] : kDefined;
  }

  bool any = false;            // something is undefined
  uint32_t origin = kNowhere;  // of the first that is

 private:
  std::vector<LaneBytes> slots_;
};

// Bit k for byte k, from and to bytes of all ones where something is undefined.
inline uint64_t SpreadBytes(uint16_t bytes) {
  uint64_t bits = 0;
  for (int k = 0; k < 8; ++k) {
    if ((bytes >> k & 1) != 0) bits |= uint64_t{0xff} << (8 * k);
  }
  return bits;
}
inline uint16_t GatherBytes(uint64_t bits) {
  uint16_t bytes = 0;
  for (int k = 0; k < 8; ++k) {
    if ((bits >> (8 * k) & 0xff) != 0) bytes |= static_cast<uint16_t>(1 << k);
  }
  return bytes;
}

// Whether element `e` of a lane's register is undefined, of elements with `bits` bits.
inline bool IsElementUndefined(uint16_t bytes, int e, int bits) {
  const int first = e * bits / 8, count = bits < 8 ? 1 : bits / 8;
  return (bytes >> first & ((1 << count) - 1)) != 0;
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_SLOT_BYTES_H_
