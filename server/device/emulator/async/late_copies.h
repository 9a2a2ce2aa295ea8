// Bulk copies that are under way: with the late_async check they are made as late as their waits allow, so
// that a kernel that forgets a wait sees what was there before.
//
// A copy that counts on an mbarrier is made when someone waits for the phase that it holds up; one in a bulk
// group when its thread waits for the group: what it reads at a wait with .read, the rest at one without.
// What no one waits for is written when its thread ends (loads, whose mbarrier no one asks for: never).
// Thread-compatible, like the warps and CTAs that own the copies.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_LATE_COPIES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_LATE_COPIES_H_

#include <cstdint>
#include <memory>

#include "server/device/emulator/async/mbarrier.h"
#include "server/device/emulator/exec/warp.h"

namespace trun::device {

// One copy; all its addresses have been checked. Read is called once, then Write once.
class LateCopy {
 public:
  virtual ~LateCopy() = default;
  virtual void Read() = 0;
  virtual void Write() = 0;
};

// `owner` is the CTA in whose shared memory the mbarrier lies.
void DelayUntilPhase(Cta& owner, uint64_t* mbarrier, std::unique_ptr<LateCopy> copy, uint64_t bytes);
// Makes the copies that hold up the phase with this parity, oldest first, until it ends. `cta` owns the
// mbarrier, and has copies that are late.
MbarrierResult MakeCopiesOfPhase(Cta& cta, uint64_t* mbarrier, bool parity);
// Makes all of them, without counting: the mbarrier goes away.
void MakeCopiesOfMbarrier(Cta& cta, uint64_t* mbarrier);

// In the lane's open bulk group.
void DelayUntilWait(Warp& warp, uint32_t lane, std::unique_ptr<LateCopy> copy);
// REQUIRES, both: warp.bulk_copies, which DelayUntilWait makes.
void CommitLateCopies(Warp& warp, uint32_t mask);
// Of the lanes in `mask`, all groups but the last `left`.
void MakeLateCopies(Warp& warp, uint32_t mask, uint32_t left, bool reads_only);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_LATE_COPIES_H_
