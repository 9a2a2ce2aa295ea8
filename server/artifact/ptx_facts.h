// What the text of a PTX module declares, without parsing its code: for signatures and checks.
// The grammar is the PTX ISA's ("Module directives", "Kernel function parameters", "Performance-tuning
// directives").
#ifndef TRUN_SERVER_ARTIFACT_PTX_FACTS_H_
#define TRUN_SERVER_ARTIFACT_PTX_FACTS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct PtxParameter {
  std::string name;
  std::string type;    // "u64", "f32", "b8": without the dot
  uint32_t bytes = 0;  // of the whole parameter
  uint32_t align = 1;
  bool is_array = false;    // ".b8 name[128]"
  bool is_pointer = false;  // carries .ptr
  bool is_read = false;     // its name appears in the entry's body

  friend bool operator==(const PtxParameter&, const PtxParameter&) = default;
};

struct PtxEntry {
  std::string name;
  uint32_t line = 0;  // 1-based
  std::vector<PtxParameter> parameters;
  std::array<uint32_t, 3> required_block = {0, 0,
                                            0};   // .reqntid; unwritten dimensions are 1, all 0 where absent
  int required_block_dimensions = 0;              // how many were written
  std::array<uint32_t, 3> max_block = {0, 0, 0};  // .maxntid, likewise
  std::array<uint32_t, 3> required_cluster = {0, 0, 0};  // .reqnctapercluster, likewise
};

struct PtxFacts {
  int version_major = 0;
  int version_minor = 0;
  std::string target;  // "sm_90a"
  int arch = 0;        // 90
  std::vector<PtxEntry> entries;
  bool uses_dynamic_shared = false;  // declares .extern .shared
  bool declares_pointers = false;  // some entry parameter carries .ptr: then those without it are no pointers
};

// Thread-safe; linear in the size of `text`, which is untrusted.
// INVALID_ARGUMENT kInvalidIr (details: line): no .version or .target, or an entry whose head does not parse.
absl::StatusOr<PtxFacts> ReadPtxFacts(absl::string_view text);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_PTX_FACTS_H_
