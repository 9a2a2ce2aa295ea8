// Which ranges of global memory a kernel may touch, and where they lie on the host.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ALLOCATION_TABLE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ALLOCATION_TABLE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "common/base/mutex.h"

namespace trun::device {

// Memory of the host that stands for a stretch of device addresses. Unmapped when the last reference goes.
struct HostMapping {
  HostMapping(uint64_t address, uint64_t bytes, uint8_t* host, bool owned_by_mmap)
      : address(address), bytes(bytes), host(host), owned_by_mmap(owned_by_mmap) {}
  ~HostMapping();
  HostMapping(const HostMapping&) = delete;
  HostMapping& operator=(const HostMapping&) = delete;

  const uint64_t address;
  const uint64_t bytes;
  uint8_t* const host;
  const bool owned_by_mmap;
};

struct AllocationRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint8_t* host = nullptr;  // of `begin`
  uint64_t id = 0;          // 0: a variable of a module
  bool read_only = false;
};

// The live ranges at one moment, sorted and disjoint; immutable.
struct AllocationSnapshot {
  std::vector<AllocationRange> ranges;
  std::vector<AllocationRange> freed;  // the latest freed ones, newest last; host is null
  std::vector<std::shared_ptr<const HostMapping>> mappings;  // kept alive

  // The range that holds all of [begin, end); null when none does.
  const AllocationRange* Find(uint64_t begin, uint64_t end) const;
  // The live range closest to the address; null when there is none.
  const AllocationRange* Nearest(uint64_t address) const;
  // The newest freed range that holds the address; null when none does.
  const AllocationRange* Freed(uint64_t address) const;

  // One that holds nothing.
  static const AllocationSnapshot& Empty();
};

// Thread-safe.
class AllocationTable {
 public:
  // ALREADY_EXISTS when the stretch overlaps another mapping.
  absl::Status AddMapping(std::shared_ptr<const HostMapping> mapping);
  void RemoveMapping(uint64_t address);

  // As Device::AddAllocation.
  absl::Status Add(uint64_t id, uint64_t address, uint64_t bytes);
  absl::Status Remove(uint64_t id);
  // A module's variable; its memory is a mapping of its own. Id 0.
  void AddModuleRange(uint64_t address, uint64_t bytes, bool read_only);
  void RemoveModuleRange(uint64_t address);

  std::shared_ptr<const AllocationSnapshot> Snapshot();
  // The mapping that holds all of the range; null when none does.
  std::shared_ptr<const HostMapping> FindMapping(uint64_t address, uint64_t bytes);

 private:
  std::shared_ptr<const HostMapping> MappingOf(uint64_t address, uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  std::map<uint64_t, std::shared_ptr<const HostMapping>> mappings_ ABSL_GUARDED_BY(mu_);  // by address
  std::map<uint64_t, AllocationRange> ranges_ ABSL_GUARDED_BY(mu_);                       // by begin
  std::map<uint64_t, uint64_t> begin_of_id_ ABSL_GUARDED_BY(mu_);
  std::deque<AllocationRange> freed_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const AllocationSnapshot> snapshot_ ABSL_GUARDED_BY(mu_);  // null: stale
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_MEMORY_ALLOCATION_TABLE_H_
