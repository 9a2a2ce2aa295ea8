// The asynchronous families of sm_90, one function per file of this folder. Each adds its opcodes to the
// table.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_FAMILIES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_FAMILIES_H_

#include "server/device/emulator/program/form.h"

namespace trun::device {

void RegisterMbarrier(FamilyTable* table);   // mbarrier_ops.cc: mbarrier
void RegisterTensorMap(FamilyTable* table);  // tensor_map_ops.cc: tensormap
void RegisterWgmma(FamilyTable* table);      // wgmma_ops.cc: wgmma

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_FAMILIES_H_
