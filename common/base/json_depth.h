#ifndef TRUN_COMMON_BASE_JSON_DEPTH_H_
#define TRUN_COMMON_BASE_JSON_DEPTH_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace trun {

// The index of the first bracket of a JSON text that nests deeper than `max_depth`, npos where none does;
// brackets in strings do not count. Asked before a parse: the parser copes with any depth, the recursive
// printer does not. Thread-safe.
size_t FirstTooDeep(absl::string_view json, int max_depth);

}  // namespace trun

#endif  // TRUN_COMMON_BASE_JSON_DEPTH_H_
