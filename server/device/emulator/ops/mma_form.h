// Where the fragments of a dense mma are in its instruction's list.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_MMA_FORM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_MMA_FORM_H_

namespace trun::device {

struct DenseMma {
  static constexpr int kListD = 0, kListA = 8, kListB = 16, kListC = 20;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_MMA_FORM_H_
