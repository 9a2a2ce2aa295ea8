// What one kernel file says about launching one of its entries, the same for every level.
#ifndef TRUN_SERVER_ARTIFACT_FILE_FACTS_H_
#define TRUN_SERVER_ARTIFACT_FILE_FACTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/level.h"

namespace trun {

struct FileFacts {
  std::string name;                    // the entry's
  std::optional<int> num_warps;        // ttg.num-warps
  std::optional<int> total_num_warps;  // ttg.total-num-warps
  bool warp_specialized = false;
  std::optional<int> num_ctas;                         // ttg.num-ctas
  std::optional<int64_t> shared_bytes;                 // ttg.shared
  bool no_dynamic_shared = false;                      // the code declares none (LLIR, PTX)
  int arch = 0;                                        // 0 where the file does not say
  std::array<uint32_t, 3> required_block = {0, 0, 0};  // 0 where absent
  std::array<uint32_t, 3> max_block = {0, 0, 0};
  std::array<uint32_t, 3> required_cluster = {0, 0, 0};
  std::vector<bool> parameter_is_read;  // PTX only

  // Whether the code reads the parameter `back` places from the end (1: the last). False for 0 or where not
  // known.
  bool ReadsParameterFromEnd(size_t back) const {
    return back > 0 && back <= parameter_is_read.size() && parameter_is_read[parameter_is_read.size() - back];
  }
};

// Thread-safe; linear in the size of `bytes`, which is untrusted. Errors as ReadSignature's.
absl::StatusOr<FileFacts> ReadFileFacts(Level level, absl::string_view bytes, absl::string_view kernel_name);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_FILE_FACTS_H_
