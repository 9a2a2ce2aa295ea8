// What the text of a Triton module (TTIR or TTGIR) declares: module attributes and functions with their
// arguments. Reads Triton's custom assembly form, as `module.str()` of 3.0 to 3.9 and hand-written tests have
// it.
#ifndef TRUN_SERVER_ARTIFACT_MLIR_FACTS_H_
#define TRUN_SERVER_ARTIFACT_MLIR_FACTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct MlirArgument {
  std::string name;  // from loc("x_ptr"(...)) or the SSA name; empty for %arg0, %0
  std::string type;  // as written, blanks as written
  int divisibility = 1;
  uint32_t line = 0;
};

struct MlirFunction {
  std::string name;  // without '@'
  bool is_public = true;
  uint32_t line = 0;  // 1-based
  std::vector<MlirArgument> arguments;
};

struct MlirFacts {
  // Module attributes by their name without dialect, "num-warps" for ttg.num-warps and triton_gpu.num-warps,
  // integers only; and the target ("cuda:80"), empty where absent.
  std::map<std::string, int64_t> integers;
  std::string target;
  std::vector<MlirFunction> functions;
  bool has_gpu_dialect = false;   // ttg or triton_gpu occurs: TTGIR
  bool warp_specialized = false;  // ttg.warp_specialize occurs

  std::optional<int64_t> integer(const std::string& name) const;
};

// Thread-safe; linear in the size of `text`, which is untrusted.
// INVALID_ARGUMENT kInvalidIr (details: line): the head of a function does not parse.
absl::StatusOr<MlirFacts> ReadMlirFacts(absl::string_view text);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_MLIR_FACTS_H_
