#include "server/device/emulator/exec/cta.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/exec/interpreter.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

constexpr uint64_t kWarpQuantum = 1 << 16;

uint32_t RoundUp(uint32_t value, uint32_t to) { return (value + to - 1) / to * to; }

// What a warp of a CTA that cannot go on waits at. REQUIRES: a warp that waits.
Step RaiseStuck(Cta& cta) {
  uint32_t waiting = 0;
  Warp* at_barrier = nullptr;
  Warp* any = &cta.warps[0];
  for (uint32_t w = 0; w < cta.warp_count; ++w) {
    Warp& warp = cta.warps[w];
    if (warp.state != WarpState::kWaiting) continue;
    if (any->state != WarpState::kWaiting) any = &warp;
    if (warp.barrier >= 0) {
      waiting += static_cast<uint32_t>(__builtin_popcount(warp.live));
      if (at_barrier == nullptr) at_barrier = &warp;
    }
  }
  Warp& warp = at_barrier != nullptr ? *at_barrier : *any;
  const uint32_t lane = warp.live != 0 ? static_cast<uint32_t>(__builtin_ctz(warp.live)) : 0;
  for (uint32_t g = 0; g < warp.group_count; ++g) {
    if ((warp.groups[g].mask >> lane & 1) != 0) warp.pc = warp.groups[g].pc;
  }
  if (at_barrier != nullptr) {
    const Barrier& barrier = cta.barriers[static_cast<size_t>(warp.barrier)];
    return Raise(
        warp, lane, Reason::kBarrierDivergence,
        absl::StrCat("a barrier that not all threads reach: ", barrier.arrived, " of ", barrier.expected,
                     " threads came to barrier ", warp.barrier, ", the others ended or wait elsewhere"));
  }
  return Raise(warp, lane, Reason::kBarrierDivergence,
               absl::StrCat("lanes of a warp wait for others that never come: ", warp.group_count,
                            " groups of lanes stand at different instructions"));
}

}  // namespace

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

uint8_t* HostBuffer::Ensure(size_t bytes) {
  if (bytes <= bytes_ && data_ != nullptr) return data_;
  const size_t wanted = std::max<size_t>((bytes + 4095) / 4096 * 4096, 4096);
  void* fresh = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return nullptr;
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = static_cast<uint8_t*>(fresh);
  bytes_ = wanted;
  return data_;
}

uint32_t CtaSlot::SpecialValue(const Launch& launch, const Warp& warp, uint8_t which, uint32_t lane) const {
  const LaunchDimensions& d = launch.dimensions;
  const uint32_t thread = ThreadOf(warp, lane);
  const auto cluster_count = [&](size_t i) { return d.grid[i] / d.cluster[i]; };
  switch (static_cast<SpecialRegister>(which)) {
    case SpecialRegister::kTidX:
      return thread % d.block[0];
    case SpecialRegister::kTidY:
      return thread / d.block[0] % d.block[1];
    case SpecialRegister::kTidZ:
      return thread / d.block[0] / d.block[1];
    case SpecialRegister::kNtidX:
      return d.block[0];
    case SpecialRegister::kNtidY:
      return d.block[1];
    case SpecialRegister::kNtidZ:
      return d.block[2];
    case SpecialRegister::kCtaidX:
      return cta_.index[0];
    case SpecialRegister::kCtaidY:
      return cta_.index[1];
    case SpecialRegister::kCtaidZ:
      return cta_.index[2];
    case SpecialRegister::kNctaidX:
      return d.grid[0];
    case SpecialRegister::kNctaidY:
      return d.grid[1];
    case SpecialRegister::kNctaidZ:
      return d.grid[2];
    case SpecialRegister::kLaneid:
      return lane;
    case SpecialRegister::kWarpid:
      return warp.index;
    case SpecialRegister::kNwarpid:
      return cta_.warp_count;
    case SpecialRegister::kSmid:
      return 0;
    case SpecialRegister::kNsmid:
      return 1;
    case SpecialRegister::kLanemaskEq:
      return 1u << lane;
    case SpecialRegister::kLanemaskLe:
      return (2u << lane) - 1;
    case SpecialRegister::kLanemaskLt:
      return (1u << lane) - 1;
    case SpecialRegister::kLanemaskGe:
      return ~((1u << lane) - 1);
    case SpecialRegister::kLanemaskGt:
      return ~((2u << lane) - 1);
    case SpecialRegister::kClusteridX:
      return cta_.index[0] / d.cluster[0];
    case SpecialRegister::kClusteridY:
      return cta_.index[1] / d.cluster[1];
    case SpecialRegister::kClusteridZ:
      return cta_.index[2] / d.cluster[2];
    case SpecialRegister::kNclusteridX:
      return cluster_count(0);
    case SpecialRegister::kNclusteridY:
      return cluster_count(1);
    case SpecialRegister::kNclusteridZ:
      return cluster_count(2);
    case SpecialRegister::kClusterCtaidX:
      return cta_.index[0] % d.cluster[0];
    case SpecialRegister::kClusterCtaidY:
      return cta_.index[1] % d.cluster[1];
    case SpecialRegister::kClusterCtaidZ:
      return cta_.index[2] % d.cluster[2];
    case SpecialRegister::kClusterNctaidX:
      return d.cluster[0];
    case SpecialRegister::kClusterNctaidY:
      return d.cluster[1];
    case SpecialRegister::kClusterNctaidZ:
      return d.cluster[2];
    case SpecialRegister::kClusterCtarank:
      return cta_.cluster_rank;
    case SpecialRegister::kClusterNctarank:
      return cta_.cluster_size;
    case SpecialRegister::kIsExplicitCluster:
      return cta_.cluster_size > 1 ? 1 : 0;
    case SpecialRegister::kDynamicSmemSize:
      return d.dynamic_shared_bytes;
    case SpecialRegister::kTotalSmemSize:
    case SpecialRegister::kAggrSmemSize:
      return cta_.shared_bytes;
    default:
      return 0;
  }
}

