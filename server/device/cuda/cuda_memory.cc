#include "server/device/cuda/cuda_memory.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"
#include "server/device/memory_check.h"
#include "server/device/shared_memory.h"

namespace trun::device {
namespace {

constexpr uint64_t kSeedBytes = 4096;

// Memory in reach of this process until its arena goes; `let_go` is how the driver is told.
class CudaArena final : public Arena {
 public:
  using LetGo = void (*)(const Driver& driver, uint64_t address, uint64_t bytes);
  CudaArena(std::shared_ptr<CudaContext> context, uint64_t address, uint64_t bytes, LetGo let_go)
      : context_(std::move(context)), address_(address), bytes_(bytes), let_go_(let_go) {}
  ~CudaArena() override {
    context_->RemoveRange(address_);
    if (!context_->Enter().ok()) return;  // it goes with the process
    const Driver& driver = context_->driver();
    driver.cuCtxSynchronize();  // nothing may still use what is let go of
    let_go_(driver, address_, bytes_);
  }
  uint64_t address() const override { return address_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<CudaContext> context_;
  const uint64_t address_;
  const uint64_t bytes_;
  const LetGo let_go_;
};

void Unmap(const Driver& driver, uint64_t address, uint64_t bytes) { driver.cuMemUnmap(address, bytes); }

// Another process's memory, opened through its IPC handle.
void CloseForeign(const Driver& driver, uint64_t address, uint64_t /*bytes*/) {
  driver.cuIpcCloseMemHandle(address);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaMemory>> CudaMemory::Create(const std::shared_ptr<CudaContext>& context) {
  std::unique_ptr<CudaMemory> memory(new CudaMemory(context));
  TRUN_RETURN_IF_ERROR(context->Enter());
  MutexLock lock(&memory->mu_);
  TRUN_RETURN_IF_ERROR(
      context->Check(context->driver().cuStreamCreate(&memory->stream_, CU_STREAM_NON_BLOCKING),
                     "making a stream for copies"));
  return memory;
}

CudaMemory::~CudaMemory() {
  if (!context_->Enter().ok()) return;
  MutexLock lock(&mu_);
  if (stream_ != nullptr) context_->driver().cuStreamDestroy(stream_);
  for (Lane& lane : lanes_) {
    MutexLock lane_lock(&lane.mu);
    if (lane.stream != nullptr) context_->driver().cuStreamDestroy(lane.stream);
  }
}

CUmemAllocationProp CudaMemory::Properties() const {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = context_->device();
  return properties;
}

absl::StatusOr<UniqueFd> CudaMemory::CreateMemory(uint64_t bytes) {
  const Driver& driver = context_->driver();
  TRUN_RETURN_IF_ERROR(context_->Enter());
  const CUmemAllocationProp properties = Properties();
  size_t granule = 0;
  TRUN_RETURN_IF_ERROR(context_->Check(
      driver.cuMemGetAllocationGranularity(&granule, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
      "asking for the granule of device memory"));
  if (bytes == 0 || granule == 0 || bytes % granule != 0) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("device memory comes in granules of ", granule,
                                                           " bytes, not of ", bytes));
  }
  CUmemGenericAllocationHandle handle = 0;
  TRUN_RETURN_IF_ERROR(context_->Check(driver.cuMemCreate(&handle, bytes, &properties, 0),
                                       absl::StrCat("allocating ", bytes, " bytes of device memory")));
  int exported = -1;
  absl::Status status = context_->Check(
      driver.cuMemExportToShareableHandle(&exported, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
      "exporting device memory as a descriptor");
  UniqueFd fd(exported);
  driver.cuMemRelease(handle);  // the descriptor keeps the memory
  if (status.ok()) status = Clear(fd, bytes);
  if (!status.ok()) return status;
  return fd;
}

// What other programs left in the memory is nobody's business.
absl::Status CudaMemory::Clear(const UniqueFd& fd, uint64_t bytes) {
  const Driver& driver = context_->driver();
  CUdeviceptr address = 0;
  TRUN_RETURN_IF_ERROR(context_->Check(driver.cuMemAddressReserve(&address, bytes, 0, 0, 0),
                                       "reserving addresses to clear device memory"));
  absl::Status status = MapAt(fd, bytes, address);
  if (status.ok()) {
    MutexLock lock(&mu_);
    status = Finish(driver.cuMemsetD8Async(address, 0, bytes, stream_), "clearing device memory");
    if (status.ok()) driver.cuMemUnmap(address, bytes);
  }
  if (!context_->lost()) driver.cuMemAddressFree(address, bytes);
  return status;
}

absl::StatusOr<std::unique_ptr<Arena>> CudaMemory::MapArena(const UniqueFd& fd, uint64_t bytes,
                                                            uint64_t address) {
  if (!fd.valid() || bytes == 0 || address + bytes < address) {
    return InvalidArgument(Reason::kArgument, "an arena needs a descriptor and some bytes");
  }
  TRUN_RETURN_IF_ERROR(context_->Enter());
  {
    MutexLock lock(&windows_mu_);
    TRUN_RETURN_IF_ERROR(windows_.Reserve(address, bytes));
  }
  TRUN_RETURN_IF_ERROR(context_->AddRange(address, bytes));
  absl::Status mapped = MapAt(fd, bytes, address);
  if (!mapped.ok()) {
    context_->RemoveRange(address);
    return mapped;
  }
  return std::unique_ptr<Arena>(new CudaArena(context_, address, bytes, Unmap));
}

// REQUIRES: the address is reserved.
absl::Status CudaMemory::MapAt(const UniqueFd& fd, uint64_t bytes, uint64_t address) {
  const Driver& driver = context_->driver();
  CUmemGenericAllocationHandle handle = 0;
  TRUN_RETURN_IF_ERROR(CheckGiven(
      driver.cuMemImportFromShareableHandle(&handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd.get())),
                                            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
      "importing device memory from its descriptor"));
  CUmemAllocationProp made = {};
  absl::Status known = context_->Check(driver.cuMemGetAllocationPropertiesFromHandle(&made, handle),
                                       "asking which GPU imported memory is of");
  if (known.ok() && made.location.id != Properties().location.id) {
    known = InvalidArgument(Reason::kArgument, absl::StrCat("the memory is of GPU ", made.location.id,
                                                            "; this executor's is ", context_->device()));
  }
  if (!known.ok()) {
    driver.cuMemRelease(handle);
    return known;
  }
  const CUresult result = driver.cuMemMap(address, bytes, 0, handle, 0);
  driver.cuMemRelease(handle);  // the mapping keeps the memory
  // The driver's answer to a descriptor of less memory is that it cannot map a part of one.
  if (result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_INVALID_VALUE) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("the arena's descriptor is not one of ", bytes,
                                                           " bytes of this GPU's memory"));
  }
  TRUN_RETURN_IF_ERROR(context_->Check(result, absl::StrCat("mapping ", bytes, " bytes of device memory")));
  CUmemAccessDesc access = {};
  access.location = Properties().location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  const absl::Status status =
      context_->Check(driver.cuMemSetAccess(address, bytes, &access, 1), "opening an arena to the GPU");
  if (!status.ok()) driver.cuMemUnmap(address, bytes);
  return status;
}

absl::StatusOr<std::unique_ptr<Arena>> CudaMemory::MapForeign(absl::string_view handle, uint64_t bytes) {
  CUipcMemHandle wire;
  if (handle.size() != sizeof(wire) || bytes == 0) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("memory of another process needs a handle of ",
                                                           sizeof(wire), " bytes and some bytes"));
  }
  std::memcpy(&wire, handle.data(), sizeof(wire));
  TRUN_RETURN_IF_ERROR(context_->Enter());
  CUdeviceptr address = 0;
  TRUN_RETURN_IF_ERROR(
      CheckGiven(context_->driver().cuIpcOpenMemHandle(&address, wire, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
                 "opening memory of another process"));
  absl::Status usable = CheckForeign(address, bytes);
  if (usable.ok()) usable = context_->AddRange(address, bytes);
  if (!usable.ok()) {
    context_->driver().cuIpcCloseMemHandle(address);
    return usable;
  }
  return std::unique_ptr<Arena>(new CudaArena(context_, address, bytes, CloseForeign));
}

