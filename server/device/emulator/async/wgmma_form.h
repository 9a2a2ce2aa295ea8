// A decoded wgmma.mma_async: what Instruction::data points to.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_WGMMA_FORM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_WGMMA_FORM_H_

#include "server/device/emulator/numerics/wgmma.h"

namespace trun::device {

struct WgmmaForm {
  numerics::WgmmaShape shape;
  bool has_scale = false;  // scale-d is a predicate; otherwise D is always added
  bool scale_negated = false;
  int accumulators = 0;

  // Slots of the operands; A's registers are kA … kA + 3.
  static constexpr int kB = 0, kScale = 1, kA = 2, kMetadata = 6, kAccumulators = 7;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_WGMMA_FORM_H_
