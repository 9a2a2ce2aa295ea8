// From addresses in PTX's spaces to host memory, checked.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_MEMORY_ACCESS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_MEMORY_ACCESS_H_

#include <cstdint>

#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

// Host memory of `bytes` at a generic address, for the lane; null where the range is not one that may be
// read.
const uint8_t* ResolveGeneric(Warp& warp, uint32_t lane, uint64_t address, uint64_t bytes);

// Host memory of `bytes` at `address` in `space` (kGeneric: any), checked for bounds, life and alignment (a
// power of two). Null after raising a fault: the operation returns kFault.
uint8_t* Resolve(Warp& warp, uint32_t lane, Space space, uint64_t address, uint32_t bytes, uint32_t align,
                 bool is_write);

// Raises the fault of an access to global memory that FindRange refused; always returns kFault.
Step RaiseGlobal(Warp& warp, uint32_t lane, uint64_t address, uint32_t bytes, bool is_write);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_MEMORY_ACCESS_H_
