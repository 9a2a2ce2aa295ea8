#include "server/device/emulator/async/late_copies.h"

#include <array>
#include <deque>
#include <map>
#include <utility>
#include <vector>

namespace trun::device {
namespace {

struct Load {
  std::unique_ptr<LateCopy> copy;
  uint64_t bytes = 0;
};

struct Loads final : CtaExtension {
  std::map<const uint64_t*, std::deque<Load>> by_mbarrier;
};

struct Store {
  std::unique_ptr<LateCopy> copy;
  uint32_t lane = 0;
  uint64_t group = 0;  // of the lane
  bool was_read = false;
};

// Groups are a thread's.
struct Stores final : WarpExtension {
  std::deque<Store> stores;  // oldest first
  std::array<uint64_t, 32> open_group = {};

  // Those of the lanes whose group is below what `end` gives for the lane.
  template <typename End>
  void Make(uint32_t mask, bool reads_only, End end) {
    std::deque<Store> left;
    for (Store& store : stores) {
      if ((mask >> store.lane & 1) != 0 && store.group < end(store.lane)) {
        if (!std::exchange(store.was_read, true)) store.copy->Read();
        if (!reads_only) {
          store.copy->Write();
          continue;
        }
      }
      left.push_back(std::move(store));
    }
    stores = std::move(left);
  }

  void LanesExit(uint32_t mask) override {
    Make(mask, false, [](uint32_t) { return ~uint64_t{0}; });
  }
};

Stores& StoresOf(Warp& warp) { return *static_cast<Stores*>(warp.bulk_copies.get()); }

void Make(LateCopy& copy) {
  copy.Read();
  copy.Write();
}

}  // namespace

void DelayUntilPhase(Cta& owner, uint64_t* mbarrier, std::unique_ptr<LateCopy> copy, uint64_t bytes) {
  if (owner.bulk_copies == nullptr) owner.bulk_copies = std::make_unique<Loads>();
  static_cast<Loads*>(owner.bulk_copies.get())->by_mbarrier[mbarrier].push_back({std::move(copy), bytes});
}

MbarrierResult MakeCopiesOfPhase(Cta& cta, uint64_t* mbarrier, bool parity) {
  auto& all = static_cast<Loads*>(cta.bulk_copies.get())->by_mbarrier;
  const auto found = all.find(mbarrier);
  if (found == all.end()) return MbarrierResult::kOk;
  std::deque<Load>& loads = found->second;
  while (!loads.empty() && !MbarrierPhaseEnded(*mbarrier, parity)) {
    const Load load = std::move(loads.front());
    loads.pop_front();
    Make(*load.copy);
    const MbarrierResult result = MbarrierCompleteTransactions(mbarrier, static_cast<int64_t>(load.bytes));
    if (result != MbarrierResult::kOk) return result;
  }
  if (loads.empty()) all.erase(found);
  return MbarrierResult::kOk;
}

void MakeCopiesOfMbarrier(Cta& cta, uint64_t* mbarrier) {
  auto& all = static_cast<Loads*>(cta.bulk_copies.get())->by_mbarrier;
  const auto found = all.find(mbarrier);
  if (found == all.end()) return;
  for (const Load& load : found->second) Make(*load.copy);
  all.erase(found);
}

void DelayUntilWait(Warp& warp, uint32_t lane, std::unique_ptr<LateCopy> copy) {
  if (warp.bulk_copies == nullptr) warp.bulk_copies = std::make_unique<Stores>();
  Stores& stores = StoresOf(warp);
  stores.stores.push_back({std::move(copy), lane, stores.open_group[lane], false});
}

void CommitLateCopies(Warp& warp, uint32_t mask) {
  Stores& stores = StoresOf(warp);
  for (uint32_t lane = 0; lane < 32; ++lane) stores.open_group[lane] += mask >> lane & 1;
}

void MakeLateCopies(Warp& warp, uint32_t mask, uint32_t left, bool reads_only) {
  Stores& stores = StoresOf(warp);
  stores.Make(mask, reads_only, [&](uint32_t lane) {
    const uint64_t open = stores.open_group[lane];
    return open > left ? open - left : 0;
  });
}

}  // namespace trun::device
