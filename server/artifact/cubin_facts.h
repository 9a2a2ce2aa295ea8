// What a cubin (a 64-bit ELF of NVIDIA's machine) says of its entries, from its symbols and its .nv.info
// sections. The format is not published; what is read here was checked against cubins of several ptxas
// releases (docs/formats/cubin.md). Every offset is bounds-checked: a cubin is untrusted input.
#ifndef TRUN_SERVER_ARTIFACT_CUBIN_FACTS_H_
#define TRUN_SERVER_ARTIFACT_CUBIN_FACTS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct CubinParameter {
  uint32_t offset = 0;
  uint32_t bytes = 0;
  bool is_pointer = false;  // the PTX declared it with .ptr .global (Triton 3.2 on)
};

struct CubinEntry {
  std::string name;
  std::vector<CubinParameter> parameters;              // in order
  uint32_t parameter_bytes = 0;                        // of the whole buffer
  std::array<uint32_t, 3> required_block = {0, 0, 0};  // 0 where absent
  std::array<uint32_t, 3> max_block = {0, 0, 0};
  std::array<uint32_t, 3> required_cluster = {0, 0, 0};
};

struct CubinFacts {
  int arch = 0;  // 90 for sm_90
  std::vector<CubinEntry> entries;
};

// True when the bytes begin as an ELF for NVIDIA's (or AMD's) machine.
bool IsCubin(absl::string_view bytes);
bool IsHsaco(absl::string_view bytes);

// Thread-safe; linear in the size of `bytes`. INVALID_ARGUMENT kInvalidIr: not such a file, or a table that
// points outside it.
absl::StatusOr<CubinFacts> ReadCubinFacts(absl::string_view bytes);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_CUBIN_FACTS_H_
