#include "server/device/emulator/exec/interpreter.h"

#include <algorithm>

#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

// Backward branches of one group while others of its warp could run.
constexpr uint32_t kTurnsBeforeOthers = 256;
// Polling operations (atomics, ordered loads) before a warp lets other warps run at its next branch.
constexpr uint32_t kPollsBeforeYield = 16;

void FindSwitchPc(Warp& warp) {
  warp.switch_pc = kNoPc;
  for (uint32_t g = 0; g < warp.group_count; ++g) {
    const Group& group = warp.groups[g];
    if (!group.waiting && !group.parked) warp.switch_pc = std::min(warp.switch_pc, group.pc);
  }
}

void Leave(Warp& warp, bool waiting, bool parked) {
  warp.groups[warp.group_count++] = {warp.active, warp.pc, waiting, parked};
  warp.active = 0;
}

void RemoveGroup(Warp& warp, uint32_t g) { warp.groups[g] = warp.groups[--warp.group_count]; }

// Makes the lowest group that can run the running one, merged with those at the same place. False: none can.
bool PickGroup(Warp& warp) {
  for (int pass = 0; pass < 2; ++pass) {
    uint32_t best = kNoPc;
    for (uint32_t g = 0; g < warp.group_count; ++g) {
      if (!warp.groups[g].waiting && !warp.groups[g].parked) best = std::min(best, warp.groups[g].pc);
    }
    if (best != kNoPc) {
      warp.pc = best;
      warp.active = 0;
      warp.turns = 0;
      for (uint32_t g = 0; g < warp.group_count;) {
        if (!warp.groups[g].waiting && warp.groups[g].pc == best) {
          warp.active |= warp.groups[g].mask;
          RemoveGroup(warp, g);
        } else {
          ++g;
        }
      }
      FindSwitchPc(warp);
      return true;
    }
    for (uint32_t g = 0; g < warp.group_count; ++g) warp.groups[g].parked = false;
  }
  return false;
}

}  // namespace

void Wake(Warp& warp) {
  for (uint32_t g = 0; g < warp.group_count; ++g) warp.groups[g].waiting = false;
  FindSwitchPc(warp);
  if (warp.state == WarpState::kWaiting) warp.state = WarpState::kReady;
}

uint32_t Converge(Warp& warp, uint32_t mask, uint32_t members) {
  const uint32_t need = members & warp.live;
  if ((mask & need) == need) return mask;
  for (uint32_t g = 0; g < warp.group_count;) {
    if (warp.groups[g].pc == warp.pc && (warp.groups[g].waiting || warp.groups[g].parked)) {
      warp.active |= warp.groups[g].mask;
      mask |= warp.groups[g].mask;
      RemoveGroup(warp, g);
    } else {
      ++g;
    }
  }
  return (mask & need) == need ? mask : 0;
}

Step Branch(Warp& warp, uint32_t taken, uint32_t target) {
  const uint32_t here = warp.pc;
  if (taken != warp.active) {
    warp.groups[warp.group_count++] = {warp.active & ~taken, here + 1, false, false};
    warp.active = taken;
    warp.switch_pc = std::min(warp.switch_pc, here + 1);
  }
  warp.pc = target;
  if (target <= here && warp.group_count != 0 && ++warp.turns >= kTurnsBeforeOthers) {
    warp.turns = 0;
    if (warp.switch_pc != kNoPc) Leave(warp, false, true);
  }
  return Step::kJump;
}

WarpStop RunWarp(Warp& warp, uint64_t quantum) {
  const Instruction* const code = warp.program->code.data();
  uint8_t* const registers = warp.registers;
  const uint64_t stop_at = warp.executed + quantum;
  uint64_t executed = warp.executed;
  if (warp.active == 0 && !PickGroup(warp)) {
    warp.state = WarpState::kWaiting;
    return WarpStop::kWaiting;
  }
  uint32_t pc = warp.pc;
  for (;;) {
    if (pc >= warp.switch_pc) [[unlikely]] {
      warp.pc = pc;
      Leave(warp, false, false);
      PickGroup(warp);
      pc = warp.pc;
    }
    const Instruction& in = code[pc];
    uint32_t mask = warp.active;
    ++executed;
    if (in.guard >= 0) {
      uint32_t guard;
      __builtin_memcpy(&guard, registers + (in.guard & ~1), sizeof guard);
      mask &= (in.guard & 1) != 0 ? ~guard : guard;
      if (mask == 0) {
        ++pc;
        continue;
      }
    }
    warp.pc = pc;
    const Step step = in.run(warp, in, mask);
    if (step == Step::kNext) [[likely]] {
      ++pc;
      continue;
    }
    warp.executed = executed;
    switch (step) {
      case Step::kNext:
        break;
      case Step::kJump:
        if (warp.active == 0) PickGroup(warp);
        if (executed >= stop_at) return WarpStop::kQuantum;
        if (warp.polls >= kPollsBeforeYield) {
          warp.polls = 0;
          return WarpStop::kSpun;
        }
        break;
      case Step::kYield:
        warp.pc = pc + 1;
        warp.polls = 0;
        return WarpStop::kSpun;
      case Step::kWait: {
        // Lanes whose guard is off have nothing to wait for. (The operation may have merged lanes into
        // active.)
        uint32_t aside = 0;
        if (in.guard >= 0) {
          uint32_t guard;
          __builtin_memcpy(&guard, registers + (in.guard & ~1), sizeof guard);
          aside = warp.active & ((in.guard & 1) != 0 ? guard : ~guard);
        }
        warp.active &= ~aside;
        Leave(warp, true, false);
        if (aside != 0) warp.groups[warp.group_count++] = {aside, pc + 1, false, false};
        if (!PickGroup(warp)) {
          warp.state = WarpState::kWaiting;
          return WarpStop::kWaiting;
        }
        break;
      }
      case Step::kExit:
        if (warp.active != 0) {
          warp.pc = pc + 1;
        } else if (warp.live == 0) {
          warp.state = WarpState::kDone;
          return WarpStop::kDone;
        }
        // Whoever waits for the lanes that ended looks again.
        for (uint32_t g = 0; g < warp.group_count; ++g) warp.groups[g].waiting = false;
        if (warp.active == 0) {
          PickGroup(warp);
        } else {
          FindSwitchPc(warp);
        }
        break;
      case Step::kFault:
        return WarpStop::kFault;
    }
    pc = warp.pc;
  }
}

}  // namespace trun::device