absl::Status CudaMemory::CheckForeign(CUdeviceptr address, uint64_t bytes) {
  CUdeviceptr base = 0;
  size_t whole = 0;
  int device = -1;
  TRUN_RETURN_IF_ERROR(context_->Check(context_->driver().cuMemGetAddressRange(&base, &whole, address),
                                       "asking how large memory of another process is"));
  TRUN_RETURN_IF_ERROR(context_->Check(
      context_->driver().cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address),
      "asking which GPU memory of another process is of"));
  if (bytes > whole - (address - base)) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("the memory of another process has ",
                                                           whole - (address - base), " bytes, not ", bytes));
  }
  if (device != context_->device()) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("the memory is of GPU ", device,
                                                           "; this executor's is ", context_->device()));
  }
  return absl::OkStatus();
}

absl::Status CudaMemory::CheckGiven(CUresult result, absl::string_view what) {
  // A descriptor or handle that is none is UNKNOWN, INVALID_VALUE or INVALID_HANDLE to driver 580.159.04, one
  // of this very process INVALID_CONTEXT, one that it may not have any of the others.
  if (result == CUDA_ERROR_UNKNOWN || result == CUDA_ERROR_INVALID_VALUE ||
      result == CUDA_ERROR_INVALID_HANDLE || result == CUDA_ERROR_INVALID_CONTEXT ||
      result == CUDA_ERROR_INVALID_DEVICE || result == CUDA_ERROR_NOT_SUPPORTED ||
      result == CUDA_ERROR_NOT_PERMITTED || result == CUDA_ERROR_OPERATING_SYSTEM ||
      result == CUDA_ERROR_MAP_FAILED || result == CUDA_ERROR_ALREADY_MAPPED ||
      result == CUDA_ERROR_PEER_ACCESS_UNSUPPORTED) {
    return InvalidArgument(Reason::kArgument, ToStatus(context_->driver(), result, what).message());
  }
  return context_->Check(result, what);
}

