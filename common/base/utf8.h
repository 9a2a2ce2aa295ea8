// UTF-8 in text that others wrote.
#ifndef TRUN_COMMON_BASE_UTF8_H_
#define TRUN_COMMON_BASE_UTF8_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace trun {

// Bytes of the code point that begins at text[at] (RFC 3629: the shortest form, no surrogates, up to
// U+10FFFF); 0 where none does. REQUIRES: at < text.size().
size_t Utf8SequenceLength(absl::string_view text, size_t at);

}  // namespace trun

#endif  // TRUN_COMMON_BASE_UTF8_H_
