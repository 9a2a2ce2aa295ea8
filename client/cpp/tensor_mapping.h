#ifndef TRUN_CLIENT_CPP_TENSOR_MAPPING_H_
#define TRUN_CLIENT_CPP_TENSOR_MAPPING_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "client/cpp/session_state.h"
#include "common/base/unique_fd.h"
#include "trun/tensor.h"

namespace trun {
inline namespace client {

// A tensor's memory in this process: the arena's descriptor, and the pages of the tensor once something wants
// them. Thread-compatible. Stays valid when the executor or the daemon ends.
struct Tensor::Mapping {
  ~Mapping();

  // Asks the daemon for the tensor's descriptor. FAILED_PRECONDITION where the memory is not this host's.
  static absl::StatusOr<std::shared_ptr<Mapping>> Make(SessionState& state, const std::string& handle,
                                                       uint64_t bytes);

  static absl::Status NotHere(const SessionState& state, const std::string& handle);

  // Maps the pages; once.
  absl::Status EnsurePages();
  // REQUIRES: offset + data.size() <= bytes.
  absl::Status Write(absl::string_view data, uint64_t offset);
  absl::Status Read(absl::Span<char> out, uint64_t offset);

  UniqueFd fd;
  uint64_t fd_offset = 0;  // of the tensor in the descriptor
  uint64_t bytes = 0;
  void* base = nullptr;  // of the mapping, page-aligned
  size_t mapped_bytes = 0;
  char* data = nullptr;  // of the tensor
  bool used = false;     // written or read once: the next time pays for a mapping
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_TENSOR_MAPPING_H_
