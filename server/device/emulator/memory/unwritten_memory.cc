#include "server/device/emulator/memory/unwritten_memory.h"

#include <algorithm>

namespace trun::device {

void UnwrittenMemory::Add(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  ranges_[address] = {bytes, std::vector<bool>(bytes, true)};
}

void UnwrittenMemory::Remove(uint64_t address) {
  MutexLock lock(&mu_);
  ranges_.erase(address);
}

void UnwrittenMemory::MarkWritten(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  auto it = ranges_.upper_bound(address);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < address + bytes) {
    Range& range = it->second;
    const uint64_t begin = std::max(address, it->first) - it->first;
    const uint64_t end = std::min(address + bytes - it->first, range.unwritten.size());
    for (uint64_t i = begin; i < end; ++i) {
      if (range.unwritten[i]) {
        range.unwritten[i] = false;
        --range.left;
      }
    }
    it = range.left == 0 ? ranges_.erase(it) : std::next(it);
  }
}

void UnwrittenMemory::MarkAllWritten() {
  MutexLock lock(&mu_);
  ranges_.clear();
}

bool UnwrittenMemory::Read(uint64_t address, uint64_t bytes, uint8_t* undefined) {
  std::fill(undefined, undefined + bytes, uint8_t{0});
  MutexLock lock(&mu_);
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return false;
  --it;
  const Range& range = it->second;
  bool some = false;
  for (uint64_t i = 0; i < bytes && address - it->first + i < range.unwritten.size(); ++i) {
    undefined[i] = range.unwritten[address - it->first + i] ? 1 : 0;
    some |= undefined[i] != 0;
  }
  return some;
}

}  // namespace trun::device
