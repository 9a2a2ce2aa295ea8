#include "server/session/session_impl.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/session/handle.h"
#include "server/session/launch_shape.h"

namespace trun {
namespace {

constexpr absl::Duration kDefaultDeadline = absl::Seconds(30);
constexpr absl::Duration kMaxDeadline = absl::Hours(1);
constexpr absl::Duration kLongestWait = absl::Hours(24 * 365);
constexpr uint32_t kMaxRepetitions = 10'000;
constexpr size_t kMaxPrinted = size_t{1} << 20;

absl::Status Expired(absl::string_view id) {
  return NotFound(Reason::kSessionExpired, absl::StrCat("session '", id, "' was closed"));
}

absl::Status ForeignLost(absl::string_view handle) {
  return NotFound(
      Reason::kHandle,
      absl::StrCat("memory of another process", handle.empty() ? "" : absl::StrCat(" '", handle, "'"),
                   " was imported into an executor that is gone: import it again"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<SessionImpl>> SessionImpl::Create(const SessionImplOptions& options) {
  std::shared_ptr<SessionImpl> session(new SessionImpl(options));
  MutexLock launch_lock(&session->launch_mu_);
  TRUN_RETURN_IF_ERROR(session->binding_.Start());
  session->info_ = session->binding_.device_info();
  MutexLock lock(&session->mu_);
  session->tensors_.emplace(&session->memory_, options.tenant_memory.get(), options.addresses,
                            session->info_.host_memory);
  session->executor_pid_ = session->binding_.executor()->pid();
  return session;
}

SessionImpl::SessionImpl(const SessionImplOptions& options)
    : options_(options),
      opened_(options.clock->Now()),
      memory_(options.memory_limit),
      last_used_ns_(absl::ToUnixNanos(opened_)),
      binding_(options.executors, options.device, options.id, [this] {
        MutexLock lock(&mu_);
        return tensors_.has_value() ? tensors_->Snapshot() : std::vector<MemoryChange>();
      }) {}

SessionImpl::~SessionImpl() { Close(); }

void SessionImpl::BeginUse() { in_use_.fetch_add(1); }

void SessionImpl::EndUse() {
  last_used_ns_.store(absl::ToUnixNanos(options_.clock->Now()));
  in_use_.fetch_sub(1);
}

absl::Time SessionImpl::expiry() const {
  if (in_use_.load() > 0) return absl::InfiniteFuture();
  return absl::FromUnixNanos(last_used_ns_.load()) + options_.lease;
}

void SessionImpl::Drain() { draining_.store(true); }

void SessionImpl::Close() {
  {
    MutexLock lock(&mu_);
    closed_ = true;
    changed_.SignalAll();
  }
  std::unique_ptr<ExecutorControl> executor;
  bool idle = false;
  {
    MutexLock launch_lock(&launch_mu_);
    executor = binding_.Release();
    MutexLock lock(&mu_);
    idle = pending_.empty();  // and then none of its callbacks comes here any more
  }
  if (idle && executor != nullptr && !info_.host_memory) options_.retired->Add(std::move(executor));
  executor.reset();  // its callbacks come here
  MutexLock lock(&mu_);
  executor_pid_ = 0;
  kernels_.clear();
  kernel_by_compiled_.clear();
  staging_areas_.clear();
  tensors_.reset();
}

absl::Status SessionImpl::CheckOpen() const { return closed_ ? Expired(options_.id) : absl::OkStatus(); }

uint64_t SessionImpl::Completed() const {
  return pending_.empty() ? last_sequence_ : pending_.begin()->first - 1;
}

absl::Status SessionImpl::WaitUntilDone(uint64_t target, absl::Duration timeout) const {
  const auto until =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(timeout, kLongestWait));
  while (true) {
    TRUN_RETURN_IF_ERROR(CheckOpen());
    if (pending_.empty() || pending_.begin()->first > target) return absl::OkStatus();
    if (std::chrono::steady_clock::now() >= until) {
      return DeadlineExceeded(Reason::kUnavailable,
                              absl::StrCat("launch ", pending_.begin()->first, " still runs"));
    }
    changed_.WaitUntil(&mu_, until);
  }
}

absl::Status SessionImpl::WaitForLaunches(absl::Duration timeout) const {
  MutexLock lock(&mu_);
  return WaitUntilDone(last_sequence_, timeout);
}

absl::Status SessionImpl::WaitForRoom(absl::Duration timeout) const {
  MutexLock lock(&mu_);
  const auto until =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(timeout, kLongestWait));
  while (true) {
    TRUN_RETURN_IF_ERROR(CheckOpen());
    if (pending_.size() < options_.max_queued_launches) return absl::OkStatus();
    if (std::chrono::steady_clock::now() >= until) {
      return DeadlineExceeded(Reason::kUnavailable,
                              absl::StrCat(pending_.size(), " launches are still queued"));
    }
    changed_.WaitUntil(&mu_, until);
  }
}

absl::StatusOr<std::string> SessionImpl::AddKernel(std::shared_ptr<const CompiledKernel> kernel) {
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  if (kernels_.size() >= options_.max_kernels) {
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat("the session has ", kernels_.size(), " kernels, its limit: release some first"),
        {{"limit", absl::StrCat(options_.max_kernels)}});
  }
  std::shared_ptr<SessionKernel>& record = kernel_by_compiled_[kernel.get()];
  if (record == nullptr) {
    record = std::make_shared<SessionKernel>();
    record->number = next_kernel_++;
    record->passing = DescriptorPassingOf(kernel->metadata);
    record->compiled = std::move(kernel);
  }
  ++record->handles;
  std::string handle = MintHandle('k');
  kernels_.emplace(handle, record);
  return handle;
}

absl::StatusOr<std::shared_ptr<SessionKernel>> SessionImpl::FindKernelLocked(absl::string_view kernel) const {
  const auto it = kernels_.find(std::string(kernel));
  if (it != kernels_.end()) return it->second;
  return NotFound(Reason::kHandle, absl::StrCat("no kernel '", kernel,
                                                "' in this session: it was released, or belongs to another"));
}

absl::StatusOr<std::shared_ptr<const CompiledKernel>> SessionImpl::FindKernel(
    absl::string_view kernel) const {
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<SessionKernel> record, FindKernelLocked(kernel));
  return record->compiled;
}

absl::Status SessionImpl::ReleaseKernel(absl::string_view kernel) {
  MutexLock lock(&mu_);
  TRUN_RETURN_IF_ERROR(CheckOpen());
  TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<SessionKernel> record, FindKernelLocked(kernel));
  kernels_.erase(std::string(kernel));
  if (--record->handles == 0) {
    kernel_by_compiled_.erase(record->compiled.get());
    unloads_.push_back(record->number);
  }
  return absl::OkStatus();
}

