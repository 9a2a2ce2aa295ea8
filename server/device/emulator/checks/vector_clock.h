// What one thread of execution knows of the others: for each, up to which of its steps everything has been
// seen.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_VECTOR_CLOCK_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_VECTOR_CLOCK_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace trun::device {

// Holds the steps that are not 0 only: most warps of a launch never hear of each other. Thread-compatible.
class VectorClock {
 public:
  uint32_t Get(uint32_t agent) const {
    const auto it = Find(agent);
    return it != steps_.end() && it->first == agent ? it->second : 0;
  }
  void Raise(uint32_t agent, uint32_t step) {
    const auto it = steps_.begin() + (Find(agent) - steps_.begin());
    if (it != steps_.end() && it->first == agent) {
      it->second = std::max(it->second, step);
    } else {
      steps_.insert(it, {agent, step});
    }
  }
  void Join(const VectorClock& other) {
    if (other.steps_.empty()) return;
    std::vector<std::pair<uint32_t, uint32_t>> all;
    all.reserve(steps_.size() + other.steps_.size());
    auto a = steps_.begin();
    auto b = other.steps_.begin();
    while (a != steps_.end() || b != other.steps_.end()) {
      if (b == other.steps_.end() || (a != steps_.end() && a->first < b->first)) {
        all.push_back(*a++);
      } else if (a == steps_.end() || b->first < a->first) {
        all.push_back(*b++);
      } else {
        all.emplace_back(a->first, std::max(a->second, b->second));
        ++a;
        ++b;
      }
    }
    steps_ = std::move(all);
  }
  void Clear() { steps_.clear(); }

 private:
  std::vector<std::pair<uint32_t, uint32_t>>::const_iterator Find(uint32_t agent) const {
    return std::lower_bound(steps_.begin(), steps_.end(), agent,
                            [](const auto& step, uint32_t wanted) { return step.first < wanted; });
  }

  std::vector<std::pair<uint32_t, uint32_t>> steps_;  // by agent
};

// What sees memory in its own way, and writes of the generic proxy only behind a fence for it.
enum class Proxy : uint8_t {
  kAsyncShared,  // the async proxy, of shared and of global memory: fence.proxy.async may name one
  kAsyncGlobal,
  kTensorMap,  // reads of tensor maps: fence.proxy.tensormap
};
inline constexpr size_t kProxies = 3;

// Whom an atomic, an ordered access or a fence reaches.
enum class Scope : uint8_t {
  kCta,
  kCluster,
  kAll,  // .gpu, .sys: a launch is on one device
};
inline constexpr size_t kScopes = 3;

// What a thread knows of the others: what it has seen, and what of that stood before a proxy fence, so that
// the other proxies see it, too.
struct Knowledge {
  VectorClock seen;
  std::array<VectorClock, kProxies> fenced;

  const VectorClock& Fenced(Proxy proxy) const { return fenced[static_cast<size_t>(proxy)]; }

  uint32_t Get(uint32_t agent) const { return seen.Get(agent); }
  void Raise(uint32_t agent, uint32_t step) { seen.Raise(agent, step); }
  void Join(const Knowledge& other) {
    seen.Join(other.seen);
    for (size_t p = 0; p < kProxies; ++p) fenced[p].Join(other.fenced[p]);
  }
  void Clear() {
    seen.Clear();
    for (VectorClock& clock : fenced) clock.Clear();
  }
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_VECTOR_CLOCK_H_
