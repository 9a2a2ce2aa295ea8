// A test with an emulator device, one arena, and launches of PTX files.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_EMULATOR_FIXTURE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_EMULATOR_FIXTURE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/device/device.h"

namespace trun::device {

// Thread-compatible.
class EmulatorFixture : public testing::Test {
 protected:
  explicit EmulatorFixture(int arch);
  ~EmulatorFixture() override;

  // A zeroed allocation of its own, aligned to 256.
  uint64_t Allocate(size_t bytes);
  uint8_t* Host(uint64_t address) { return host_ + (address - kBase); }

  // Launches the only entry of NAME.ptx with the cluster, shared memory and scratch that NAME.json says.
  LaunchOutcome Run(const std::string& name, const std::array<uint64_t, 3>& grid,
                    const std::vector<uint64_t>& arguments);
  // Launches the only entry of a text, with the block that it requires where it does.
  LaunchOutcome RunText(const std::string& ptx, const LaunchDimensions& dimensions,
                        const std::vector<uint64_t>& arguments,
                        std::shared_ptr<LaunchObserver> observer = nullptr);

  Device& device() { return *device_; }

 private:
  static constexpr uint64_t kBase = 0x2000'0000'0000;
  static constexpr uint64_t kBytes = 64 << 20;

  std::unique_ptr<Device> device_;
  std::unique_ptr<Arena> arena_;
  uint8_t* host_ = nullptr;
  uint64_t next_ = kBase;
  uint64_t next_id_ = 1;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_EMULATOR_FIXTURE_H_
