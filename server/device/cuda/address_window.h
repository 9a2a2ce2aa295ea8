#ifndef TRUN_SERVER_DEVICE_CUDA_ADDRESS_WINDOW_H_
#define TRUN_SERVER_DEVICE_CUDA_ADDRESS_WINDOW_H_

#include <cstdint>
#include <set>

#include "absl/status/status.h"
#include "server/device/cuda/context.h"

namespace trun::device {

// Device addresses that this process has reserved with the driver. The driver takes a hint only for
// reservations of 32 MiB and more (seen with 580.159.04), so whole windows are reserved and arenas are mapped
// into them. Windows are the process's: two devices share them. Thread-compatible.
class AddressWindows {
 public:
  static constexpr uint64_t kWindowBytes = uint64_t{1} << 40;

  explicit AddressWindows(CudaContext* context) : context_(context) {}
  // Frees the windows that nobody else uses.
  ~AddressWindows();

  // Makes sure that an arena can be mapped at the address. ALREADY_EXISTS kArgument: something else of the
  // process lies there. INVALID_ARGUMENT kArgument: a range that no window holds.
  absl::Status Reserve(uint64_t address, uint64_t bytes);

 private:
  CudaContext* const context_;
  std::set<uint64_t> mine_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_ADDRESS_WINDOW_H_
