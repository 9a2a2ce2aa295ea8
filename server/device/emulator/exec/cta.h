// Setting up a CTA and running it, alone or in turns with others.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_CTA_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_CTA_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/device/emulator/exec/warp.h"

namespace trun::device {

// Zeroed memory, aligned to a page, that is kept between uses. Thread-compatible.
class HostBuffer {
 public:
  HostBuffer() = default;
  ~HostBuffer();
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  // At least `bytes`; the content is what was there, or zero where the buffer grew. Null when the host has
  // none.
  uint8_t* Ensure(size_t bytes);

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// A CTA with the memory it runs in; reused for one CTA after another of a launch. Thread-compatible.
class CtaSlot {
 public:
  // Sets up CTA `linear` of the launch. False when the host has no memory for it.
  bool Start(Launch* launch, Worker* worker, uint64_t linear);
  Cta& cta() { return cta_; }

 private:
  void SetUpWarp(const Launch& launch, uint32_t index);
  uint32_t SpecialValue(const Launch& launch, const Warp& warp, uint8_t which, uint32_t lane) const;

  Cta cta_;
  HostBuffer registers_;
  HostBuffer shared_;
  HostBuffer local_;
  const Program* constants_of_ = nullptr;  // whose constants the register files hold
  uint64_t constants_launch_ = 0;
};

enum class CtaStop : uint8_t {
  kDone,
  kSpun,     // every warp that can run polls for something
  kBlocked,  // every warp waits, and one of them for another CTA
  kQuantum,
  kFault,  // worker.fault is set
};

// Runs the CTA's warps in turns until it ends, cannot go on alone, or has run about `quantum` instructions. A
// CTA in which every warp waits for its own CTA is a fault (kBarrierDivergence or kHungKernel).
CtaStop RunCta(Cta& cta, uint64_t quantum, uint64_t* executed);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_CTA_H_