void CtaSlot::SetUpWarp(const Launch& launch, uint32_t index) {
  const Program& program = *launch.program;
  Warp& warp = cta_.warps[index];
  warp.program = &program;
  warp.worker = cta_.worker;
  warp.cta = &cta_;
  warp.index = index;
  warp.pc = 0;
  const uint32_t lanes = std::min(32u, cta_.threads - index * 32);
  warp.live = lanes == 32 ? kFullMask : (1u << lanes) - 1;
  warp.active = warp.live;
  warp.switch_pc = kNoPc;
  warp.polls = warp.turns = 0;
  warp.executed = 0;
  warp.clock_reads = 0;
  warp.carry = 0;
  warp.group_count = 0;
  warp.state = WarpState::kReady;
  warp.barrier = -1;
  warp.waits_outside = false;
  warp.async.reset();
  warp.bulk_copies.reset();
  memset(warp.registers + program.registers_begin, 0, program.register_bytes - program.registers_begin);
  if (constants_of_ != &program) {
    for (const ConstantSlot& c : program.constants) {
      if (c.bytes == 0) {
        warp.Predicate(c.offset) = static_cast<uint32_t>(c.value);
      } else {
        for (uint32_t lane = 0; lane < 32; ++lane) {
          if (c.bytes == 4) warp.U32(c.offset)[lane] = static_cast<uint32_t>(c.value);
          if (c.bytes == 8) warp.U64(c.offset)[lane] = c.value;
        }
      }
    }
  }
  for (const Program::SpecialSlot& s : program.specials) {
    const uint8_t which = static_cast<uint8_t>(s.which);
    if (s.which == SpecialRegister::kIsExplicitCluster) {
      warp.Predicate(s.offset) = SpecialValue(launch, warp, which, 0) != 0 ? kFullMask : 0;
    } else if (s.which == SpecialRegister::kGridid) {
      for (uint32_t lane = 0; lane < 32; ++lane) warp.U64(s.offset)[lane] = launch.id;
    } else {
      for (uint32_t lane = 0; lane < 32; ++lane)
        warp.U32(s.offset)[lane] = SpecialValue(launch, warp, which, lane);
    }
  }
}

