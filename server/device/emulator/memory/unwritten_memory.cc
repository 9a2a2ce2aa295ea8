#include "server/device/emulator/memory/unwritten_memory.h"

#include <algorithm>

namespace trun::device {

void UnwrittenMemory::Add(uint64_t id, uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  Range& range = ranges_[address];
  range = Range();
  range.bytes = bytes;
  begins_[id] = address;
}

void UnwrittenMemory::Remove(uint64_t id) {
  MutexLock lock(&mu_);
  const auto it = begins_.find(id);
  if (it == begins_.end()) return;
  ranges_.erase(it->second);
  begins_.erase(it);
}

void UnwrittenMemory::Vouch(absl::Span<const uint64_t> ids) {
  MutexLock lock(&mu_);
  for (auto& [begin, range] : ranges_) range.vouched = false;
  for (const uint64_t id : ids) {
    const auto it = begins_.find(id);
    if (it != begins_.end()) ranges_[it->second].vouched = true;
  }
}

void UnwrittenMemory::MarkWritten(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  auto it = ranges_.upper_bound(address);
  if (it != ranges_.begin()) --it;
  for (; it != ranges_.end() && it->first < address + bytes; ++it) {
    Range& range = it->second;
    const uint64_t begin = std::max(address, it->first) - it->first;
    const uint64_t end = std::min(address + bytes - it->first, range.bytes);
    if (range.all_written || begin >= end) continue;
    if (!range.vouched || (begin == 0 && end == range.bytes)) {
      range.all_written = true;
      range.unwritten = {};
      continue;
    }
    if (range.unwritten.empty()) range.unwritten.assign(range.bytes, true);
    std::fill(range.unwritten.begin() + static_cast<std::ptrdiff_t>(begin),
              range.unwritten.begin() + static_cast<std::ptrdiff_t>(end), false);
  }
}

void UnwrittenMemory::MarkAllWritten() {
  MutexLock lock(&mu_);
  for (auto& [begin, range] : ranges_) {
    range.all_written = true;
    range.unwritten = {};
  }
}

bool UnwrittenMemory::Read(uint64_t address, uint64_t bytes, uint8_t* undefined) {
  std::fill(undefined, undefined + bytes, uint8_t{0});
  MutexLock lock(&mu_);
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return false;
  --it;
  const Range& range = it->second;
  if (!range.vouched || range.all_written) return false;
  bool some = false;
  for (uint64_t i = 0; i < bytes && address - it->first + i < range.bytes; ++i) {
    undefined[i] = range.unwritten.empty() || range.unwritten[address - it->first + i] ? 1 : 0;
    some |= undefined[i] != 0;
  }
  return some;
}

}  // namespace trun::device
