#ifndef TRUN_COMMON_IR_PASS_RECORD_LEVEL_H_
#define TRUN_COMMON_IR_PASS_RECORD_LEVEL_H_

#include "common/ir/level.h"

namespace trun {

// The record of a compile's passes (docs/formats/passes.md) stands among a kernel's artifacts under this
// number, after all levels: trun.v1.LEVEL_PASSES. It is none of them: no compile begins or ends there, and
// LevelFromName does not know it. LevelName does: "passes".
inline constexpr Level kPassRecordLevel = static_cast<Level>(10);

}  // namespace trun

#endif  // TRUN_COMMON_IR_PASS_RECORD_LEVEL_H_
