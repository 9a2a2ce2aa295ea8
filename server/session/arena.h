#ifndef TRUN_SERVER_SESSION_ARENA_H_
#define TRUN_SERVER_SESSION_ARENA_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/unique_fd.h"
#include "server/device/range_allocator.h"
#include "server/device/shared_memory.h"
#include "server/session/address_space.h"

namespace trun {

// A piece of a session's memory and its fixed device address. Either a sealed memfd with this process's
// mapping of it, through which trund reads and writes tensors (sealed, so that no peer can make that a
// SIGBUS); or memory of a device, made by an executor, of which this process only keeps the descriptor.
// Thread-compatible; copying through memory() needs no lock.
class Arena {
 public:
  // `bytes` is rounded up to granules. RESOURCE_EXHAUSTED kOutOfMemory.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(uint64_t id, uint64_t bytes, AddressSpace* addresses);
  // An address for memory of a device, which an executor makes: SetDescriptor.
  static absl::StatusOr<std::unique_ptr<Arena>> Reserve(uint64_t id, uint64_t bytes, AddressSpace* addresses);
  // Memory of the client's own on the device, at the client's address; nothing else is put into it. Without a
  // descriptor it is known by a handle, and lies where the executor of a generation put it: SetForeign.
  static std::unique_ptr<Arena> Import(uint64_t id, uint64_t address, uint64_t bytes, UniqueFd descriptor);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  uint64_t id() const { return id_; }
  uint64_t address() const { return address_; }
  uint64_t bytes() const { return bytes_; }
  bool imported() const { return addresses_ == nullptr; }
  // The executor's generation without which the address means nothing; 0: any executor has it there.
  uint64_t foreign_in() const { return foreign_in_; }
  void SetForeign(uint64_t address, uint64_t generation) {
    address_ = address;
    foreign_in_ = generation;
  }
  bool in_host_memory() const { return mapping_.data() != nullptr; }
  const UniqueFd& descriptor() const { return descriptor_; }
  void SetDescriptor(UniqueFd descriptor) { descriptor_ = std::move(descriptor); }
  // REQUIRES: in_host_memory().
  char* memory() const { return mapping_.data(); }
  device::RangeAllocator* ranges() { return &ranges_; }
  // Zeroes a range and gives its pages back. REQUIRES: in_host_memory().
  absl::Status Zero(uint64_t offset, uint64_t bytes) {
    return device::ZeroRange(descriptor_, mapping_, offset, bytes);
  }

 private:
  Arena(uint64_t id, uint64_t address, uint64_t bytes, AddressSpace* addresses, UniqueFd descriptor,
        device::MappedMemory mapping)
      : id_(id),
        address_(address),
        bytes_(bytes),
        addresses_(addresses),
        descriptor_(std::move(descriptor)),
        mapping_(std::move(mapping)),
        ranges_(0, bytes) {}

  const uint64_t id_;
  uint64_t address_;
  const uint64_t bytes_;
  AddressSpace* const addresses_;  // null: imported
  uint64_t foreign_in_ = 0;
  UniqueFd descriptor_;
  const device::MappedMemory mapping_;
  device::RangeAllocator ranges_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_ARENA_H_
