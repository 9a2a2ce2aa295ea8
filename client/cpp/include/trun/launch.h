#ifndef TRUN_CLIENT_LAUNCH_H_
#define TRUN_CLIENT_LAUNCH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "trun/tensor.h"

namespace trun {
inline namespace client {

class Kernel;

// A tensor from a byte offset on.
struct TensorAt {
  std::string handle;
  uint64_t offset = 0;
};

// What a tensor descriptor of im2col mode has beside its block: the box over the spatial dimensions in which
// pixels are taken in order, and the steps between them. In the order of the shape; limits in
// proto/trun/v1/launch.proto.
struct Im2col {
  std::vector<int32_t> lower_corner;      // where the box begins, for each spatial dimension
  std::vector<int32_t> upper_corner;      // how far it ends before (negative) or past the end of the tensor
  std::vector<uint32_t> element_strides;  // of each dimension of the tensor; empty: 1
};

// A host-made tensor descriptor (TMA), by its fields.
struct TensorDescriptor {
  TensorAt base;
  std::vector<uint64_t> shape;
  std::vector<int64_t> strides;       // elements; the last is 1
  std::vector<uint32_t> block_shape;  // of im2col mode: pixels a column, channels a pixel
  bool padding_nan = false;
  std::optional<Im2col> im2col;  // nothing: tiled mode
  bool round_f32_to_tf32 = false;
};

// One argument of a launch. Made implicitly from a Tensor, a number, nullptr or a TensorDescriptor. The
// server rounds and range-checks numbers against the kernel's signature. A plain value type: names tensors,
// does not keep them.
class Argument {
 public:
  using Value = std::variant<TensorAt, int64_t, uint64_t, double, TensorDescriptor, std::nullptr_t>;

  Argument(const Tensor& tensor, uint64_t offset = 0)
      : value_(TensorAt{tensor.handle(), offset}) {}                        // NOLINT
  Argument(TensorAt tensor) : value_(std::move(tensor)) {}                  // NOLINT
  Argument(TensorDescriptor descriptor) : value_(std::move(descriptor)) {}  // NOLINT
  Argument(std::nullptr_t) : value_(nullptr) {}                             // NOLINT
  template <typename T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
  Argument(T value) : value_(Integer(value)) {}  // NOLINT
  template <typename T, std::enable_if_t<std::is_floating_point_v<T>, long> = 0>
  Argument(T value) : value_(static_cast<double>(value)) {}  // NOLINT

  const Value& value() const { return value_; }

 private:
  template <typename T>
  static Value Integer(T value) {
    if constexpr (std::is_unsigned_v<T> && sizeof(T) == 8) {
      return Value(static_cast<uint64_t>(value));
    } else {
      return Value(static_cast<int64_t>(value));
    }
  }

  Value value_;
};

// Programs in x, y and z.
struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

// Checks beyond those that the emulator always makes. A launch with one is many times slower; on a GPU it is
// UNIMPLEMENTED.
struct LaunchChecks {
  bool uninitialized = false;  // a value that nothing wrote decides a branch, is an address, or is stored
  bool races = false;          // two accesses to one place that nothing orders
  bool async = false;          // asynchronous copies and wgmma that nothing waited for
  // With `uninitialized`: handles of tensors that this program has not written since it allocated them, with
  // Write, Fill, CopyFrom or through Map. They count as uninitialised but for what launches have written; all
  // others count as written.
  std::vector<std::string> unwritten;
};

// What to write down of one thread of a launch; the emulator only.
struct LaunchTrace {
  bool lines = false;      // each source line that it comes to
  bool registers = false;  // each register that it writes
  std::array<uint32_t, 3> program = {0, 0, 0};
  std::array<uint32_t, 3> thread = {0, 0, 0};
};

struct LaunchOptions {
  absl::Duration deadline = absl::ZeroDuration();  // zero: the server's default, 30 s
  LaunchChecks checks;
  LaunchTrace trace;
};

struct LaunchResult {
  uint64_t sequence = 0;
  absl::Duration device_time = absl::ZeroDuration();
  uint64_t warp_instructions = 0;  // of the emulator; 0 elsewhere
  std::string printed;             // what device_print wrote
  std::string trace;               // what LaunchTrace asked for, at most 1 MiB
};

struct BenchmarkOptions {
  uint32_t warmup = 1;                             // launches not measured
  uint32_t repetitions = 10;                       // 1 to 10,000
  absl::Duration deadline = absl::ZeroDuration();  // of each launch
};

struct BenchmarkResult {
  std::vector<absl::Duration> device_times;  // in order
  uint64_t warp_instructions = 0;            // of one launch
};

// Many launches on one stream: Launch queues without waiting, Next returns the results in the order of the
// launches. One thread may call Launch while another calls Next; no two threads may call the same one at
// once.
class LaunchStream {
 public:
  LaunchStream(LaunchStream&&) noexcept;
  LaunchStream& operator=(LaunchStream&&) noexcept;
  ~LaunchStream();  // cancels what has not been answered

  // UNAVAILABLE when the stream has ended: Next says why.
  absl::Status Launch(const Kernel& kernel, Grid grid, absl::Span<const Argument> arguments,
                      const LaunchOptions& options = {});
  // Waits for the next result. The status is that launch's own (see Kernel::Launch); OUT_OF_RANGE after the
  // last one once DoneLaunching was called.
  absl::StatusOr<LaunchResult> Next();
  // No more launches follow. Results that are outstanding still come.
  absl::Status DoneLaunching();

 private:
  friend class Session;
  struct Impl;
  explicit LaunchStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_LAUNCH_H_