bool CtaSlot::Start(Launch* launch, Worker* worker, uint64_t linear) {
  const Program& program = *launch->program;
  const LaunchDimensions& d = launch->dimensions;
  if (constants_launch_ != launch->id) {
    // Another launch may have another program at the same address.
    constants_of_ = nullptr;
    constants_launch_ = launch->id;
  }
  cta_.program = &program;
  cta_.worker = worker;
  cta_.linear = linear;
  cta_.index = {static_cast<uint32_t>(linear % d.grid[0]),
                static_cast<uint32_t>(linear / d.grid[0] % d.grid[1]),
                static_cast<uint32_t>(linear / d.grid[0] / d.grid[1])};
  cta_.threads = d.block[0] * d.block[1] * d.block[2];
  cta_.warp_count = (cta_.threads + 31) / 32;
  cta_.live_warps = cta_.warp_count;
  cta_.shared_bytes = program.static_shared_bytes + d.dynamic_shared_bytes;
  cta_.local_bytes = program.local_bytes;
  cta_.local_stride = RoundUp(program.local_bytes, 16);
  cta_.cluster_arrivals = 0;
  cta_.cluster_generation = 0;
  cta_.async.reset();
  cta_.bulk_copies.reset();
  cta_.printed.clear();
  cta_.barriers = {};
  cta_.cluster_size = d.cluster[0] * d.cluster[1] * d.cluster[2];
  cta_.cluster_rank =
      cta_.index[0] % d.cluster[0] +
      d.cluster[0] * (cta_.index[1] % d.cluster[1] + d.cluster[1] * (cta_.index[2] % d.cluster[2]));
  cta_.cluster = nullptr;

  const size_t file = RoundUp(program.register_bytes, 128);
  uint8_t* registers = registers_.Ensure(file * cta_.warp_count);
  cta_.shared = shared_.Ensure(cta_.shared_bytes);
  cta_.local = local_.Ensure(size_t{cta_.local_stride} * cta_.warp_count * 32);
  if (registers == nullptr || cta_.shared == nullptr || cta_.local == nullptr) return false;
  cta_.unwatched_shared_bytes = launch->instrument == nullptr ? cta_.shared_bytes : 0;
  memset(cta_.shared, 0, cta_.shared_bytes);
  memset(cta_.local, 0, size_t{cta_.local_stride} * cta_.warp_count * 32);
  if (cta_.warps.size() < cta_.warp_count) cta_.warps.resize(cta_.warp_count);
  for (uint32_t w = 0; w < cta_.warp_count; ++w) {
    cta_.warps[w].registers = registers + w * file;
    SetUpWarp(*launch, w);
  }
  constants_of_ = &program;
  return true;
}

CtaStop RunCta(Cta& cta, uint64_t quantum, uint64_t* executed) {
  uint64_t spent = 0;
  for (;;) {
    bool ran = false;
    bool spun = false;
    bool outside = false;
    for (uint32_t w = 0; w < cta.warp_count; ++w) {
      Warp& warp = cta.warps[w];
      if (warp.state == WarpState::kWaiting) outside |= warp.waits_outside;
      if (warp.state != WarpState::kReady) continue;
      const uint64_t before = warp.executed;
      warp.waits_outside = false;
      warp.waits_on_mbarrier = false;
      const WarpStop stop = RunWarp(warp, kWarpQuantum);
      spent += warp.executed - before;
      *executed += warp.executed - before;
      switch (stop) {
        case WarpStop::kFault:
          return CtaStop::kFault;
        case WarpStop::kQuantum:
          ran = true;
          break;
        case WarpStop::kSpun:
          spun = true;
          break;
        case WarpStop::kDone:
          ran = true;
          if (--cta.live_warps == 0) return CtaStop::kDone;
          break;
        case WarpStop::kWaiting:
          outside |= warp.waits_outside;
          break;
      }
    }
    for (uint32_t w = 0; w < cta.warp_count && !ran; ++w) {
      // Someone was woken after his turn.
      const Warp& warp = cta.warps[w];
      ran = warp.state == WarpState::kReady && !spun;
    }
    if (!ran) {
      if (spun) return CtaStop::kSpun;
      if (outside) return CtaStop::kBlocked;
      RaiseStuck(cta);
      return CtaStop::kFault;
    }
    if (spent >= quantum) return CtaStop::kQuantum;
  }
}

}  // namespace trun::device
