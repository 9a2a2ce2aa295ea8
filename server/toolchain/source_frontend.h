// The seam beside Toolchain: from Python or Gluon source to the first level that is IR.
#ifndef TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_H_
#define TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ir/level.h"
#include "common/ir/target.h"
#include "server/toolchain/toolchain.h"

namespace trun {

struct SourceRequest {
  Level level = Level::kPython;  // or kGluon
  std::string bundle;            // docs/formats/source-bundle.md; opaque to trund
  Target target;
  CompileOptions options;
  absl::Duration deadline = absl::Seconds(120);
  // True once nobody waits for the result any more; asked now and then, from the calling thread. Null: never.
  std::function<bool()> is_abandoned;
};

// The level that the front end makes of `source_level`: TTIR of Python, TTGIR of Gluon.
inline Level LoweredLevel(Level source_level) {
  return source_level == Level::kGluon ? Level::kTtgir : Level::kTtir;
}
inline bool IsSourceLevel(Level level) { return level == Level::kPython || level == Level::kGluon; }

// Thread-safe. Lower blocks its caller. The source is a tenant's program: it runs where it can harm nobody,
// and what is left of it ends with the call.
class SourceFrontend {
 public:
  virtual ~SourceFrontend() = default;

  // Digest of what beside the toolchain decides the result: part of the key of a source.
  virtual std::string id() const = 0;

  // The stage LoweredLevel(request.level). REQUIRES: IsSourceLevel(request.level).
  // INVALID_ARGUMENT: kInvalidIr (Triton's message at the user's file; details: file, line, column where
  // known), kUnknownOption (details: option), kUnsupportedLevel (a Triton without Gluon).
  // PERMISSION_DENIED kNotPermitted: the source wanted a file, the network, a process (details: file, line).
  // RESOURCE_EXHAUSTED kCompileOutOfMemory. DEADLINE_EXCEEDED kCompileTimeout. FAILED_PRECONDITION:
  // kCompileFailed (the compiler crashed), kUnsupportedTarget, kToolchainBroken, kNotPermitted (nothing on
  // this machine would confine the source). UNAVAILABLE kWorkerLost: killed from outside, worth a retry.
  // CANCELLED kCancelled: abandoned. Whatever happens, the next call works.
  virtual absl::StatusOr<StageResult> Lower(const SourceRequest& request) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_SOURCE_FRONTEND_H_