absl::Status SessionImpl::PrepareExecutor(const std::vector<MemoryChange>& changes,
                                          const std::vector<uint64_t>& unloads, SessionKernel* kernel) const {
  const uint64_t before = binding_.restarts();
  const absl::Status status = binding_.Prepare(changes, unloads, kernel);
  if (binding_.restarts() == before) return status;
  MutexLock lock(&mu_);
  restarts_ = binding_.restarts();
  executor_pid_ = binding_.executor() == nullptr ? 0 : binding_.executor()->pid();
  return status;
}

absl::StatusOr<device::KernelAttributes> SessionImpl::PrepareKernel(absl::string_view kernel) {
  MutexLock launch_lock(&launch_mu_);
  std::shared_ptr<SessionKernel> record;
  std::vector<MemoryChange> changes;
  std::vector<uint64_t> unloads;
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    TRUN_ASSIGN_OR_RETURN(record, FindKernelLocked(kernel));
    TRUN_RETURN_IF_ERROR(record->passing.status());
    changes = tensors_->TakeChanges();
    unloads.swap(unloads_);
  }
  TRUN_RETURN_IF_ERROR(PrepareExecutor(changes, unloads, record.get()));
  return record->attributes;
}

absl::StatusOr<uint64_t> SessionImpl::Launch(const SessionLaunch& launch,
                                             std::function<void(LaunchResult)> done) {
  MutexLock launch_lock(&launch_mu_);
  return LaunchLocked(launch, std::move(done));
}

absl::StatusOr<uint64_t> SessionImpl::LaunchLocked(const SessionLaunch& launch,
                                                   std::function<void(LaunchResult)> done) {
  std::shared_ptr<SessionKernel> kernel;
  ExecutorLaunch out;
  std::vector<MemoryChange> changes;
  std::vector<uint64_t> unloads;
  bool uses_foreign = false;
  const uint64_t generation = binding_.generation();
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(CheckOpen());
    TRUN_ASSIGN_OR_RETURN(kernel, FindKernelLocked(launch.kernel));
    TRUN_RETURN_IF_ERROR(Enqueue(launch, *kernel, &out, std::move(done), &uses_foreign));
    // Taken together with the addresses: what is freed from now on is news for the next launch.
    changes = tensors_->TakeChanges();
    unloads.swap(unloads_);
  }
  absl::Status status = PrepareExecutor(changes, unloads, kernel.get());
  // The addresses that were encoded are those of the executor before.
  if (status.ok() && uses_foreign && binding_.generation() != generation) status = ForeignLost("");
  if (status.ok()) {
    absl::StatusOr<LaunchShape> shape =
        MakeLaunchShape(kernel->compiled->metadata, kernel->attributes, info_, launch.grid);
    status = shape.status();
    if (shape.ok()) {
      out.dimensions = shape->dimensions;
      out.global_scratch_bytes = shape->global_scratch_bytes;
      out.profile_scratch_bytes = shape->profile_scratch_bytes;
    }
  }
  if (!status.ok()) {
    TakeBack(out.sequence);
    return status;
  }
  const uint64_t sequence = out.sequence;
  binding_.executor()->Launch(
      std::move(out), [this, sequence](ExecutorLaunchResult result) { OnDone(sequence, std::move(result)); });
  return sequence;
}