absl::Status CudaMemory::EnterFor(uint64_t address, uint64_t bytes) {
  if (!context_->Covers(address, bytes)) return NotInAnArena(address, bytes);
  return context_->Enter();
}

absl::Status CudaMemory::Finish(CUresult queued, absl::string_view what) {
  if (queued == CUDA_SUCCESS) queued = context_->driver().cuStreamSynchronize(stream_);
  return context_->Check(queued, what);
}

absl::Status CudaMemory::CopyOn(Lane& lane, absl::FunctionRef<CUresult(CUstream)> copy,
                                absl::string_view what) {
  CUresult result = CUDA_SUCCESS;
  if (lane.stream == nullptr) {
    result = context_->driver().cuStreamCreate(&lane.stream, CU_STREAM_NON_BLOCKING);
  }
  if (result == CUDA_SUCCESS) result = copy(lane.stream);
  if (result == CUDA_SUCCESS) result = context_->driver().cuStreamSynchronize(lane.stream);
  return context_->Check(result, what);
}

absl::Status CudaMemory::CopyOnALane(absl::FunctionRef<CUresult(CUstream)> copy, absl::string_view what) {
  if (lanes_[0].mu.TryLock()) {
    absl::Status status = CopyOn(lanes_[0], copy, what);
    lanes_[0].mu.Unlock();
    return status;
  }
  MutexLock lock(&lanes_[1].mu);
  return CopyOn(lanes_[1], copy, what);
}

