// The last accesses to memory, word by word: what a new access may race with.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_ACCESS_HISTORY_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_ACCESS_HISTORY_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "server/device/emulator/checks/vector_clock.h"

namespace trun::device {

struct AccessRecord {
  static constexpr uint8_t kWrite = 1, kAtomic = 2, kAsync = 8;
  static constexpr uint8_t kCtaScope = 4, kClusterScope = 128;  // of an atomic; neither: all
  static constexpr uint8_t kOverwritten = 16;  // by a copy or a map: no more what the other proxies see
  static constexpr uint8_t kAsyncProxy = 32;   // bulk copies and wgmma
  static constexpr uint8_t kMakesMap = 64;     // by a tensormap instruction
  static constexpr uint8_t kSeveralLanes = 0xff;

  uint32_t agent = 0xffffffff;  // nobody
  uint32_t step = 0;
  uint32_t pc = 0;
  uint8_t bytes = 0;  // of the word
  uint8_t flags = 0;
  uint8_t lane = 0;                // kSeveralLanes: each wrote a part of the word
  uint32_t own_read = 0xffffffff;  // of a write: where its agent read the word before, if it did

  bool Is(uint8_t flag) const { return (flags & flag) != 0; }
};

// How an access conflicts with an earlier one.
enum class Conflict : uint8_t {
  kNone,
  kUnordered,  // nothing orders them
  kLanes,      // of two lanes of one warp, without bar.warp.sync
  kProxy,      // in order, but not for the proxy of the access
};

// What an access knows when it is made.
struct AccessContext {
  const Knowledge& known;
  uint32_t lanes_since = 0;  // the warp's step since which its lanes have not met; 0: they are not told apart
  // What of that the proxy sees that the access goes through; null: the generic one.
  const VectorClock* fenced = nullptr;
  // Whether the scope of the one reaches the other.
  absl::FunctionRef<bool(uint32_t agent, uint32_t other, Scope)> reaches;
};

// The last accesses to one word of 4 bytes. A few are kept: one that is pushed out may hide a race, never
// make one.
struct AccessCell {
  std::array<AccessRecord, 3> records;

  // Notes `access`. What it conflicts with is copied to `before`.
  Conflict Add(const AccessRecord& access, const AccessContext& context, AccessRecord* before);
};

// The cells of global memory, made where something is accessed. Thread-compatible.
class AccessPages {
 public:
  AccessCell& At(uint64_t word) {
    std::unique_ptr<Page>& page = pages_[word / kPageWords];
    if (page == nullptr) page = std::make_unique<Page>();
    return (*page)[word % kPageWords];
  }

 private:
  static constexpr uint64_t kPageWords = 1024;
  using Page = std::array<AccessCell, kPageWords>;

  absl::flat_hash_map<uint64_t, std::unique_ptr<Page>> pages_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_ACCESS_HISTORY_H_
