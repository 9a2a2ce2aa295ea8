// SessionImpl: tensors and their bytes.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"
#include "server/session/session_impl.h"

namespace trun {
namespace {

using device::kPageBytes;
constexpr uint64_t kPopulateBytes = 256 << 10;

// One system call in place of a fault for each page. Only advice: where it is refused, the pages fault in as
// they are written.
void Populate(char* begin, uint64_t bytes) {
  if (bytes < kPopulateBytes) return;
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / kPageBytes * kPageBytes;
  const uintptr_t last = reinterpret_cast<uintptr_t>(begin) + bytes;
  (void)madvise(reinterpret_cast<void*>(first), last - first, MADV_POPULATE_WRITE);
}

}  // namespace

absl::StatusOr<std::vector<TensorInfo>> SessionImpl::Allocate(absl::Span<const TensorSpec> specs) {
  if (!info_.host_memory) return AllocateOnDevice(specs);
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  const bool more_to_come = tensors_->Reclaim(Completed(), pending_.empty());
  absl::StatusOr<std::vector<TensorInfo>> infos = tensors_->Allocate(specs);
  if (infos.ok() || !more_to_come || !absl::IsResourceExhausted(infos.status())) return infos;
  // Freed memory that running launches still use comes back with them.
  TRUN_RETURN_IF_ERROR(WaitUntilDone(last_sequence_, absl::InfiniteDuration()));
  tensors_->Reclaim(Completed(), pending_.empty());
  return tensors_->Allocate(specs);
}

absl::StatusOr<std::vector<TensorInfo>> SessionImpl::AllocateOnDevice(absl::Span<const TensorSpec> specs) {
  MutexLock launch_lock(&launch_mu_);
  absl::StatusOr<std::vector<TensorInfo>> infos = std::vector<TensorInfo>();
  std::vector<std::pair<uint64_t, uint64_t>> zeroing;
  bool waited = false;
  while (true) {
    uint64_t wanted = 0;
    {
      MutexLock lock(&mu_);
      TRUN_RETURN_IF_ERROR(CheckOpen());
      const bool more_to_come = tensors_->Reclaim(Completed(), pending_.empty());
      infos = tensors_->Allocate(specs);
      zeroing = tensors_->TakeZeroing();
      wanted = tensors_->wanted_arena();
      if (!infos.ok() && absl::IsResourceExhausted(infos.status()) && more_to_come && !waited) {
        // Freed memory that running launches still use comes back with them.
        waited = true;
        TRUN_RETURN_IF_ERROR(WaitUntilDone(last_sequence_, absl::InfiniteDuration()));
        continue;
      }
    }
    if (infos.ok()) break;
    if (wanted == 0) return infos.status();
    TRUN_RETURN_IF_ERROR(GrowOnDevice(wanted));
  }
  absl::Status zeroed = absl::OkStatus();
  if (!zeroing.empty()) {
    zeroed = OnDeviceLocked([&](ExecutorControl& executor, StagedTransfer&) {
      for (const auto& [address, bytes] : zeroing) {
        TRUN_RETURN_IF_ERROR(executor.Fill(address, bytes, absl::string_view("\0", 1)));
      }
      return absl::OkStatus();
    });
  }
  if (zeroed.ok()) return infos;
  std::vector<std::string> handles;
  for (const TensorInfo& info : *infos) handles.push_back(info.handle);
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  TRUN_RETURN_IF_ERROR(tensors_->Free(handles, 0));
  return zeroed;
}

absl::Status SessionImpl::GrowOnDevice(uint64_t bytes) {
  uint64_t id = 0;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    id = tensors_->TakeArenaId();
  }
  TRUN_ASSIGN_OR_RETURN(std::shared_ptr<Arena> arena, Arena::Reserve(id, bytes, options_.addresses));
  const auto create = [&](ExecutorControl& executor, StagedTransfer&) -> absl::Status {
    TRUN_ASSIGN_OR_RETURN(UniqueFd memory, executor.CreateArena(id, arena->bytes(), arena->address()));
    arena->SetDescriptor(std::move(memory));
    return absl::OkStatus();
  };
  absl::Status created = OnDeviceLocked(create);
  if (absl::IsResourceExhausted(created)) {
    options_.retired->Wait();  // memory of sessions that were closed may be about to come back
    created = OnDeviceLocked(create);
  }
  TRUN_RETURN_IF_ERROR(created);
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  tensors_->AddArena(std::move(arena));
  return absl::OkStatus();
}

