// Instructions of a PTX file by kind. Pure; linear in the size of the text, which is untrusted.
#ifndef TRUN_CLIENT_CLI_INSTRUCTION_MIX_H_
#define TRUN_CLIENT_CLI_INSTRUCTION_MIX_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace trun::cli {

// Counts of instructions as they stand in the text (a loop's once): "total", and of the kinds that are there
// "mma", "wgmma", "tcgen05", "ld.global", "st.global", "ld.shared", "st.shared", "ldmatrix", "stmatrix",
// "cp.async", "tma", "shfl", "barrier", "atomic", "float", "integer", "convert", "branch", "other".
std::map<std::string, int> CountInstructions(absl::string_view ptx);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_INSTRUCTION_MIX_H_
