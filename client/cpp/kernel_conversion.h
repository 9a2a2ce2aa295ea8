// Public types of the client ⇄ messages of trun.v1. Pure functions.
#ifndef TRUN_CLIENT_CPP_KERNEL_CONVERSION_H_
#define TRUN_CLIENT_CPP_KERNEL_CONVERSION_H_

#include "absl/types/span.h"
#include "trun/kernel.h"
#include "trun/launch.h"
#include "trun/v1/compile.pb.h"
#include "trun/v1/launch.pb.h"

namespace trun {
inline namespace client {

v1::CompileRequest ToProto(const CompileOptions& options, Level level);
// REQUIRES: a stage event.
StageEvent FromProto(const v1::CompileResponse& event);
KernelInfo FromProto(const v1::CompiledKernel& kernel);
// Session and kernel are the caller's to set.
v1::LaunchRequest ToProto(Grid grid, absl::Span<const Argument> arguments, const LaunchOptions& options);
LaunchResult FromProto(const v1::LaunchResponse& response);
// Of a launch on a stream; OK for code 0.
absl::Status FromProto(const v1::LaunchStatus& status);

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_KERNEL_CONVERSION_H_
