#include "server/session/address_space.h"

namespace trun {

AddressSpace* AddressSpace::Process() {
  static AddressSpace* const process = new AddressSpace;
  return process;
}

std::optional<uint64_t> AddressSpace::Reserve(uint64_t bytes) {
  MutexLock lock(&mu_);
  while (true) {
    const std::optional<uint64_t> address = ranges_.Allocate(bytes + kGranule, kGranule);
    if (address.has_value() || released_.empty()) return address;
    ranges_.Free(released_.front().first, released_.front().second);
    released_.pop_front();
  }
}

void AddressSpace::Release(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  released_.emplace_back(address, bytes + kGranule);
}

}  // namespace trun