absl::Status SessionImpl::Enqueue(const SessionLaunch& launch, const SessionKernel& kernel,
                                  ExecutorLaunch* out, std::function<void(LaunchResult)> done,
                                  bool* uses_foreign) {
  if (draining_.load()) {
    return Unavailable(Reason::kDraining,
                       "the daemon is ending and takes no new launches: retry against the next one");
  }
  if (launch.deadline < absl::ZeroDuration() || launch.deadline > kMaxDeadline) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a deadline of ", absl::FormatDuration(launch.deadline),
                                        "; it must be between 0 (30 s) and 1 h"));
  }
  if (launch.repetitions < 1 || launch.repetitions > kMaxRepetitions) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat(launch.repetitions, " repetitions; they must be 1 to ", kMaxRepetitions));
  }
  if (pending_.size() >= options_.max_queued_launches) {
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat(pending_.size(), " launches are queued, the session's limit: synchronize first"),
        {{"limit", absl::StrCat(options_.max_queued_launches)}});
  }
  TRUN_RETURN_IF_ERROR(kernel.passing.status());
  const auto resolve = [this, uses_foreign](absl::string_view handle)
                           ABSL_NO_THREAD_SAFETY_ANALYSIS -> absl::StatusOr<ResolvedTensor> {
    TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> tensor, tensors_->Find(handle));
    if (const uint64_t generation = tensor->arena->foreign_in(); generation != 0) {
      if (generation != binding_.generation()) return ForeignLost(handle);
      *uses_foreign = true;
    }
    return ResolvedTensor{tensor->info.device_address, tensor->info.bytes, tensor->info.dtype};
  };
  const KernelMetadata& metadata = kernel.compiled->metadata;
  TRUN_RETURN_IF_ERROR(EncodeArguments(kernel.compiled->signature, *kernel.passing, launch.arguments, resolve,
                                       &out->arguments));
  for (const std::string& handle : launch.unwritten) {
    TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tensor> tensor, tensors_->Find(handle));
    if (!tensor->written.load(std::memory_order_relaxed)) out->unwritten.push_back(tensor->id);
  }
  out->sequence = ++last_sequence_;
  out->kernel = kernel.number;
  out->global_scratch_align = std::max<uint32_t>(metadata.global_scratch_align, 1);
  out->profile_scratch_align = std::max<uint32_t>(metadata.profile_scratch_align, 1);
  out->deadline = launch.deadline == absl::ZeroDuration() ? kDefaultDeadline : launch.deadline;
  out->repetitions = launch.repetitions;
  out->checks = launch.checks;
  out->trace = launch.trace;
  pending_.emplace(out->sequence,
                   PendingLaunch{launch.observed, kernel.compiled->signature.name, std::move(done)});
  return absl::OkStatus();
}

void SessionImpl::TakeBack(uint64_t sequence) {
  Calls calls;
  {
    MutexLock lock(&mu_);
    pending_.erase(sequence);
    --last_sequence_;  // launch_mu_ is held: nobody took the next one
    CollectSynchronized(&calls);
    changed_.SignalAll();
  }
  for (const auto& call : calls) call();
}