absl::Status SessionImpl::OnDevice(
    absl::FunctionRef<absl::Status(ExecutorControl&, StagedTransfer&)> operation) const {
  MutexLock launch_lock(&launch_mu_);
  return OnDeviceLocked(operation);
}

absl::Status SessionImpl::OnDeviceLocked(
    absl::FunctionRef<absl::Status(ExecutorControl&, StagedTransfer&)> operation) const {
  absl::Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    std::vector<MemoryChange> changes;
    std::vector<uint64_t> unloads;
    {
      MutexLock lock(&mu_);
      TRUN_RETURN_IF_ERROR(CheckOpen());
      changes = tensors_->TakeChanges();
      unloads.swap(unloads_);
    }
    TRUN_RETURN_IF_ERROR(PrepareExecutor(changes, unloads, nullptr));
    staging_.SetExecutor(binding_.generation());
    status = operation(*binding_.executor(), staging_);
    if (GetReason(status) != Reason::kExecutorLost && GetReason(status) != Reason::kContextLost) break;
  }
  return status;
}

absl::Status SessionImpl::Free(absl::Span<const std::string> tensors) {
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    TRUN_RETURN_IF_ERROR(tensors_->Free(tensors, last_sequence_));
    tensors_->Reclaim(Completed(), pending_.empty());
    if (!tensors_->has_unmaps()) return absl::OkStatus();
  }
  // The client waits for imported memory to be let go of: it may be about to make other memory. An executor
  // that is lost has none.
  OnDevice([](ExecutorControl&, StagedTransfer&) { return absl::OkStatus(); }).IgnoreError();
  return absl::OkStatus();
}

absl::StatusOr<TensorInfo> SessionImpl::GetTensor(absl::string_view tensor) const {
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> found, tensors_->Find(tensor));
  return found->info;
}

std::vector<TensorInfo> SessionImpl::ListTensors() const {
  MutexLock lock(&mu_);
  return tensors_.has_value() ? tensors_->List() : std::vector<TensorInfo>();
}

absl::StatusOr<std::shared_ptr<const Tensor>> SessionImpl::FindRange(absl::string_view handle,
                                                                     uint64_t offset, uint64_t bytes) const {
  TRUN_RETURN_IF_ERROR(CheckOpen());
  TRUN_ASSIGN_OR_RETURN(std::shared_ptr<const Tensor> tensor, tensors_->Find(handle));
  if (offset > tensor->info.bytes || bytes > tensor->info.bytes - offset) {
    return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument,
                     absl::StrCat(bytes, " bytes from byte ", offset, " on end past tensor '", handle,
                                  "', which has ", tensor->info.bytes));
  }
  if (tensor->arena->foreign_in() != 0) {
    return FailedPrecondition(
        Reason::kUnsupportedTarget,
        absl::StrCat("tensor '", handle, "' is memory of another process: that process reads and writes it"));
  }
  return tensor;
}

absl::StatusOr<std::shared_ptr<const Tensor>> SessionImpl::Acquire(absl::string_view handle, uint64_t offset,
                                                                   uint64_t bytes) const {
  MutexLock lock(&mu_);
  TRUN_ASSIGN_OR_RETURN(std::shared_ptr<const Tensor> tensor, FindRange(handle, offset, bytes));
  TRUN_RETURN_IF_ERROR(WaitUntilDone(last_sequence_, absl::InfiniteDuration()));
  return tensor;
}

absl::Status SessionImpl::Write(absl::string_view tensor, uint64_t offset, absl::Span<const char> data) {
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> found, Acquire(tensor, offset, data.size()));
  found->written.store(true, std::memory_order_relaxed);
  if (!found->arena->in_host_memory()) {
    return OnDevice([&](ExecutorControl& executor, StagedTransfer& staging) {
      return staging.Write(&executor, found->info.device_address + offset, data);
    });
  }
  Populate(found->memory() + offset, data.size());
  if (!data.empty()) std::memcpy(found->memory() + offset, data.data(), data.size());
  return absl::OkStatus();
}

