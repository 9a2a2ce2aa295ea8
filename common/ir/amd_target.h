// Targets of AMD, which are named and not numbered: "gfx90a".
#ifndef TRUN_COMMON_IR_AMD_TARGET_H_
#define TRUN_COMMON_IR_AMD_TARGET_H_

#include <string>

#include "common/ir/target.h"

namespace trun {

inline bool IsAmd(const Target& target) { return target.backend == "hip"; }

// "gfx942". REQUIRES: IsAmd(target).
std::string GfxName(const Target& target);

}  // namespace trun

#endif  // TRUN_COMMON_IR_AMD_TARGET_H_
