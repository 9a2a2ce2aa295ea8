// SessionImpl: memory that a client made on the device itself.
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/session/session_impl.h"

namespace trun {
namespace {

constexpr uint64_t kMaxImportBytes = uint64_t{1} << 42;
constexpr size_t kMaxHandleBytes = 64;  // of CUDA IPC

absl::Status CheckImport(const MemoryImport& memory) {
  constexpr uint64_t kGranule = AddressSpace::kGranule;
  if (memory.bytes == 0 || memory.bytes > kMaxImportBytes) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("an import of ", memory.bytes, " bytes"));
  }
  if (!memory.descriptor.valid()) {
    if (!memory.handle.empty() && memory.handle.size() <= kMaxHandleBytes) return absl::OkStatus();
    return InvalidArgument(Reason::kArgument,
                           "an import needs a descriptor of the memory, or its IPC handle");
  }
  const bool aligned = memory.bytes % kGranule == 0 && memory.address % kGranule == 0;
  const bool inside =
      memory.address >= AddressSpace::kImportBegin && memory.address <= AddressSpace::kImportEnd &&
      memory.bytes <= AddressSpace::kImportEnd - memory.address &&
      memory.address / AddressSpace::kWindow == (memory.address + memory.bytes - 1) / AddressSpace::kWindow;
  if (aligned && inside) return absl::OkStatus();
  return InvalidArgument(
      Reason::kArgument,
      absl::StrCat("an import of ", memory.bytes, " bytes at 0x", absl::Hex(memory.address),
                   "; imports are granules of ", kGranule, " bytes, in one window of ", AddressSpace::kWindow,
                   " bytes, from 0x", absl::Hex(AddressSpace::kImportBegin), " to 0x",
                   absl::Hex(AddressSpace::kImportEnd)));
}

}  // namespace

absl::StatusOr<TensorInfo> SessionImpl::Import(MemoryImport memory) {
  if (info_.host_memory) {
    return FailedPrecondition(Reason::kUnsupportedTarget,
                              absl::StrCat("tensors on ", options_.device,
                                           " are shared memory of the host: there is nothing to import"));
  }
  TRUN_RETURN_IF_ERROR(CheckImport(memory));
  const std::string handle = memory.handle;
  const bool foreign = !memory.descriptor.valid();
  MutexLock launch_lock(&launch_mu_);
  std::shared_ptr<Tensor> tensor;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    // What was freed at the address may still be in use; and the driver may wait for a kernel before it maps
    // memory, longer than the executor is given for an answer.
    TRUN_RETURN_IF_ERROR(WaitUntilDone(last_sequence_, absl::InfiniteDuration()));
    tensors_->Reclaim(Completed());
    TRUN_ASSIGN_OR_RETURN(tensor, tensors_->BeginImport(std::move(memory)));
  }
  const Arena& arena = *tensor->arena;
  uint64_t address = 0;
  const absl::Status mapped = OnDeviceLocked([&](ExecutorControl& executor, StagedTransfer&) -> absl::Status {
    if (!foreign) return executor.MapArena(arena.id(), arena.descriptor(), arena.bytes(), arena.address());
    TRUN_ASSIGN_OR_RETURN(address, executor.MapForeign(arena.id(), handle, arena.bytes()));
    return absl::OkStatus();
  });
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  if (!mapped.ok()) {
    tensors_->DropImport(tensor);
    return mapped;
  }
  if (foreign) tensor->arena->SetForeign(address, binding_.generation());
  return tensors_->EndImport(tensor);
}

}  // namespace trun
