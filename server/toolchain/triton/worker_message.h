// What the requests to workers and zygotes, and their error frames, have in common (docs/formats/frames.md).
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_MESSAGE_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_MESSAGE_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "common/ir/target.h"
#include "server/toolchain/toolchain.h"

namespace trun {

// INVALID_ARGUMENT kUnknownOption (details: option) for a value that is not JSON.
absl::StatusOr<nlohmann::json> OptionsToJson(const CompileOptions& options);

nlohmann::json TargetToJson(const Target& target);

// An error frame, with its texts fit for a status and bounded; which code a kind gets is the reader's matter.
struct WorkerError {
  std::string kind;
  std::string message;
  ErrorDetails details;
};
// REQUIRES: header is an object.
WorkerError ReadWorkerError(const nlohmann::json& header);

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_MESSAGE_H_
