// Arithmetic of numerics/ as operations.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_FLOAT_OPERATION_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_FLOAT_OPERATION_H_

#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

// Reads .rn .rz .rm .rp; false: none is written.
bool TakeRounding(Form& form, numerics::Rounding* rounding);

// Decodes the rest of a floating-point instruction whose operands are a destination and `sources` sources.
Operation DecodeFloat(Form& form, numerics::FloatOpcode opcode, int sources);

// True when the next type that is written is a floating-point one.
bool NextTypeIsFloat(Form& form);

// 32 results of `lane_bytes` from `values` into the register at `offset`, for the lanes of the mask.
void Blend(Warp& warp, uint32_t offset, uint32_t mask, const void* values, uint32_t lane_bytes);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_FLOAT_OPERATION_H_
