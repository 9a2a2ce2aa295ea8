#ifndef TRUN_CLIENT_SESSION_H_
#define TRUN_CLIENT_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "trun/kernel.h"
#include "trun/launch.h"
#include "trun/pinned_memory.h"
#include "trun/tensor.h"

namespace trun {
inline namespace client {

// How large copies between this process and a GPU are shared out, where its memory is not pinned.
struct HostCopyOptions {
  int threads = 0;           // that copy at once; 0: half of the cores, at most 8
  uint64_t piece_bytes = 0;  // that a thread hands to the GPU at a time; 0: 4 MiB
};

struct SessionOptions {
  std::string device;                           // "emulator:0"; empty: TRUN_DEVICE, else the daemon's default
  absl::Duration lease = absl::ZeroDuration();  // zero: the server's default; between 1 s and 1 h
  uint64_t memory_limit_bytes = 0;              // zero: the tenant's limit
  HostCopyOptions copies;
};

struct SynchronizeResult {
  uint64_t last_sequence = 0;
  std::string printed;  // what device_print wrote since the last Synchronize
};

// A session on one device: owns its kernels and tensors on the server, and an executor process of its own.
// A thread of the library renews its lease. Movable, not copyable; the destructor closes it.
// Thread-safe but for moves and Close.
class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  const std::string& id() const;
  const std::string& device() const;       // "emulator:0"
  const std::string& device_name() const;  // for people
  const std::string& target() const;       // "cuda:80:32"
  const std::string& server_version() const;
  uint64_t memory_limit_bytes() const;

  // Compiles, or finds in the cache, a kernel given as the bytes of a file of any level. Files over 2 MiB are
  // uploaded once. INVALID_ARGUMENT: INVALID_IR (details line, column), UNKNOWN_OPTION, UNSUPPORTED_LEVEL,
  // METADATA. FAILED_PRECONDITION: COMPILE_FAILED, UNSUPPORTED_TARGET. RESOURCE_EXHAUSTED: TOO_LARGE,
  // COMPILE_OUT_OF_MEMORY. DEADLINE_EXCEEDED: COMPILE_TIMEOUT. NOT_FOUND: TOOLCHAIN_NOT_FOUND. UNAVAILABLE:
  // WORKER_LOST (retry).
  absl::StatusOr<Kernel> Compile(absl::string_view ir, const CompileOptions& options);
  // The same from a file; its extension is the level unless the options say. NOT_FOUND, PERMISSION_DENIED:
  // the file.
  absl::StatusOr<Kernel> CompileFile(const std::string& path, CompileOptions options = {});

  // Memory of a fresh tensor is zero. RESOURCE_EXHAUSTED: QUOTA, OUT_OF_MEMORY. INVALID_ARGUMENT: zero or
  // absurd sizes.
  absl::StatusOr<Tensor> Allocate(ScalarType dtype, std::vector<uint64_t> shape);
  // All or none, in one call.
  absl::StatusOr<std::vector<Tensor>> Allocate(absl::Span<const TensorSpec> specs);

  // Memory from which the GPU copies by itself, charged like tensors. Where nothing can be pinned (the
  // emulator, a daemon elsewhere) ordinary memory, which says why. RESOURCE_EXHAUSTED: QUOTA, OUT_OF_MEMORY.
  absl::StatusOr<PinnedMemory> AllocatePinned(uint64_t bytes);

  absl::StatusOr<LaunchStream> OpenLaunchStream();
  // Waits for everything queued before; reports the first fault since the last Synchronize, once.
  absl::StatusOr<SynchronizeResult> Synchronize();
  // Ends the session and returns its memory. OK once; NOT_FOUND/SESSION_EXPIRED when it had ended already.
  absl::Status Close();

 private:
  friend class Client;
  explicit Session(std::shared_ptr<SessionState> state);
  std::shared_ptr<SessionState> state_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_SESSION_H_
