#ifndef TRUN_SERVER_DEVICE_RANGE_ALLOCATOR_H_
#define TRUN_SERVER_DEVICE_RANGE_ALLOCATOR_H_

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

namespace trun::device {

// Hands out parts of [begin, end), lowest first, and joins what is given back. Only numbers: no memory is
// touched. Thread-compatible.
class RangeAllocator {
 public:
  RangeAllocator(uint64_t begin, uint64_t end) : end_(end) {
    if (begin < end) free_[begin] = end;
  }

  // The start of a free range of `bytes`, a multiple of `align`; nothing when there is none that large.
  // REQUIRES: bytes > 0, align a power of two.
  std::optional<uint64_t> Allocate(uint64_t bytes, uint64_t align) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      const uint64_t start = (it->first + align - 1) & ~(align - 1);
      const uint64_t stop = it->second;
      if (start < it->first || start >= stop || stop - start < bytes) continue;
      if (start == it->first) {
        free_.erase(it);
      } else {
        it->second = start;
      }
      if (start + bytes < stop) free_[start + bytes] = stop;
      if (start + bytes > touched_) touched_ = start + bytes;
      return start;
    }
    return std::nullopt;
  }

  // REQUIRES: the range was handed out and is given back once.
  void Free(uint64_t start, uint64_t bytes) {
    uint64_t stop = start + bytes;
    auto next = free_.lower_bound(start);
    if (next != free_.end() && next->first == stop) {
      stop = next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      auto previous = std::prev(next);
      if (previous->second == start) {
        previous->second = stop;
        return;
      }
    }
    free_[start] = stop;
  }

  // Nothing at or above this was ever handed out.
  uint64_t touched() const { return touched_; }
  uint64_t end() const { return end_; }

 private:
  const uint64_t end_;
  uint64_t touched_ = 0;
  std::map<uint64_t, uint64_t> free_;  // start → end
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_RANGE_ALLOCATOR_H_
