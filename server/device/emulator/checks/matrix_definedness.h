// Products of one warp, and what is undefined: which elements of D depend on undefined ones of A, B and C. A
// row of garbage in A makes a row of D undefined, a column of B a column, and no more.
//
// `sources` are those before the instruction; `results` come by the slots of the destinations. Pure
// functions, thread-safe.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_

#include "server/device/emulator/checks/slot_bytes.h"
#include "server/device/emulator/exec/instrument.h"

namespace trun::device {

// mma of every kind (dense, sparse, scaled, quad pairs), movmatrix, wmma.mma.
void PropagateProduct(const WatchedStep& step, const SlotBytes& sources, SlotBytes* results);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_
