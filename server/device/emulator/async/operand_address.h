// Addresses of instructions that have several: Form keeps one offset, these keep one each.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_OPERAND_ADDRESS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_OPERAND_ADDRESS_H_

#include <cstdint>

#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

struct OperandAddress {
  int64_t offset = 0;
  int slot = 0;
  bool wide = true;
};

inline OperandAddress DecodeAddress(Form& form, int slot, int i) {
  const AddressForm address = form.Address(slot, i);
  OperandAddress decoded{form.instruction().immediate, slot, address.width == Width::k64};
  if (address.is_parameter) decoded.offset += static_cast<int64_t>(kParamWindow);  // its generic address
  return decoded;
}

inline uint64_t AddressOf(Warp& warp, const Instruction& in, const OperandAddress& address, uint32_t lane) {
  const uint32_t base = in.operand[address.slot];
  const uint64_t value = address.wide ? warp.U64(base)[lane] : warp.U32(base)[lane];
  return value + static_cast<uint64_t>(address.offset);
}

// The lanes of a mask, lowest first.
template <typename Visit>
Step ForEachLane(uint32_t mask, Visit visit) {
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    if (!visit(static_cast<uint32_t>(__builtin_ctz(lanes)))) return Step::kFault;
  }
  return Step::kNext;
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_OPERAND_ADDRESS_H_
