#ifndef TRUN_CLIENT_TENSOR_H_
#define TRUN_CLIENT_TENSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ir/scalar_type.h"

namespace trun {
inline namespace client {

class SessionState;

// Element type and shape (row-major; an empty shape is one element).
struct TensorSpec {
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<uint64_t> shape;
};

// Device memory of one session, freed by the destructor. Movable, not copyable.
//
// Thread-compatible; different tensors may be used at once. Holds its session's connection, not the session:
// once the session is closed every call answers NOT_FOUND/SESSION_EXPIRED and the destructor does nothing.
// Every call may also end with UNAVAILABLE when the daemon is gone.
class Tensor {
 public:
  Tensor() = default;  // names nothing; only assignment and destruction are allowed
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor();

  const std::string& handle() const { return handle_; }
  ScalarType dtype() const { return spec_.dtype; }
  const std::vector<uint64_t>& shape() const { return spec_.shape; }
  uint64_t bytes() const { return bytes_; }
  // The address kernels see: the same for the tensor's whole life.
  uint64_t device_address() const { return device_address_; }

  // Copies `data` to `offset`, in order after every launch queued before.
  // Through shared memory where the daemon is local and the tensor large; on a stream otherwise.
  // OUT_OF_RANGE past the end.
  absl::Status Write(absl::string_view data, uint64_t offset = 0);
  // Copies from `offset` into `out`, in order after every launch queued before. OUT_OF_RANGE past the end.
  absl::Status Read(absl::Span<char> out, uint64_t offset = 0) const;
  // The whole tensor.
  absl::StatusOr<std::string> Read() const;
  // Repeats a pattern of 1, 2, 4 or 8 bytes over the whole tensor.
  absl::Status Fill(absl::string_view pattern);
  // Copies all of `source`, a tensor of the same session and size. INVALID_ARGUMENT otherwise.
  absl::Status CopyFrom(const Tensor& source);
  // The tensor's memory, shared with the device, for as long as this object lives. Launches that run
  // meanwhile are seen as they write: Synchronize first. FAILED_PRECONDITION where the memory cannot be
  // mapped (a CUDA device, or a daemon on another machine).
  absl::StatusOr<absl::Span<char>> Map();
  // Frees the memory now and says whether that worked; the object then names nothing. NOT_FOUND/HANDLE.
  absl::Status Free();

 private:
  friend class Session;
  struct Mapping;

  absl::Status EnsureMapped() const;

  std::shared_ptr<SessionState> state_;
  std::string handle_;
  TensorSpec spec_;
  uint64_t bytes_ = 0;
  uint64_t device_address_ = 0;
  mutable std::shared_ptr<Mapping> mapping_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_TENSOR_H_
