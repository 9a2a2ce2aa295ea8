// Sealed shared memory: what arenas of sessions are made of on the emulator.
#ifndef TRUN_SERVER_DEVICE_SHARED_MEMORY_H_
#define TRUN_SERVER_DEVICE_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/unique_fd.h"

namespace trun::device {

constexpr uint64_t kPageBytes = 4096;  // of the host

// A memfd of `bytes`, zero, sealed against shrinking, growing and further seals, so that no peer can take a
// page away under a reader. Takes no memory until it is touched. RESOURCE_EXHAUSTED kOutOfMemory.
absl::StatusOr<UniqueFd> CreateSealedMemory(uint64_t bytes);

// A mapping of a whole descriptor, at an address of the kernel's choice. Thread-compatible; move-only.
class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;
  ~MappedMemory();

  // RESOURCE_EXHAUSTED kOutOfMemory.
  static absl::StatusOr<MappedMemory> Map(const UniqueFd& fd, uint64_t bytes);

  char* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Zeroes [offset, offset + bytes); whole pages are given back to the system. `mapping` is one of `fd`.
absl::Status ZeroRange(const UniqueFd& fd, const MappedMemory& mapping, uint64_t offset, uint64_t bytes);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_SHARED_MEMORY_H_
