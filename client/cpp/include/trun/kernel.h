#ifndef TRUN_CLIENT_KERNEL_H_
#define TRUN_CLIENT_KERNEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/ir/level.h"
#include "common/ir/scalar_type.h"
#include "trun/launch.h"

namespace trun {
inline namespace client {

// One stage of a compile: reported when it starts (done = false) and when its artifact is there. With
// record_passes also each pass of it (done = false).
struct StageEvent {
  Level level = Level::kUnspecified;  // being made
  bool done = false;
  bool cached = false;
  absl::Duration time = absl::ZeroDuration();
  uint64_t bytes = 0;
  std::string pass;      // its name, "ttgir/coalesce"; empty for a stage
  bool changed = false;  // by this pass
};

struct CompileOptions {
  Level level = Level::kUnspecified;           // of the file; unspecified: from the extension of file_name
  std::string file_name;                       // for messages
  std::string metadata_json;                   // Triton's metadata where the level needs it (PTX, cubin)
  std::string target;                          // "sm_80"; empty: the session's device
  std::string toolchain;                       // "3.9.0"; empty: the server chooses and says why
  std::map<std::string, std::string> options;  // name to JSON value: {"num_warps", "8"}
  Level last_level = Level::kUnspecified;      // unspecified: what the session's device loads
  std::string kernel_name;                     // of a file with several kernels
  absl::Duration deadline = absl::ZeroDuration();  // zero: the server's default
  bool recompile = false;                          // do not look into the cache
  bool record_passes = false;     // the kernel gets an artifact kPasses: the IR after each pass
  std::string resume_after_pass;  // the file is what this pass left behind; "ttgir/coalesce"
  std::function<void(const StageEvent&)> on_stage;  // called on the caller's thread
};

struct ArgumentInfo {
  enum class Kind { kPointer, kScalar, kTensorDescriptor };
  std::string name;  // empty where the file has no names
  Kind kind = Kind::kScalar;
  ScalarType dtype =
      ScalarType::kUnspecified;  // of the scalar or the pointee; unspecified where unknown (PTX)
  uint32_t bytes = 0;
  uint32_t divisibility = 1;
  std::string descriptor_type;
};

struct ArtifactInfo {
  Level level = Level::kUnspecified;
  uint64_t bytes = 0;
  std::string digest;  // SHA-256, hex
};

struct KernelInfo {
  std::string name;
  std::vector<ArgumentInfo> arguments;
  uint32_t num_warps = 0;
  uint32_t num_ctas = 0;
  uint32_t shared_bytes = 0;
  std::string target;
  std::string triton_version;
  std::string metadata_json;
  std::vector<ArtifactInfo> artifacts;
  std::string toolchain;
  std::string toolchain_reason;  // why this one
  bool cached = false;           // nothing had to be compiled
  std::string cache_key;
  absl::Duration total_time = absl::ZeroDuration();  // inside the server
  std::vector<StageEvent> stages;
  std::string log;  // warnings of the toolchain
};

// A compiled kernel of one session; the destructor forgets the handle (the cache entry stays). Movable, not
// copyable. Thread-safe but for moves. After the session is closed every call answers
// NOT_FOUND/SESSION_EXPIRED.
class Kernel {
 public:
  Kernel() = default;  // names nothing; only assignment and destruction are allowed
  Kernel(Kernel&& other) noexcept;
  Kernel& operator=(Kernel&& other) noexcept;
  ~Kernel();

  const std::string& handle() const { return handle_; }
  const KernelInfo& info() const { return info_; }

  // Launches and waits. INVALID_ARGUMENT: ARGUMENT (names the argument), LAUNCH_SHAPE. The kernel's own
  // fault: FAILED_PRECONDITION or ABORTED with ILLEGAL_ADDRESS, DEVICE_ASSERT, ... and a FaultReport
  // (GetFaultReport); DEADLINE_EXCEEDED/HUNG_KERNEL. UNAVAILABLE/EXECUTOR_LOST: tensors are intact, the next
  // launch works.
  absl::StatusOr<LaunchResult> Launch(Grid grid, absl::Span<const Argument> arguments,
                                      const LaunchOptions& options = {}) const;
  // Queues the launch and returns its sequence number; Session::Synchronize reports its fault.
  absl::StatusOr<uint64_t> LaunchAsync(Grid grid, absl::Span<const Argument> arguments,
                                       const LaunchOptions& options = {}) const;
  // Launches again and again, measured inside the executor. Statuses of Launch.
  absl::StatusOr<BenchmarkResult> Benchmark(Grid grid, absl::Span<const Argument> arguments,
                                            const BenchmarkOptions& options = {}) const;
  // One artifact's bytes. NOT_FOUND/HANDLE where this kernel has none of that level.
  absl::StatusOr<std::string> GetArtifact(Level level) const;

 private:
  friend class Session;
  friend class LaunchStream;
  void Release();

  std::shared_ptr<SessionState> state_;
  std::string handle_;
  KernelInfo info_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_KERNEL_H_
