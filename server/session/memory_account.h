#ifndef TRUN_SERVER_SESSION_MEMORY_ACCOUNT_H_
#define TRUN_SERVER_SESSION_MEMORY_ACCOUNT_H_

#include <atomic>
#include <cstdint>

namespace trun {

// Bytes in use against a limit. Thread-safe.
class MemoryAccount {
 public:
  explicit MemoryAccount(uint64_t limit) : limit_(limit) {}
  MemoryAccount(const MemoryAccount&) = delete;
  MemoryAccount& operator=(const MemoryAccount&) = delete;

  // False, and nothing charged, when it would go over the limit.
  bool TryCharge(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > limit_ || used > limit_ - bytes) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  // REQUIRES: the bytes were charged.
  void Return(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t limit() const { return limit_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_MEMORY_ACCOUNT_H_
