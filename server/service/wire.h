// trun.v1 messages ⇄ the server's own types. Everything decoded is untrusted and checked here: enum values,
// durations, sizes. All functions are pure.
#ifndef TRUN_SERVER_SERVICE_WIRE_H_
#define TRUN_SERVER_SERVICE_WIRE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/ir/kernel.h"
#include "server/cache/kernel_cache.h"
#include "server/compile/compile_pipeline.h"
#include "server/session/session.h"
#include "server/toolchain/toolchain.h"
#include "trun/v1/admin.pb.h"
#include "trun/v1/compile.pb.h"
#include "trun/v1/error.pb.h"
#include "trun/v1/kernel.pb.h"
#include "trun/v1/launch.pb.h"
#include "trun/v1/session.pb.h"
#include "trun/v1/tensor.pb.h"
#include "trun/v1/toolchain.pb.h"

namespace trun {

// INVALID_ARGUMENT kArgument when it is malformed, negative or over `max`; names `field`.
absl::StatusOr<absl::Duration> DecodeDuration(const google::protobuf::Duration& wire, absl::string_view field,
                                              absl::Duration max);
// INVALID_ARGUMENT kArgument for a number that is no level; kUnspecified passes.
absl::StatusOr<Level> DecodeLevel(v1::Level wire, absl::string_view field);
absl::StatusOr<TensorSpec> DecodeTensorSpec(const v1::TensorSpec& wire);
absl::StatusOr<SessionLaunch> DecodeLaunch(const v1::LaunchRequest& wire);

void EncodeDuration(absl::Duration duration, google::protobuf::Duration* wire);
void EncodeTime(absl::Time time, google::protobuf::Timestamp* wire);
void EncodeKernel(const CompiledKernel& kernel, v1::KernelInfo* wire);
void EncodeTensor(const TensorInfo& tensor, v1::TensorInfo* wire);
void EncodeSession(const SessionStatistics& session, v1::SessionInfo* wire);
void EncodeStage(const StageEvent& event, v1::CompileResponse* wire);
void EncodeToolchain(const ToolchainInfo& toolchain, v1::Toolchain* wire);
void EncodeFault(const LaunchFault& fault, v1::FaultReport* wire);
void EncodeResult(const LaunchResult& result, v1::LaunchResult* wire);
void EncodeCacheEntry(const CacheEntryInfo& entry, v1::CacheEntry* wire);

// A launch's status with its fault attached, for ToGrpcStatus.
absl::Status StatusOf(const LaunchResult& result);
absl::Status StatusOf(const SynchronizeResult& result);
void EncodeStatus(const absl::Status& status, v1::LaunchStatus* wire);

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_WIRE_H_
