// What all parts of one CUDA device hold on to. Private to this room.
#ifndef TRUN_SERVER_DEVICE_CUDA_CONTEXT_H_
#define TRUN_SERVER_DEVICE_CUDA_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/mutex.h"
#include "server/device/cuda/driver.h"
#include "server/device/cuda/output_capture.h"
#include "server/device/device.h"

namespace trun::device {

// The primary context of a device. Thread-safe.
class CudaContext {
 public:
  // The driver's errors.
  static absl::StatusOr<std::shared_ptr<CudaContext>> Create(const Driver* driver, int index,
                                                             std::unique_ptr<OutputCapture> capture);
  ~CudaContext();

  const Driver& driver() const { return *driver_; }
  CUdevice device() const { return device_; }
  const DeviceInfo& info() const { return info_; }
  // Before the device is shared.
  void NotePinning(const absl::Status& pinned) { info_.pinning_refused = std::string(pinned.message()); }
  OutputCapture* capture() const { return capture_.get(); }

  // Makes the context the calling thread's; ABORTED kContextLost once it is lost.
  absl::Status Enter() const;
  // The status of a driver call; notes when the context is lost with it.
  absl::Status Check(CUresult result, absl::string_view what);

  // A context that is lost, or whose kernel hangs, is not touched again: a call might never return.
  bool lost() const { return lost_.load(); }
  void MarkLost() { lost_.store(true); }
  // The first error that ended the context, whichever call it came out at; CUDA_SUCCESS where a kernel hangs.
  CUresult loss() const { return loss_.load(); }

  // Arenas: what lies where.
  absl::Status AddRange(uint64_t address, uint64_t bytes);
  void RemoveRange(uint64_t address);
  bool Covers(uint64_t address, uint64_t bytes) const;

 private:
  CudaContext(const Driver* driver, CUdevice device, CUcontext context,
              std::unique_ptr<OutputCapture> capture)
      : driver_(driver), device_(device), context_(context), capture_(std::move(capture)) {}
  absl::Status Describe();

  const Driver* const driver_;
  const CUdevice device_;
  const CUcontext context_;
  const std::unique_ptr<OutputCapture> capture_;  // null: printed text goes where stdout goes
  DeviceInfo info_;
  std::atomic<CUresult> loss_{CUDA_SUCCESS};
  std::atomic<bool> lost_{false};
  mutable Mutex mu_;
  std::map<uint64_t, uint64_t> ranges_ ABSL_GUARDED_BY(mu_);  // address → bytes
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_CONTEXT_H_