absl::Status CudaMemory::Write(uint64_t address, absl::Span<const char> from) {
  TRUN_RETURN_IF_ERROR(EnterFor(address, from.size()));
  if (from.empty()) return absl::OkStatus();
  return CopyOnALane(
      [&](CUstream stream) {
        return context_->driver().cuMemcpyHtoDAsync(address, from.data(), from.size(), stream);
      },
      "copying to the GPU");
}

absl::Status CudaMemory::Read(uint64_t address, absl::Span<char> to) {
  TRUN_RETURN_IF_ERROR(EnterFor(address, to.size()));
  if (to.empty()) return absl::OkStatus();
  return CopyOnALane(
      [&](CUstream stream) {
        return context_->driver().cuMemcpyDtoHAsync(to.data(), address, to.size(), stream);
      },
      "copying from the GPU");
}

absl::Status CudaMemory::Fill(uint64_t address, uint64_t bytes, absl::string_view pattern) {
  TRUN_RETURN_IF_ERROR(CheckPattern(pattern, bytes));
  TRUN_RETURN_IF_ERROR(EnterFor(address, bytes));
  if (bytes == 0) return absl::OkStatus();
  MutexLock lock(&mu_);
  return FillQueued(address, bytes, pattern);
}

absl::Status CudaMemory::FillQueued(uint64_t address, uint64_t bytes, absl::string_view pattern) {
  const Driver& driver = context_->driver();
  if (pattern.find_first_not_of(pattern[0]) == absl::string_view::npos) {
    return Finish(driver.cuMemsetD8Async(address, static_cast<unsigned char>(pattern[0]), bytes, stream_),
                  "filling device memory");
  }
  // A piece from the host, then doubled on the device: any length of pattern, at any alignment.
  std::string seed;
  const uint64_t first = std::min<uint64_t>(bytes, kSeedBytes / pattern.size() * pattern.size());
  while (seed.size() < first) absl::StrAppend(&seed, pattern);
  CUresult result = driver.cuMemcpyHtoDAsync(address, seed.data(), first, stream_);
  for (uint64_t done = first; result == CUDA_SUCCESS && done < bytes;) {
    const uint64_t piece = std::min(done, bytes - done);
    result = driver.cuMemcpyDtoDAsync(address + done, address, piece, stream_);
    done += piece;
  }
  return Finish(result, "filling device memory");
}

absl::Status CudaMemory::Copy(uint64_t to, uint64_t from, uint64_t bytes) {
  TRUN_RETURN_IF_ERROR(CheckDisjoint(to, from, bytes));
  TRUN_RETURN_IF_ERROR(EnterFor(from, bytes));
  TRUN_RETURN_IF_ERROR(EnterFor(to, bytes));
  if (bytes == 0) return absl::OkStatus();
  MutexLock lock(&mu_);
  return Finish(context_->driver().cuMemcpyDtoDAsync(to, from, bytes, stream_), "copying on the GPU");
}

absl::Status CudaMemory::Pin(absl::Span<char> memory) {
  TRUN_RETURN_IF_ERROR(context_->Enter());
  return context_->Check(
      context_->driver().cuMemHostRegister(memory.data(), memory.size(), CU_MEMHOSTREGISTER_PORTABLE),
      "registering memory of the host with the driver");
}

absl::Status CudaMemory::TryToPin() {
  TRUN_ASSIGN_OR_RETURN(const UniqueFd fd, CreateSealedMemory(kSeedBytes));
  TRUN_ASSIGN_OR_RETURN(const MappedMemory page, MappedMemory::Map(fd, kSeedBytes));
  const absl::Span<char> memory = absl::MakeSpan(page.data(), page.bytes());
  TRUN_RETURN_IF_ERROR(Pin(memory));
  Unpin(memory);
  return absl::OkStatus();
}

void CudaMemory::Unpin(absl::Span<char> memory) {
  if (context_->Enter().ok()) context_->driver().cuMemHostUnregister(memory.data());
}

}  // namespace trun::device
