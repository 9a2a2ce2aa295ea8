#include "server/session/address_space.h"

#include <vector>

namespace trun {

AddressSpace* AddressSpace::Process() {
  static AddressSpace* const process = new AddressSpace;
  return process;
}

std::optional<uint64_t> AddressSpace::Reserve(uint64_t bytes) {
  MutexLock lock(&mu_);
  std::vector<uint64_t> across;  // of two windows: kept aside until one is found that is not
  std::optional<uint64_t> address;
  while (true) {
    address = ranges_.Allocate(bytes + kGranule, kGranule);
    if (address.has_value()) {
      if (*address / kWindow == (*address + bytes - 1) / kWindow || bytes > kWindow) break;
      across.push_back(*address);
      continue;
    }
    if (released_.empty()) break;
    ranges_.Free(released_.front().first, released_.front().second);
    released_.pop_front();
  }
  for (const uint64_t begin : across) ranges_.Free(begin, bytes + kGranule);
  return address;
}

void AddressSpace::Release(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  released_.emplace_back(address, bytes + kGranule);
}

}  // namespace trun
