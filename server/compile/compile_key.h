// The names of results in the cache: the same key, the same bytes out.
#ifndef TRUN_SERVER_COMPILE_COMPILE_KEY_H_
#define TRUN_SERVER_COMPILE_COMPILE_KEY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/digest.h"
#include "common/ir/level.h"
#include "common/ir/target.h"
#include "server/cache/kernel_cache.h"
#include "server/toolchain/toolchain.h"

namespace trun {

// Everything that decides what comes out of a file, but the file. Borrows what it points to.
struct CompileContext {
  Target target;
  absl::string_view toolchain_id;
  const CompileOptions* options = nullptr;  // canonical
  absl::string_view instrumentation;
  absl::string_view frontend_id;  // of the levels that a front end lowers
  absl::string_view passes;       // PassPlan::Canonical()
};

// SHA-256 over level, digest of the IR, metadata given (less its "hash", which only names the source),
// target, toolchain id, options, instrumentation plan, plan of passes (where there is one).
CacheKey MakeCompileKey(Level level, const Digest& ir, absl::string_view metadata_json,
                        const CompileContext& context);

// The options with each value in minimal JSON. INVALID_ARGUMENT kArgument (details: option): a value that is
// no JSON, over 64 KiB, or nested deeper than 32.
absl::StatusOr<CompileOptions> CanonicalOptions(const CompileOptions& options);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_COMPILE_KEY_H_
