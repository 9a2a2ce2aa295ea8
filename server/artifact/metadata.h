// Launch facts of a kernel, from Triton's metadata JSON (3.0 to 3.9) and from the file itself.
// Pure functions, thread-safe, linear in the size of their input, which is untrusted.
// The keys of each version: docs/formats/metadata.md.
#ifndef TRUN_SERVER_ARTIFACT_METADATA_H_
#define TRUN_SERVER_ARTIFACT_METADATA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"

namespace trun {

// Uniform metadata of the kernel in `bytes`, a file of `level`. `json` may be empty (none was given). What
// the JSON does not say is inferred from the file: name (its only entry), num_warps and num_ctas
// (ttg.num-warps, ttg.total-num-warps, .reqntid, .maxntid), shared (ttg.shared; 0 for PTX without dynamic
// shared memory), target (ttg.target, .target, ELF flags). `kernel_name` picks an entry and overrides
// nothing.
//
// Required after inference: TTIR and TTGIR nothing (num_warps may stay 0, target.arch 0 where unknown); LLIR
// num_warps and shared; PTX and cubin these and the target, and global_scratch_size where PTX reads its
// scratch pointer.
//
// INVALID_ARGUMENT kMetadata: not a JSON object (details: line, column), a value of the wrong type or out of
// range, a missing key, or a contradiction between JSON and file (details: key). kLaunchShape: more shared
// memory than any device of the architecture has (TooMuchSharedMemory), from LLIR on. kInvalidIr, kArgument,
// kUnsupportedLevel: as ReadSignature. RESOURCE_EXHAUSTED kTooLarge (details: limit).
absl::StatusOr<KernelMetadata> ReadMetadata(absl::string_view json, Level level, absl::string_view bytes,
                                            absl::string_view kernel_name = {});

// The JSON alone, with no file to hold it against: nothing is required, nothing inferred. Same errors.
absl::StatusOr<KernelMetadata> ParseMetadata(absl::string_view json);

// The JSON with sorted keys and no white space: the form kept in KernelMetadata::raw_json and hashed for
// cache keys.
// "" gives "{}". INVALID_ARGUMENT kMetadata.
absl::StatusOr<std::string> CanonicalMetadata(absl::string_view json);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_METADATA_H_
