// What a file is: its level, from its contents first and its name second; and how big a file may be.
// Pure functions, thread-safe, linear in the size of the file. The bytes are untrusted.
#ifndef TRUN_SERVER_ARTIFACT_LEVEL_DETECTION_H_
#define TRUN_SERVER_ARTIFACT_LEVEL_DETECTION_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/level.h"

namespace trun {

// Limits of one uploaded file and of one metadata JSON.
inline constexpr size_t kMaxArtifactBytes = size_t{64} << 20;
inline constexpr size_t kMaxMetadataTextBytes = size_t{1} << 20;

// OK for 1 to kMaxArtifactBytes bytes. INVALID_ARGUMENT kInvalidIr: empty. RESOURCE_EXHAUSTED kTooLarge
// (details: limit, in bytes). `file_name` is for the message and may be empty.
absl::Status CheckArtifactSize(size_t bytes, absl::string_view file_name);

// The level of a file. Contents decide; where they fit no level or several (broken IR, say) and the bytes are
// text, the extension of `file_name` does (".ttir", ..., ".py"), so that the compiler can name the line that
// is wrong. INVALID_ARGUMENT kUnsupportedLevel: fits none. Also the errors of CheckArtifactSize.
absl::StatusOr<Level> DetectLevel(absl::string_view bytes, absl::string_view file_name = {});

// A file said to be of `level` is plausibly one: a cubin starts as an ELF for its machine, a text has no NUL
// bytes. Says nothing about whether it parses. INVALID_ARGUMENT kInvalidIr. Also the errors of
// CheckArtifactSize.
absl::Status CheckLevel(Level level, absl::string_view bytes, absl::string_view file_name = {});

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_LEVEL_DETECTION_H_
