// The toolchains that a daemon knows: installed by it, or adopted by path.
#ifndef TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_REGISTRY_H_
#define TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_REGISTRY_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/toolchain/toolchain.h"

namespace trun {

// How far an installation is.
struct ToolchainProgress {
  std::string step;       // for people: "downloading triton 3.6.0"
  double fraction = 0.0;  // 0 to 1, never decreasing
};

// Thread-safe. Toolchains are shared: one that is removed lives until its last compile ends.
class ToolchainRegistry {
 public:
  virtual ~ToolchainRegistry() = default;

  // By name ("3.9.0", or the name of an adopted one). Starts nothing. NOT_FOUND kToolchainNotFound (details:
  // toolchain); the message names `trun-client toolchains install NAME`.
  virtual absl::StatusOr<std::shared_ptr<Toolchain>> Find(absl::string_view name) = 0;

  // All, broken ones too (info().usable says so), the newest version first. Cheap: every compile may call it.
  virtual std::vector<std::shared_ptr<Toolchain>> List() = 0;

  // Installs a Triton version; blocks, and calls `on_progress` from the calling thread. INVALID_ARGUMENT
  // kArgument: no such version. ALREADY_EXISTS kArgument. UNAVAILABLE kUnavailable: the package index cannot
  // be reached. FAILED_PRECONDITION kToolchainBroken: installed, but does not work.
  virtual absl::StatusOr<std::shared_ptr<Toolchain>> Install(
      absl::string_view version, const std::function<void(const ToolchainProgress&)>& on_progress) = 0;

  // Adopts the Python environment at `path` (its folder or its python), which is never changed. `name` empty:
  // its Triton's version. ALREADY_EXISTS kArgument; FAILED_PRECONDITION kToolchainBroken: no Triton there, or
  // it does not start.
  virtual absl::StatusOr<std::shared_ptr<Toolchain>> Adopt(absl::string_view path,
                                                           absl::string_view name) = 0;

  // Forgets it, and deletes it where the registry installed it. NOT_FOUND kToolchainNotFound.
  virtual absl::Status Remove(absl::string_view name) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TOOLCHAIN_REGISTRY_H_
