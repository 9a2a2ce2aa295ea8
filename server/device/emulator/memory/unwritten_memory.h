// Which bytes of the allocations nobody has written yet: for the check of uninitialised reads.
//
// An allocation is known here only after the host has said that it is fresh and that every write of its own
// will be noted; all other memory counts as written. So a byte is reported only when nothing can have written
// it.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_
#define TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/mutex.h"

namespace trun::device {

// Thread-safe.
class UnwrittenMemory {
 public:
  // Nobody has written [address, address + bytes).
  void Add(uint64_t address, uint64_t bytes);
  void Remove(uint64_t address);
  void MarkWritten(uint64_t address, uint64_t bytes);
  // A launch has run that nobody looked on at: it may have written anything.
  void MarkAllWritten();

  // Sets undefined[i] to 1 where byte address + i is unwritten, and to 0 elsewhere. False: none is.
  bool Read(uint64_t address, uint64_t bytes, uint8_t* undefined);

 private:
  struct Range {
    uint64_t left = 0;            // unwritten bytes
    std::vector<bool> unwritten;  // by byte
  };

  Mutex mu_;
  std::map<uint64_t, Range> ranges_ ABSL_GUARDED_BY(mu_);  // by begin
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_MEMORY_UNWRITTEN_MEMORY_H_
