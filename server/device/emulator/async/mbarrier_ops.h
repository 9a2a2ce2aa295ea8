// What other asynchronous operations do to an mbarrier, with the fault raised where it is used wrongly.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_OPS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_OPS_H_

#include "server/device/emulator/async/mbarrier.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

// The object at `address` of shared memory (kShared, kSharedCluster or kGeneric). Null after raising a fault.
uint64_t* ResolveMbarrier(Warp& warp, uint32_t lane, Space space, uint64_t address);

// True for kOk; otherwise raises a fault that says what is wrong.
bool CheckMbarrier(Warp& warp, uint32_t lane, MbarrierResult result, const uint64_t* word);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_OPS_H_
