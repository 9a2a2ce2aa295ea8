#ifndef TRUN_SERVER_SESSION_ADDRESS_SPACE_H_
#define TRUN_SERVER_SESSION_ADDRESS_SPACE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "common/base/mutex.h"
#include "server/device/range_allocator.h"

namespace trun {

// Device addresses of arenas: one range of the whole daemon, so that no two sessions have the same address.
// Addresses of an arena that is gone are handed out again as late as possible. Thread-safe.
class AddressSpace {
 public:
  static constexpr uint64_t kGranule = uint64_t{2} << 20;
  // Below is where an executor may have its heap (sanitizers), above its scratch and its code.
  static constexpr uint64_t kBegin = 0x2000'0000'0000;
  static constexpr uint64_t kEnd = 0x4800'0000'0000;

  // Where clients put the memory that they make themselves and import (docs/adr/0020-torch-in-the-daemon.md).
  static constexpr uint64_t kImportBegin = 0x5000'0000'0000;
  static constexpr uint64_t kImportEnd = 0x6000'0000'0000;

  explicit AddressSpace(uint64_t begin = kBegin, uint64_t end = kEnd) : ranges_(begin, end) {}
  // The daemon's.
  static AddressSpace* Process();

  // A device reserves whole windows of this size (server/device/cuda/address_window.h): an arena lies in one.
  static constexpr uint64_t kWindow = uint64_t{1} << 40;

  // `bytes` of addresses, a multiple of kGranule, with an unused granule behind them; nothing when none are
  // left.
  std::optional<uint64_t> Reserve(uint64_t bytes);
  void Release(uint64_t address, uint64_t bytes);

 private:
  Mutex mu_;
  device::RangeAllocator ranges_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<uint64_t, uint64_t>> released_ ABSL_GUARDED_BY(mu_);  // oldest first
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_ADDRESS_SPACE_H_
