// SessionImpl: staging areas that a client shares.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/session/handle.h"
#include "server/session/session_impl.h"

namespace trun {
namespace {

constexpr size_t kMaxAreas = 64;
// A copy longer than this is not one answer to wait for: the executor is held to a time for each.
constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 30;

bool IsLost(const absl::Status& status) {
  return GetReason(status) == Reason::kExecutorLost || GetReason(status) == Reason::kContextLost;
}

}  // namespace

absl::StatusOr<StagingInfo> SessionImpl::CreateStaging(uint64_t bytes) {
  if (info_.host_memory) {
    return FailedPrecondition(Reason::kUnsupportedTarget,
                              absl::StrCat("tensors on ", options_.device,
                                           " are shared memory: their descriptors can be exported, and no "
                                           "staging area makes that faster"));
  }
  std::shared_ptr<SharedStaging> area;
  std::string handle;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    if (staging_areas_.size() >= kMaxAreas) {
      return ResourceExhausted(
          Reason::kQuota,
          absl::StrCat("the session has ", kMaxAreas, " staging areas, its limit: free one first"),
          {{"limit", absl::StrCat(kMaxAreas)}});
    }
    TRUN_ASSIGN_OR_RETURN(
        area, SharedStaging::Create(next_staging_++, bytes, &memory_, options_.tenant_memory.get()));
    handle = MintHandle('s');
    staging_areas_.emplace(handle, area);
  }
  StagingInfo made;
  absl::StatusOr<std::string> unregistered = AttachStaging(*area);
  absl::Status status = unregistered.status();
  if (status.ok()) {
    made.descriptor.reset(fcntl(area->descriptor().get(), F_DUPFD_CLOEXEC, 0));
    if (!made.descriptor.valid()) status = FromErrno(errno, "duplicating a staging area's descriptor");
  }
  if (!status.ok()) {
    FreeStaging(handle).IgnoreError();  // a session that was closed meanwhile has none any more
    return status;
  }
  made.handle = std::move(handle);
  made.bytes = area->bytes();
  made.unregistered = *std::move(unregistered);
  return made;
}

absl::Status SessionImpl::FreeStaging(absl::string_view handle) {
  std::shared_ptr<SharedStaging> area;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    TRUN_ASSIGN_OR_RETURN(area, FindStaging(handle));
    staging_areas_.erase(std::string(handle));
  }
  MutexLock attach_lock(&area->attach_mu);
  area->freed = true;
  MutexLock launch_lock(&launch_mu_);
  if (binding_.executor() == nullptr || area->attached_to != binding_.generation()) return absl::OkStatus();
  // Nobody waits for it: an executor that is lost has no areas.
  binding_.executor()->UnmapStaging(area->number(), [](const absl::Status&) {});
  area->attached_to = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<SharedStaging>> SessionImpl::FindStaging(absl::string_view handle) const {
  const auto it = staging_areas_.find(std::string(handle));
  if (it != staging_areas_.end()) return it->second;
  return NotFound(Reason::kHandle, absl::StrCat("no staging area '", handle,
                                                "' in this session: it was freed, or belongs to another"));
}

absl::Status SessionImpl::ReadyExecutor() {
  std::vector<MemoryChange> changes;
  std::vector<uint64_t> unloads;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    changes = tensors_->TakeChanges();
    unloads.swap(unloads_);
  }
  return PrepareExecutor(changes, unloads, nullptr);
}

absl::StatusOr<std::string> SessionImpl::AttachStaging(SharedStaging& area) {
  struct Answer {
    explicit Answer() : outstanding(1) {}
    OutstandingAnswers outstanding;
    std::string unregistered;  // read once it is not outstanding any more
  };
  MutexLock attach_lock(&area.attach_mu);
  if (area.freed) {
    return NotFound(Reason::kHandle, "the staging area was freed while a copy was under way");
  }
  const auto answer = std::make_shared<Answer>();
  uint64_t generation = 0;
  {
    MutexLock launch_lock(&launch_mu_);
    TRUN_RETURN_IF_ERROR(ReadyExecutor());
    generation = binding_.generation();
    if (area.attached_to == generation) return area.unregistered;
    binding_.executor()->MapStaging(area.number(), area.descriptor(), area.bytes(),
                                    [answer](absl::StatusOr<std::string> unregistered) {
                                      if (unregistered.ok()) answer->unregistered = *unregistered;
                                      answer->outstanding.Answer(unregistered.status());
                                    });
  }
  // Registering takes its time: launches go on meanwhile.
  TRUN_RETURN_IF_ERROR(answer->outstanding.Wait());
  area.attached_to = generation;
  area.unregistered = answer->unregistered;
  return area.unregistered;
}

absl::Status SessionImpl::Transfer(absl::string_view staging, absl::Span<const StagingMove> moves,
                                   TransferDirection direction) {
  std::shared_ptr<SharedStaging> area;
  std::vector<std::shared_ptr<const Tensor>> tensors;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    TRUN_ASSIGN_OR_RETURN(area, FindStaging(staging));
    for (const StagingMove& move : moves) {
      TRUN_RETURN_IF_ERROR(area->CheckRange(move.staging_offset, move.bytes));
      TRUN_ASSIGN_OR_RETURN(std::shared_ptr<const Tensor> tensor,
                            FindRange(move.tensor, move.tensor_offset, move.bytes));
      tensors.push_back(std::move(tensor));
    }
    TRUN_RETURN_IF_ERROR(WaitUntilDone(last_sequence_, absl::InfiniteDuration()));
  }
  absl::Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    status = TransferOnce(*area, moves, tensors, direction);
    // The bytes are all still there: another executor moves them again.
    if (!IsLost(status)) break;
  }
  return status;
}

absl::Status SessionImpl::TransferOnce(SharedStaging& area, absl::Span<const StagingMove> moves,
                                       absl::Span<const std::shared_ptr<const Tensor>> tensors,
                                       TransferDirection direction) {
  TRUN_RETURN_IF_ERROR(AttachStaging(area).status());
  size_t pieces = 0;
  for (const StagingMove& move : moves) pieces += (move.bytes + kMaxTransferBytes - 1) / kMaxTransferBytes;
  const auto outstanding = std::make_shared<OutstandingAnswers>(pieces);
  {
    MutexLock attach_lock(&area.attach_mu);
    MutexLock launch_lock(&launch_mu_);
    TRUN_RETURN_IF_ERROR(ReadyExecutor());
    if (area.attached_to != binding_.generation()) {
      return Unavailable(Reason::kExecutorLost, "the executor was lost before the copy began");
    }
    for (size_t i = 0; i < moves.size(); ++i) {
      const uint64_t address = tensors[i]->info.device_address + moves[i].tensor_offset;
      for (uint64_t done = 0; done < moves[i].bytes; done += kMaxTransferBytes) {
        const uint64_t bytes = std::min(moves[i].bytes - done, kMaxTransferBytes);
        binding_.executor()->Transfer(
            {area.number(), moves[i].staging_offset + done, bytes}, address + done,
            direction == TransferDirection::kToTensor,
            [outstanding](const absl::Status& status) { outstanding->Answer(status); });
      }
    }
  }
  // Neither launches nor other copies wait for this one.
  return outstanding->Wait();
}

}  // namespace trun