absl::Status SessionImpl::Read(absl::string_view tensor, uint64_t offset, absl::Span<char> data) const {
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> found, Acquire(tensor, offset, data.size()));
  if (!found->arena->in_host_memory()) {
    return OnDevice([&](ExecutorControl& executor, StagedTransfer& staging) {
      return staging.Read(&executor, found->info.device_address + offset, data);
    });
  }
  if (!data.empty()) std::memcpy(data.data(), found->memory() + offset, data.size());
  return absl::OkStatus();
}

absl::Status SessionImpl::Fill(absl::string_view tensor, uint64_t offset, uint64_t bytes,
                               absl::string_view pattern) {
  if (pattern.size() != 1 && pattern.size() != 2 && pattern.size() != 4 && pattern.size() != 8) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a pattern of ", pattern.size(), " bytes; it has 1, 2, 4 or 8"));
  }
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> found, Acquire(tensor, offset, bytes));
  found->written.store(true, std::memory_order_relaxed);
  if (bytes == 0) bytes = found->info.bytes - offset;
  if (bytes % pattern.size() != 0) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat(bytes, " bytes are not a multiple of the pattern's ", pattern.size()));
  }
  if (!found->arena->in_host_memory()) {
    return OnDevice([&](ExecutorControl& executor, StagedTransfer&) {
      return executor.Fill(found->info.device_address + offset, bytes, pattern);
    });
  }
  char* const begin = found->memory() + offset;
  Populate(begin, bytes);
  // Doubles what is written, up to pieces that stay in the cache.
  uint64_t done = std::min<uint64_t>(bytes, pattern.size());
  std::memcpy(begin, pattern.data(), done);
  while (done < bytes) {
    const uint64_t piece = std::min<uint64_t>({done, bytes - done, kPopulateBytes});
    std::memcpy(begin + done, begin, piece);
    done += piece;
  }
  return absl::OkStatus();
}

absl::Status SessionImpl::Copy(absl::string_view source, uint64_t source_offset,
                               absl::string_view destination, uint64_t destination_offset, uint64_t bytes) {
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> from, Acquire(source, source_offset, bytes));
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> to,
                        Acquire(destination, destination_offset, bytes));
  if (from == to && source_offset < destination_offset + bytes &&
      destination_offset < source_offset + bytes) {
    return InvalidArgument(Reason::kArgument, "the ranges of the copy overlap");
  }
  to->written.store(true, std::memory_order_relaxed);
  if (!to->arena->in_host_memory()) {
    return OnDevice([&](ExecutorControl& executor, StagedTransfer&) {
      return executor.Copy(to->info.device_address + destination_offset,
                           from->info.device_address + source_offset, bytes);
    });
  }
  Populate(to->memory() + destination_offset, bytes);
  if (bytes > 0) std::memcpy(to->memory() + destination_offset, from->memory() + source_offset, bytes);
  return absl::OkStatus();
}

absl::StatusOr<DescriptorExport> SessionImpl::ExportDescriptors(absl::Span<const std::string> tensors) const {
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  if (!info_.host_memory) {
    return FailedPrecondition(Reason::kUnsupportedTarget, absl::StrCat("the memory of ", options_.device,
                                                                       " is the device's own and cannot be "
                                                                       "mapped: read and write the tensors"));
  }
  DescriptorExport exported;
  std::vector<const Arena*> arenas;
  for (const std::string& handle : tensors) {
    TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> tensor, tensors_->Find(handle));
    const Arena* const arena = tensor->arena.get();
    const auto known = std::find(arenas.begin(), arenas.end(), arena);
    const auto index = static_cast<uint32_t>(known - arenas.begin());
    if (known == arenas.end()) {
      UniqueFd duplicate(fcntl(arena->descriptor().get(), F_DUPFD_CLOEXEC, 0));
      if (!duplicate.valid()) return FromErrno(errno, "duplicating an arena's descriptor");
      arenas.push_back(arena);
      exported.descriptors.push_back(std::move(duplicate));
    }
    exported.tensors.push_back({index, tensor->offset, tensor->info.bytes, arena->bytes()});
  }
  return exported;
}

}  // namespace trun