void SessionImpl::OnDone(uint64_t sequence, ExecutorLaunchResult in) {
  LaunchResult result;
  result.sequence = sequence;
  result.status = std::move(in.status);
  result.device_times = std::move(in.device_times);
  result.warp_instructions = in.warp_instructions;
  result.printed = std::move(in.printed);
  result.trace = std::move(in.trace);
  std::function<void(LaunchResult)> done;
  Calls calls;
  {
    MutexLock lock(&mu_);
    const auto it = pending_.find(sequence);
    if (it == pending_.end()) return;
    PendingLaunch launch = std::move(it->second);
    pending_.erase(it);
    done = std::move(launch.done);
    if (!result.status.ok()) {
      result.fault = {sequence, launch.kernel_name, std::move(in.fault), ""};
      const uint64_t nearest = result.fault.report.nearest_allocation;
      if (nearest != 0 && tensors_.has_value()) result.fault.nearest_tensor = tensors_->HandleOf(nearest);
    }
    if (!launch.observed) {
      if (!result.status.ok() && (!first_fault_.has_value() || first_fault_->sequence > sequence)) {
        first_fault_ = result;
      }
      if (printed_.size() < kMaxPrinted) printed_.append(result.printed, 0, kMaxPrinted - printed_.size());
    }
    if (pending_.empty() && tensors_.has_value()) tensors_->Reclaim(last_sequence_);
    CollectSynchronized(&calls);
    changed_.SignalAll();
  }
  if (done) done(std::move(result));
  for (const auto& call : calls) call();
}

void SessionImpl::CollectSynchronized(Calls* calls) {
  if (synchronizes_.empty()) return;
  const uint64_t completed = Completed();
  std::vector<WaitingSynchronize> waiting;
  for (WaitingSynchronize& synchronize : synchronizes_) {
    if (synchronize.target > completed && !pending_.empty()) {
      waiting.push_back(std::move(synchronize));
      continue;
    }
    calls->push_back([done = std::move(synchronize.done),
                      result = TakeSynchronizeResult(synchronize.target)] { done(result); });
  }
  synchronizes_ = std::move(waiting);
}

SynchronizeResult SessionImpl::TakeSynchronizeResult(uint64_t target) {
  SynchronizeResult result;
  result.last_sequence = std::min(target, last_sequence_);
  result.printed = std::exchange(printed_, "");
  if (first_fault_.has_value() && first_fault_->sequence <= target) {
    result.status = first_fault_->status;
    result.fault = std::move(first_fault_->fault);
    first_fault_.reset();
  }
  return result;
}

void SessionImpl::Synchronize(std::function<void(SynchronizeResult)> done) {
  Calls calls;
  {
    MutexLock lock(&mu_);
    const absl::Status open = CheckOpen();
    if (open.ok()) {
      synchronizes_.push_back({last_sequence_, std::move(done)});
      CollectSynchronized(&calls);
    } else {
      SynchronizeResult result;
      result.status = open;
      calls.push_back([done = std::move(done), result] { done(result); });
    }
  }
  for (const auto& call : calls) call();
}

absl::StatusOr<uint64_t> SessionImpl::Benchmark(const SessionLaunch& launch, uint32_t warmup,
                                                std::function<void(LaunchResult)> done) {
  if (warmup > kMaxRepetitions) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a warm-up of ", warmup, "; the limit is ", kMaxRepetitions));
  }
  MutexLock launch_lock(&launch_mu_);
  if (warmup == 0) return LaunchLocked(launch, std::move(done));
  if (launch.repetitions < 1 || launch.repetitions > kMaxRepetitions) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat(launch.repetitions, " repetitions; they must be 1 to ", kMaxRepetitions));
  }
  struct WarmUp {
    Mutex mu;
    std::optional<LaunchResult> failed ABSL_GUARDED_BY(mu);
  };
  auto shared = std::make_shared<WarmUp>();
  SessionLaunch first = launch;
  first.repetitions = warmup;
  first.observed = true;
  TRUN_RETURN_IF_ERROR(LaunchLocked(first, [shared](LaunchResult result) {
                         MutexLock lock(&shared->mu);
                         if (!result.status.ok()) shared->failed = std::move(result);
                       }).status());
  return LaunchLocked(launch, [shared, done = std::move(done)](LaunchResult result) {
    {
      MutexLock lock(&shared->mu);
      if (shared->failed.has_value()) {
        shared->failed->sequence = result.sequence;
        result = *std::move(shared->failed);
      }
    }
    done(std::move(result));
  });
}

SessionStatistics SessionImpl::statistics() const {
  SessionStatistics statistics;
  statistics.id = options_.id;
  statistics.tenant = options_.tenant;
  statistics.client_name = options_.client_name;
  statistics.device = options_.device;
  const absl::Time now = options_.clock->Now();
  statistics.age = now - opened_;
  if (in_use_.load() == 0) statistics.idle = now - absl::FromUnixNanos(last_used_ns_.load());
  MutexLock lock(&mu_);
  if (tensors_.has_value()) {
    statistics.tensors = tensors_->count();
    statistics.tensor_bytes = tensors_->bytes();
  }
  statistics.kernels = kernels_.size();
  statistics.launches = last_sequence_;
  statistics.executor_restarts = restarts_;
  statistics.executor_pid = executor_pid_;
  return statistics;
}

}  // namespace trun
