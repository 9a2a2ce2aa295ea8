// The signature of a kernel, read from its file at any level below Python.
// Pure functions, thread-safe, linear in the size of the file. The bytes are untrusted.
//
// What each level tells: TTIR and TTGIR everything (names from Triton 3.5 on); LLIR kinds and types, pointers
// without their pointee; PTX kinds and sizes, from Triton 3.2 on which 64-bit parameters are pointers; a
// cubin sizes only. Hidden trailing parameters (Triton's scratch pointers) are left out: none in Triton 3.0
// to 3.2, one in 3.3 and 3.4, two from 3.5 on.
#ifndef TRUN_SERVER_ARTIFACT_SIGNATURE_H_
#define TRUN_SERVER_ARTIFACT_SIGNATURE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/kernel.h"
#include "common/ir/level.h"

namespace trun {

// Most parameters one kernel may have here; CUDA's own limit of 32,764 bytes allows no more than this many
// words.
inline constexpr size_t kMaxKernelParameters = 8192;

// The names of a file's entries, in order of appearance: public `tt.func`s, LLIR kernels, PTX and cubin
// entries. INVALID_ARGUMENT kInvalidIr: the file cannot be scanned. kUnsupportedLevel: a level that has no
// entries to read.
absl::StatusOr<std::vector<std::string>> ReadEntryNames(Level level, absl::string_view bytes);

// The user's arguments of entry `kernel_name` (empty: the only entry).
// - kPointer with type kUnspecified and 8 bytes, at PTX (Triton before 3.2) and cubin: an address or any
// 64-bit
//   scalar, the file does not say which. kScalar with type kUnspecified: any scalar of `bytes` bytes.
// - kPointer with type kUnspecified elsewhere: a pointer to anything.
// - kTensorDescriptor stands for itself and for the shape and stride parameters that follow it: see
// ParameterCount. `hidden_parameters`: see HiddenParameters(metadata). Not needed for TTIR and TTGIR. Where
// LLIR or PTX come without it, trailing pointers that the code never reads are taken as hidden (at most as
// many as the form of the file allows). INVALID_ARGUMENT: kInvalidIr (details: line where known), kArgument
// (no such entry, or several and no name; lists them; details: kernel), kMetadata (a cubin without
// hidden_parameters; details: key), kUnsupportedLevel.
absl::StatusOr<KernelSignature> ReadSignature(Level level, absl::string_view bytes,
                                              absl::string_view kernel_name = {},
                                              std::optional<int> hidden_parameters = std::nullopt);

// How many trailing parameters a kernel of this metadata takes after the user's; nullopt where the metadata
// does not say (no triton_version and none of the keys that only some versions write).
std::optional<int> HiddenParameters(const KernelMetadata& metadata);

// The same, told by the code: trailing pointers that it never reads, at most as many as the form of the file
// allows. For LLIR and PTX, other levels are kUnsupportedLevel; the errors of ReadSignature.
absl::StatusOr<int> CountHiddenParameters(Level level, absl::string_view bytes,
                                          absl::string_view kernel_name);

// `lower` with names, types, divisibility and descriptor types taken from `upper`, the same kernel read at an
// earlier level. INVALID_ARGUMENT kMetadata where the two cannot be one kernel: name, count, kind or size of
// an argument (details: argument).
absl::StatusOr<KernelSignature> MergeSignatures(const KernelSignature& upper, const KernelSignature& lower);

// How many parameters an argument takes of a compiled kernel: 1, or 1 + 2·rank for a tensor descriptor (the
// 128-byte map, then rank × i32 shape, rank × i64 stride).
int ParameterCount(const KernelArgument& argument);

// One parameter as a compiled file declares it, hidden ones included: what a launcher packs.
struct KernelParameter {
  uint32_t offset = 0;  // in the packed parameter buffer
  uint32_t bytes = 0;
  uint32_t align = 1;
  bool is_pointer = false;  // declared so (PTX of Triton 3.2 on)

  friend bool operator==(const KernelParameter&, const KernelParameter&) = default;
};

// All parameters of an entry of PTX or cubin, in order. Errors as ReadSignature's.
absl::StatusOr<std::vector<KernelParameter>> ReadParameters(Level level, absl::string_view bytes,
                                                            absl::string_view kernel_name = {});

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_SIGNATURE_H_
