// The mbarrier object: 64 bits in shared memory, in a form of the emulator's own (PTX leaves it opaque).
//
//   bits 0-19   pending arrivals of the current phase
//   bits 20-39  expected arrivals of the next phase
//   bits 40-61  pending transactions in bytes, two's complement (PTX's range is -(2^20 - 1) … 2^20 - 1)
//   bit 62      parity of the current phase
//   bit 63      initialised
//
// Pure functions, thread-safe. PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_H_

#include <cstdint>

namespace trun::device {

inline constexpr uint32_t kMbarrierMaxCount = (1u << 20) - 1;

struct Mbarrier {
  uint32_t pending = 0;
  uint32_t expected = 0;
  int32_t transactions = 0;
  bool parity = false;

  // False for a word that mbarrier.init did not write, or that mbarrier.inval cleared.
  static bool IsValid(uint64_t word) { return (word >> 63) != 0; }
  static Mbarrier Decode(uint64_t word) {
    Mbarrier b;
    b.pending = static_cast<uint32_t>(word) & kMbarrierMaxCount;
    b.expected = static_cast<uint32_t>(word >> 20) & kMbarrierMaxCount;
    b.transactions = static_cast<int32_t>(static_cast<uint32_t>(word >> 40) << 10) >> 10;
    b.parity = (word >> 62 & 1) != 0;
    return b;
  }
  uint64_t Encode() const {
    return uint64_t{1} << 63 | uint64_t{parity} << 62 |
           (static_cast<uint64_t>(static_cast<uint32_t>(transactions)) & 0x3fffff) << 40 |
           uint64_t{expected} << 20 | pending;
  }

  // True when the phase has ended, and the next one has begun.
  bool CompleteIfDone() {
    if (pending != 0 || transactions != 0) return false;
    parity = !parity;
    pending = expected;
    return true;
  }
};

enum class MbarrierResult : uint8_t {
  kOk,
  kNotInitialised,    // never, or invalidated
  kTooManyArrivals,   // more than the phase expects
  kTransactionRange,  // the transaction count left its range
};

// Each reads and writes the word, and completes the phase where that is due.
MbarrierResult MbarrierExpectTransactions(uint64_t* word, int64_t bytes);
MbarrierResult MbarrierCompleteTransactions(uint64_t* word, int64_t bytes);
// `drop` lowers what later phases expect too.
MbarrierResult MbarrierArrive(uint64_t* word, uint32_t count, bool drop);
// cp.async.mbarrier.arrive without .noinc: one more arrival is expected in this phase (which its completion
// makes).
MbarrierResult MbarrierExpectOneMore(uint64_t* word);

// True when the phase with this parity has ended: the current phase has the other one.
inline bool MbarrierPhaseEnded(uint64_t word, bool parity) { return Mbarrier::Decode(word).parity != parity; }

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_MBARRIER_H_
