// Memory of a CUDA device that outlives its contexts: physical memory that the driver exports as a
// descriptor, mapped at the address asked for. Private to this room.
#ifndef TRUN_SERVER_DEVICE_CUDA_CUDA_MEMORY_H_
#define TRUN_SERVER_DEVICE_CUDA_CUDA_MEMORY_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "server/device/cuda/address_window.h"
#include "server/device/cuda/context.h"
#include "server/device/device.h"

namespace trun::device {

// The memory part of Device, method by method as there. Thread-safe.
class CudaMemory {
 public:
  static absl::StatusOr<std::unique_ptr<CudaMemory>> Create(const std::shared_ptr<CudaContext>& context);
  ~CudaMemory();

  absl::StatusOr<UniqueFd> CreateMemory(uint64_t bytes);
  absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd& fd, uint64_t bytes, uint64_t address);
  absl::StatusOr<std::unique_ptr<Arena>> MapForeign(absl::string_view handle, uint64_t bytes);
  absl::Status Write(uint64_t address, absl::Span<const char> from);
  absl::Status Read(uint64_t address, absl::Span<char> to);
  absl::Status Fill(uint64_t address, uint64_t bytes, absl::string_view pattern);
  absl::Status Copy(uint64_t to, uint64_t from, uint64_t bytes);
  absl::Status Pin(absl::Span<char> memory);
  void Unpin(absl::Span<char> memory);
  // Whether the driver registers memory shared with other processes, tried with a page of it.
  absl::Status TryToPin();

 private:
  explicit CudaMemory(const std::shared_ptr<CudaContext>& context)
      : context_(context), windows_(context.get()) {}
  // Enters the context, once the range is known to lie in an arena.
  absl::Status EnterFor(uint64_t address, uint64_t bytes);
  CUmemAllocationProp Properties() const;
  // As CudaContext::Check; but what the driver says of memory that somebody else gave is an INVALID_ARGUMENT
  // of that memory, and no end of the context.
  absl::Status CheckGiven(CUresult result, absl::string_view what);
  absl::Status CheckForeign(CUdeviceptr address, uint64_t bytes);
  absl::Status MapAt(const UniqueFd& fd, uint64_t bytes, uint64_t address);
  absl::Status Clear(const UniqueFd& fd, uint64_t bytes);
  absl::Status FillQueued(uint64_t address, uint64_t bytes, absl::string_view pattern)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Finish(CUresult queued, absl::string_view what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  struct Lane {
    Mutex mu;
    CUstream stream ABSL_GUARDED_BY(mu) = nullptr;
  };
  // Queues `copy` on a lane and waits for its end.
  absl::Status CopyOn(Lane& lane, absl::FunctionRef<CUresult(CUstream)> copy, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lane.mu);
  absl::Status CopyOnALane(absl::FunctionRef<CUresult(CUstream)> copy, absl::string_view what);

  const std::shared_ptr<CudaContext> context_;
  Mutex windows_mu_;
  AddressWindows windows_ ABSL_GUARDED_BY(windows_mu_);
  Mutex mu_;  // of what runs on the device: one at a time would be no slower
  CUstream stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  // Copies from and to the host. While the device does one, the next is handed over; one each way at a time.
  std::array<Lane, 2> lanes_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_CUDA_MEMORY_H_
