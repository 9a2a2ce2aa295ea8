// Scratch memory of launches: Triton's global and profile scratch, which the kernel gets through hidden
// parameters.
#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_SCRATCH_POOL_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_SCRATCH_POOL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/unique_fd.h"
#include "server/device/device.h"
#include "server/device/range_allocator.h"
#include "server/device/shared_memory.h"

namespace trun {

// Thread-compatible. Must be destroyed before its device, after the launches that use its blocks.
class ScratchPool {
 public:
  // A block of the device's memory; allocation ids have the top bit set, so that they are nobody else's.
  struct Block {
    uint64_t address = 0;  // 0: no memory was asked for
    uint64_t bytes = 0;
    uint64_t id = 0;
    uint64_t reserved = 0;
  };

  // At most `limit` bytes of arenas are mapped from `address` on, as they are needed: all at once where
  // memory of the host is taken only as it is touched, by and by where it is the device's.
  ScratchPool(device::Device* device, uint64_t address, uint64_t limit)
      : device_(device), address_(address), limit_(limit) {}

  // Zeroed memory. RESOURCE_EXHAUSTED kOutOfMemory; INVALID_ARGUMENT kMetadata: an alignment that is no power
  // of two.
  absl::StatusOr<Block> Acquire(uint64_t bytes, uint64_t align);
  // REQUIRES: the block is this pool's, and no launch uses it any more.
  void Release(const Block& block);

 private:
  struct Chunk {
    Chunk(uint64_t address, uint64_t bytes) : address(address), ranges(address, address + bytes) {}
    const uint64_t address;
    UniqueFd memory;
    device::MappedMemory mapping;  // of memory of the host
    std::unique_ptr<device::Arena> arena;
    device::RangeAllocator ranges;  // of addresses
  };

  // A chunk with room for a block of `reserved` bytes.
  absl::Status Grow(uint64_t reserved, uint64_t align);
  absl::Status Zero(const Chunk& chunk, uint64_t address, uint64_t bytes);

  device::Device* const device_;
  const uint64_t address_;
  const uint64_t limit_;
  std::vector<std::unique_ptr<Chunk>> chunks_;  // one behind the other
  uint64_t mapped_ = 0;                         // bytes of all chunks
  uint64_t next_id_ = uint64_t{1} << 63;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_SCRATCH_POOL_H_
