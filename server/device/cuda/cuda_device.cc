#include "server/device/cuda/cuda_device.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/device/cuda/context.h"
#include "server/device/cuda/cuda_memory.h"
#include "server/device/cuda/cuda_module.h"
#include "server/device/cuda/cuda_stream.h"
#include "server/device/cuda/result.h"
#include "server/device/cuda/tensor_map.h"

namespace trun::device {
namespace {

class CudaDevice final : public Device {
 public:
  CudaDevice(std::shared_ptr<CudaContext> context, std::unique_ptr<CudaMemory> memory)
      : context_(std::move(context)), memory_(std::move(memory)) {}

  const DeviceInfo& info() const override { return context_->info(); }

  absl::StatusOr<std::unique_ptr<Module>> LoadModule(absl::string_view image) override {
    return LoadCudaModule(context_, image);
  }
  absl::StatusOr<UniqueFd> CreateMemory(uint64_t bytes) override { return memory_->CreateMemory(bytes); }
  absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd& fd, uint64_t bytes,
                                                  uint64_t address) override {
    if (address == 0) return InvalidArgument(Reason::kArgument, "an arena at address 0");
    return memory_->MapArena(fd, bytes, address);
  }

  absl::StatusOr<std::unique_ptr<Arena>> MapForeign(absl::string_view handle, uint64_t bytes) override {
    return memory_->MapForeign(handle, bytes);
  }

  // A GPU does not check accesses against these; they are held to the contract all the same.
  absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) override {
    if (id == 0 || bytes == 0)
      return InvalidArgument(Reason::kArgument, "an allocation needs an id and some bytes");
    if (!context_->Covers(address, bytes)) {
      return InvalidArgument(Reason::kArgument, NotInAnArenaText(address, bytes));
    }
    MutexLock lock(&mu_);
    const auto next = allocations_.lower_bound(address);
    const bool overlaps_next = next != allocations_.end() && next->first - address < bytes;
    const bool overlaps_previous =
        next != allocations_.begin() && address - std::prev(next)->first < std::prev(next)->second;
    if (overlaps_next || overlaps_previous || address_of_.count(id) != 0) {
      return InvalidArgument(Reason::kArgument, absl::StrCat("allocation ", id, " overlaps a live one"));
    }
    allocations_[address] = bytes;
    address_of_[id] = address;
    return absl::OkStatus();
  }
  absl::Status RemoveAllocation(uint64_t id) override {
    MutexLock lock(&mu_);
    const auto it = address_of_.find(id);
    if (it == address_of_.end()) return NotFound(Reason::kArgument, absl::StrCat("no live allocation ", id));
    allocations_.erase(it->second);
    address_of_.erase(it);
    return absl::OkStatus();
  }

  absl::Status WriteMemory(uint64_t address, absl::Span<const char> from) override {
    return memory_->Write(address, from);
  }
  absl::Status ReadMemory(uint64_t address, absl::Span<char> to) override {
    return memory_->Read(address, to);
  }
  absl::Status FillMemory(uint64_t address, uint64_t bytes, absl::string_view pattern) override {
    return memory_->Fill(address, bytes, pattern);
  }
  absl::Status CopyMemory(uint64_t to, uint64_t from, uint64_t bytes) override {
    return memory_->Copy(to, from, bytes);
  }
  absl::Status PinMemory(absl::Span<char> memory) override { return memory_->Pin(memory); }
  void UnpinMemory(absl::Span<char> memory) override { memory_->Unpin(memory); }

  absl::StatusOr<TensorMapBytes> EncodeTensorMap(const TensorMapFields& fields) const override {
    if (info().target.arch < 90) {
      return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                       absl::StrCat("tensor maps need sm_90; this is sm_", info().target.arch));
    }
    return EncodeCudaTensorMap(context_->driver(), fields);
  }

  absl::StatusOr<std::unique_ptr<Stream>> CreateStream() override { return CudaStream::Create(context_); }

  absl::Status SetChecks(const CheckOptions& checks) override {
    if (!checks.uninitialized && !checks.races && !checks.late_async) return absl::OkStatus();
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kArgument,
                     "a GPU has no such checks: run the kernel on the emulator");
  }

 private:
  static std::string NotInAnArenaText(uint64_t address, uint64_t bytes) {
    return absl::StrCat("0x", absl::Hex(address), " + ", bytes, " bytes do not lie in one arena");
  }

  const std::shared_ptr<CudaContext> context_;
  const std::unique_ptr<CudaMemory> memory_;
  Mutex mu_;
  std::map<uint64_t, uint64_t> allocations_ ABSL_GUARDED_BY(mu_);  // address → bytes
  std::map<uint64_t, uint64_t> address_of_ ABSL_GUARDED_BY(mu_);   // by id
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(const CudaOptions& options) {
  TRUN_ASSIGN_OR_RETURN(const Driver* const driver, LoadDriver(options.library));
  std::unique_ptr<OutputCapture> capture;
  if (options.capture_output) {
    TRUN_ASSIGN_OR_RETURN(capture, OutputCapture::Start());
  }
  TRUN_ASSIGN_OR_RETURN(std::shared_ptr<CudaContext> context,
                        CudaContext::Create(driver, options.index, std::move(capture)));
  TRUN_ASSIGN_OR_RETURN(std::unique_ptr<CudaMemory> memory, CudaMemory::Create(context));
  context->NotePinning(memory->TryToPin());
  return std::unique_ptr<Device>(new CudaDevice(std::move(context), std::move(memory)));
}

absl::StatusOr<int> CountCudaDevices(const std::string& library) {
  TRUN_ASSIGN_OR_RETURN(const Driver* const driver, LoadDriver(library));
  int count = 0;
  TRUN_RETURN_IF_ERROR(ToStatus(*driver, driver->cuDeviceGetCount(&count), "counting the GPUs"));
  if (count == 0) return FailedPrecondition(Reason::kUnavailable, "the driver shows no GPU");
  return count;
}

}  // namespace trun::device
