// Runs warps.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_INTERPRETER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_INTERPRETER_H_

#include <cstdint>

#include "server/device/emulator/exec/warp.h"

namespace trun::device {

enum class WarpStop : uint8_t {
  kQuantum,  // it has more to do
  kSpun,     // it waits for others, by polling
  kWaiting,  // every lane waits
  kDone,     // every lane has ended
  kFault,
};

// Runs `warp` for at most about `quantum` instructions. Groups of lanes that stand at different instructions
// run lowest first and merge where they meet; one that keeps jumping back lets the others run.
WarpStop RunWarp(Warp& warp, uint64_t quantum);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_INTERPRETER_H_
