#include "server/session/executor_binding.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

bool IsLost(const absl::Status& status) {
  return GetReason(status) == Reason::kExecutorLost || GetReason(status) == Reason::kContextLost;
}

// Metadata and signature say one thing, the loaded code may say another.
absl::Status CheckAgainstSignature(const SessionKernel& kernel) {
  const KernelSignature& signature = kernel.compiled->signature;
  std::vector<uint32_t> sizes;
  for (size_t i = 0; i < signature.arguments.size(); ++i) {
    TRUN_ASSIGN_OR_RETURN(const std::vector<uint32_t> own, ParameterSizes(signature, i, *kernel.passing));
    sizes.insert(sizes.end(), own.begin(), own.end());
  }
  const std::vector<device::ParameterLayout>& parameters = kernel.attributes.parameters;
  if (parameters.size() < sizes.size() || parameters.size() > sizes.size() + 2) {
    return InvalidArgument(
        Reason::kMetadata,
        absl::StrCat("kernel '", signature.name, "' has ", parameters.size(),
                     " parameters; its signature has ", sizes.size(),
                     " and at most two more are hidden: is the signature of another build?"),
        {{"key", "signature"}});
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (parameters[i].bytes == sizes[i]) continue;
    return InvalidArgument(
        Reason::kMetadata,
        absl::StrCat("parameter ", i, " of kernel '", signature.name, "' has ", parameters[i].bytes,
                     " bytes; its signature says ", sizes[i], ": is the signature of another build?"),
        {{"key", "signature"}, {"argument", absl::StrCat(i)}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExecutorBinding::Start() {
  TRUN_ASSIGN_OR_RETURN(executor_, factory_->Create(device_, session_));
  info_ = executor_->device_info();
  ++generation_;
  return absl::OkStatus();
}

absl::Status ExecutorBinding::Replace() {
  // The next process starts while the last one ends; it makes its context afterwards, which takes longer
  // while the driver takes another one down.
  factory_->Expect(device_);
  executor_.reset();  // its launches are failed before their tensors go to another executor
  TRUN_RETURN_IF_ERROR(Start());
  return Apply(snapshot_());
}

absl::Status ExecutorBinding::Prepare(const std::vector<MemoryChange>& changes,
                                      const std::vector<uint64_t>& unloads, SessionKernel* kernel) {
  absl::Status status =
      executor_ == nullptr ? Unavailable(Reason::kExecutorLost, "there is no executor") : executor_->health();
  if (status.ok()) {
    status = Apply(changes);
    for (const uint64_t number : unloads) {
      if (status.ok()) status = executor_->UnloadKernel(number);
      if (absl::IsNotFound(status)) status = absl::OkStatus();  // an executor before this one had it
    }
    if (status.ok() && kernel != nullptr) status = Load(kernel);
  }
  if (!IsLost(status)) return status;
  status = Replace();
  if (status.ok() && kernel != nullptr) status = Load(kernel);
  // Not left half told: the next call starts another.
  if (IsLost(status)) executor_.reset();
  return status;
}

absl::Status ExecutorBinding::Apply(const std::vector<MemoryChange>& changes) {
  for (const MemoryChange& change : changes) {
    absl::Status status = absl::OkStatus();
    switch (change.kind) {
      case MemoryChange::Kind::kMapArena:
        status = executor_->MapArena(change.arena->id(), change.arena->descriptor(), change.arena->bytes(),
                                     change.arena->address());
        break;
      case MemoryChange::Kind::kUnmapArena:
        status = executor_->UnmapArena(change.arena->id());
        if (absl::IsNotFound(status)) status = absl::OkStatus();  // an executor before this one had it
        break;
      case MemoryChange::Kind::kAdd:
        status = executor_->AddAllocation(change.id, change.address, change.bytes);
        break;
      case MemoryChange::Kind::kRemove:
        status = executor_->RemoveAllocation(change.id);
        break;
    }
    if (status.ok() || IsLost(status)) {
      TRUN_RETURN_IF_ERROR(status);
      continue;
    }
    // An executor that refuses the session's own memory is out of step with it: another one takes its place.
    return Unavailable(Reason::kExecutorLost,
                       absl::StrCat("the executor refused the session's memory: ", status.message()));
  }
  return absl::OkStatus();
}

absl::Status ExecutorBinding::Load(SessionKernel* kernel) {
  if (kernel->loaded_in == generation_) return absl::OkStatus();
  const auto artifact = kernel->compiled->artifacts.find(info_.module_level);
  if (artifact == kernel->compiled->artifacts.end()) {
    return FailedPrecondition(
        Reason::kUnsupportedLevel,
        absl::StrCat("kernel '", kernel->compiled->signature.name, "' has no ", LevelName(info_.module_level),
                     ", which ", info_.name, " loads: compile it up to there"));
  }
  absl::StatusOr<device::KernelAttributes> attributes =
      executor_->LoadKernel(kernel->number, artifact->second.bytes, kernel->compiled->signature.name);
  if (!attributes.ok()) return attributes.status();
  kernel->attributes = *std::move(attributes);
  const absl::Status fits = CheckAgainstSignature(*kernel);
  if (!fits.ok()) {
    executor_->UnloadKernel(kernel->number).IgnoreError();  // a lost executor is noticed by the next call
    return fits;
  }
  kernel->loaded_in = generation_;
  return absl::OkStatus();
}

std::unique_ptr<ExecutorControl> ExecutorBinding::Release() { return std::move(executor_); }

}  // namespace trun
