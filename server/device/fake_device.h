// A device whose "modules" are lines of a tiny language: for tests of what stands above the device seam.
//
//   NAME store 8 4      stores the u32 of parameter 1 at parameter 0 + 4·i for each program i of the grid
//   NAME hang           runs until its deadline or Cancel
//   NAME lose           ends the context
//   NAME abort          ends the process
//   NAME print          prints "hello from NAME\n"
//   NAME nothing 8 8 …  any parameters, no effect; a trailing pair of 8s gets scratch
//   NAME zero 8 …       OK when the 64 bytes at the last parameter are zero, and fills them with ones; else
//   an assert
//
// A line "unsupported" makes LoadModule fail as an unknown instruction does.
#ifndef TRUN_SERVER_DEVICE_FAKE_DEVICE_H_
#define TRUN_SERVER_DEVICE_FAKE_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/base/config.h"
#include "server/device/device.h"

namespace trun::device {

// Where tests map a fake's memory: it is mapped for real, and the thread sanitizer leaves a program no
// addresses between 2 TiB and those of its libraries.
#ifdef ABSL_HAVE_THREAD_SANITIZER
inline constexpr uint64_t kFakeAddresses = 0x0100'0000'0000;
#else
inline constexpr uint64_t kFakeAddresses = 0x3000'0000'0000;
#endif
// Scratch lies above all that tests map.
inline constexpr uint64_t kFakeScratch = kFakeAddresses + 0x00c0'0000'0000;

// Obeys device.h; memory is mapped at the address asked for, accesses are checked against the allocations.
// Thread-safe.
std::unique_ptr<Device> CreateFakeDevice();

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_FAKE_DEVICE_H_
