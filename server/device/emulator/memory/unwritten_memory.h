// Which bytes of the allocations nobody has written yet: for the check of uninitialised reads.
//
// The host writes memory that it maps, unseen. So a launch names the allocations for which the host vouches
// that it has not; what neither a launch nor the device has written of those is unwritten, everything else
// counts as written. A byte is reported only when nothing can have written it.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_
#define TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"

namespace trun::device {

// Thread-safe. An eighth of the size of the allocations that have been vouched for.
class UnwrittenMemory {
 public:
  void Add(uint64_t id, uint64_t address, uint64_t bytes);
  void Remove(uint64_t id);  // also one that is not there
  // Until the next call, these allocations are vouched for and no others.
  void Vouch(absl::Span<const uint64_t> ids);
  void MarkWritten(uint64_t address, uint64_t bytes);
  // A launch has run that nobody looked on at: it may have written anything.
  void MarkAllWritten();

  // Sets undefined[i] to 1 where byte address + i is unwritten, and to 0 elsewhere. False: none is.
  bool Read(uint64_t address, uint64_t bytes, uint8_t* undefined);

 private:
  struct Range {
    uint64_t bytes = 0;
    bool vouched = false;
    bool all_written = false;     // or nobody will ask
    std::vector<bool> unwritten;  // by byte; empty: nothing has been written, or all_written
  };

  Mutex mu_;
  std::map<uint64_t, Range> ranges_ ABSL_GUARDED_BY(mu_);                // by begin
  absl::flat_hash_map<uint64_t, uint64_t> begins_ ABSL_GUARDED_BY(mu_);  // by id
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_
