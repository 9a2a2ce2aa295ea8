#include "server/device/cuda/context.h"

#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"

namespace trun::device {

absl::StatusOr<std::shared_ptr<CudaContext>> CudaContext::Create(const Driver* driver, int index,
                                                                 std::unique_ptr<OutputCapture> capture) {
  int count = 0;
  TRUN_RETURN_IF_ERROR(ToStatus(*driver, driver->cuDeviceGetCount(&count), "counting the GPUs"));
  if (index < 0 || index >= count) {
    return NotFound(Reason::kArgument,
                    absl::StrCat("there is no cuda:", index, "; the driver shows ", count, " devices"));
  }
  CUdevice device = 0;
  TRUN_RETURN_IF_ERROR(ToStatus(*driver, driver->cuDeviceGet(&device, index), "opening the GPU"));
  CUcontext context = nullptr;
  TRUN_RETURN_IF_ERROR(
      ToStatus(*driver, driver->cuDevicePrimaryCtxRetain(&context, device), "making a context on the GPU"));
  std::shared_ptr<CudaContext> made(new CudaContext(driver, device, context, std::move(capture)));
  TRUN_RETURN_IF_ERROR(made->Describe());
  return made;
}

CudaContext::~CudaContext() {
  if (!lost()) driver_->cuDevicePrimaryCtxRelease(device_);
}

absl::Status CudaContext::Describe() {
  TRUN_RETURN_IF_ERROR(Enter());
  const auto attribute = [this](CUdevice_attribute which, int* value) {
    return Check(driver_->cuDeviceGetAttribute(value, which, device_), "asking for a fact of the GPU");
  };
  std::array<char, 256> name = {};
  TRUN_RETURN_IF_ERROR(
      Check(driver_->cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, device_),
            "asking for the GPU's name"));
  size_t bytes = 0;
  TRUN_RETURN_IF_ERROR(Check(driver_->cuDeviceTotalMem(&bytes, device_), "asking for the GPU's memory"));
  int major = 0, minor = 0, processors = 0, shared = 0, threads = 0, clock = 0, memory_clock = 0;
  std::array<int, 3> grid = {0, 0, 0};
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &shared));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &threads));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, &grid[0]));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, &grid[1]));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, &grid[2]));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &clock));
  TRUN_RETURN_IF_ERROR(attribute(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, &memory_clock));
  info_.kind = DeviceKind::kCuda;
  info_.name = name.data();
  info_.target.arch = 10 * major + minor;
  info_.memory_bytes = bytes;
  info_.multiprocessors = static_cast<uint32_t>(processors);
  info_.max_shared_bytes = static_cast<uint32_t>(shared);
  info_.max_threads_per_block = static_cast<uint32_t>(threads);
  for (size_t i = 0; i < 3; ++i) info_.max_grid[i] = static_cast<uint32_t>(grid[i]);
  info_.module_level = Level::kCubin;
  info_.host_memory = false;
  info_.clock_khz = static_cast<uint32_t>(clock);
  info_.memory_clock_khz = static_cast<uint32_t>(memory_clock);
  info_.driver = absl::StrCat("CUDA ", driver_->version / 1000, ".", driver_->version % 1000 / 10, " (",
                              driver_->path, ")");
  return absl::OkStatus();
}

absl::Status CudaContext::Enter() const {
  if (lost()) {
    return MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                     "this device context was lost to a fault");
  }
  return ToStatus(*driver_, driver_->cuCtxSetCurrent(context_), "entering the GPU's context");
}

absl::Status CudaContext::Check(CUresult result, absl::string_view what) {
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  if (EndsContext(result)) {
    CUresult none = CUDA_SUCCESS;
    loss_.compare_exchange_strong(none, result);
    MarkLost();
  }
  return ToStatus(*driver_, result, what);
}

absl::Status CudaContext::AddRange(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  const auto next = ranges_.lower_bound(address);
  const bool overlaps_next = next != ranges_.end() && next->first - address < bytes;
  const bool overlaps_previous =
      next != ranges_.begin() && address - std::prev(next)->first < std::prev(next)->second;
  if (overlaps_next || overlaps_previous) {
    return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                     absl::StrCat("another arena lies at 0x", absl::Hex(address)));
  }
  ranges_.emplace_hint(next, address, bytes);
  return absl::OkStatus();
}

void CudaContext::RemoveRange(uint64_t address) {
  MutexLock lock(&mu_);
  ranges_.erase(address);
}

bool CudaContext::Covers(uint64_t address, uint64_t bytes) const {
  MutexLock lock(&mu_);
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return false;
  --it;
  const uint64_t offset = address - it->first;
  return offset <= it->second && bytes <= it->second - offset;
}

}  // namespace trun::device
