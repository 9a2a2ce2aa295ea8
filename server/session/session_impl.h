#ifndef TRUN_SERVER_SESSION_SESSION_IMPL_H_
#define TRUN_SERVER_SESSION_SESSION_IMPL_H_

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/functional/function_ref.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "server/session/executor_binding.h"
#include "server/session/memory_account.h"
#include "server/session/retired_executors.h"
#include "server/session/session.h"
#include "server/session/shared_staging.h"
#include "server/session/staged_transfer.h"
#include "server/session/tensor_table.h"

namespace trun {

struct SessionImplOptions {
  std::string id;
  std::string tenant;
  std::string client_name;
  std::string device;
  absl::Duration lease;
  uint64_t memory_limit = 0;
  uint32_t max_kernels = 0;
  uint32_t max_queued_launches = 0;
  std::shared_ptr<MemoryAccount> tenant_memory;
  AddressSpace* addresses = nullptr;
  ExecutorFactory* executors = nullptr;
  RetiredExecutors* retired = nullptr;
  Clock* clock = nullptr;
};

// Locks: launch_mu_ orders what is said to the executor and is held across its round trips; mu_ guards the
// tables and is never held while anything blocks. launch_mu_ is taken first. Callbacks of the executor take
// mu_ only.
class SessionImpl final : public Session {
 public:
  // Starts the executor. The factory's errors.
  static absl::StatusOr<std::shared_ptr<SessionImpl>> Create(const SessionImplOptions& options);
  ~SessionImpl() override;

  const std::string& id() const override { return options_.id; }
  const std::string& tenant() const override { return options_.tenant; }
  const std::string& device() const override { return options_.device; }
  const device::DeviceInfo& device_info() const override { return info_; }
  absl::Duration lease() const override { return options_.lease; }
  uint64_t memory_limit() const override { return options_.memory_limit; }

  absl::StatusOr<std::vector<TensorInfo>> Allocate(absl::Span<const TensorSpec> specs) override;
  absl::Status Free(absl::Span<const std::string> tensors) override;
  absl::StatusOr<TensorInfo> GetTensor(absl::string_view tensor) const override;
  std::vector<TensorInfo> ListTensors() const override;
  absl::Status Write(absl::string_view tensor, uint64_t offset, absl::Span<const char> data) override;
  absl::Status Read(absl::string_view tensor, uint64_t offset, absl::Span<char> data) const override;
  absl::Status Fill(absl::string_view tensor, uint64_t offset, uint64_t bytes,
                    absl::string_view pattern) override;
  absl::Status Copy(absl::string_view source, uint64_t source_offset, absl::string_view destination,
                    uint64_t destination_offset, uint64_t bytes) override;
  absl::StatusOr<TensorInfo> Import(MemoryImport memory) override;
  absl::StatusOr<DescriptorExport> ExportDescriptors(absl::Span<const std::string> tensors) const override;
  absl::StatusOr<StagingInfo> CreateStaging(uint64_t bytes) override;
  absl::Status FreeStaging(absl::string_view staging) override;
  absl::Status Transfer(absl::string_view staging, absl::Span<const StagingMove> moves,
                        TransferDirection direction) override;
  absl::StatusOr<std::string> AddKernel(std::shared_ptr<const CompiledKernel> kernel) override;
  absl::StatusOr<std::shared_ptr<const CompiledKernel>> FindKernel(absl::string_view kernel) const override;
  absl::Status ReleaseKernel(absl::string_view kernel) override;
  absl::StatusOr<device::KernelAttributes> PrepareKernel(absl::string_view kernel) override;
  absl::StatusOr<uint64_t> Launch(const SessionLaunch& launch,
                                  std::function<void(LaunchResult)> done) override;
  absl::StatusOr<uint64_t> Benchmark(const SessionLaunch& launch, uint32_t warmup,
                                     std::function<void(LaunchResult)> done) override;
  void Synchronize(std::function<void(SynchronizeResult)> done) override;
  absl::Status WaitForLaunches(absl::Duration timeout) const override;
  absl::Status WaitForRoom(absl::Duration timeout) const override;
  SessionStatistics statistics() const override;

  // For the registry. Use renews the lease when it ends, and nothing expires while it lasts.
  void BeginUse();
  void EndUse();
  // When the lease runs out: InfiniteFuture while the session is in use.
  absl::Time expiry() const;
  // New launches are UNAVAILABLE kDraining.
  void Drain();
  // Ends it: every launch is CANCELLED, all memory is returned. May be called again.
  void Close();

 private:
  struct PendingLaunch {
    bool observed = false;
    std::string kernel_name;
    std::function<void(LaunchResult)> done;
  };
  struct WaitingSynchronize {
    uint64_t target = 0;
    std::function<void(SynchronizeResult)> done;
  };
  // Calls to make once mu_ is not held any more.
  using Calls = std::vector<std::function<void()>>;

  explicit SessionImpl(const SessionImplOptions& options);

  absl::StatusOr<uint64_t> LaunchLocked(const SessionLaunch& launch, std::function<void(LaunchResult)> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  absl::StatusOr<std::vector<TensorInfo>> AllocateOnDevice(absl::Span<const TensorSpec> specs);
  // One more arena of device memory, made by the executor.
  absl::Status GrowOnDevice(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  // Runs `operation` on an executor that knows all of the session's memory; once more on a new one when it is
  // lost: what it does must not mind.
  absl::Status OnDevice(absl::FunctionRef<absl::Status(ExecutorControl&, StagedTransfer&)> operation) const;
  absl::Status OnDeviceLocked(absl::FunctionRef<absl::Status(ExecutorControl&, StagedTransfer&)> operation)
      const ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  // An executor that knows all of the session's memory.
  absl::Status ReadyExecutor() ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  absl::StatusOr<std::shared_ptr<SharedStaging>> FindStaging(absl::string_view handle) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives the area to the executor that is there now, unless it has it; why its driver did not register it.
  absl::StatusOr<std::string> AttachStaging(SharedStaging& area);
  absl::Status TransferOnce(SharedStaging& area, absl::Span<const StagingMove> moves,
                            absl::Span<const std::shared_ptr<const Tensor>> tensors,
                            TransferDirection direction);
  // Checks the launch, gives it its number and puts it among the pending ones.
  absl::Status Enqueue(const SessionLaunch& launch, const SessionKernel& kernel, ExecutorLaunch* out,
                       std::function<void(LaunchResult)> done, bool* uses_foreign)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_, mu_);
  // binding_.Prepare, and what it means for the statistics.
  absl::Status PrepareExecutor(const std::vector<MemoryChange>& changes, const std::vector<uint64_t>& unloads,
                               SessionKernel* kernel) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  // Undoes Enqueue.
  void TakeBack(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(launch_mu_);
  void OnDone(uint64_t sequence, ExecutorLaunchResult result);
  void CollectSynchronized(Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  SynchronizeResult TakeSynchronizeResult(uint64_t target) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckOpen() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<SessionKernel>> FindKernelLocked(absl::string_view kernel) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Launches up to this one are done.
  uint64_t Completed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status WaitUntilDone(uint64_t target, absl::Duration timeout) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The tensor, once the launches queued before are done and the range is checked.
  absl::StatusOr<std::shared_ptr<const Tensor>> Acquire(absl::string_view handle, uint64_t offset,
                                                        uint64_t bytes) const;
  absl::StatusOr<std::shared_ptr<const Tensor>> FindRange(absl::string_view handle, uint64_t offset,
                                                          uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const SessionImplOptions options_;
  const absl::Time opened_;
  MemoryAccount memory_;
  device::DeviceInfo info_;  // written by Create

  std::atomic<int> in_use_{0};
  std::atomic<int64_t> last_used_ns_{0};  // of the clock
  std::atomic<bool> draining_{false};

  // Reading a tensor of device memory talks to the executor too, and may have to replace it.
  mutable Mutex launch_mu_;
  mutable ExecutorBinding binding_ ABSL_GUARDED_BY(launch_mu_);
  mutable StagedTransfer staging_ ABSL_GUARDED_BY(launch_mu_);

  mutable Mutex mu_ ABSL_ACQUIRED_AFTER(launch_mu_);
  mutable CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  mutable std::optional<TensorTable> tensors_ ABSL_GUARDED_BY(mu_);  // gone once closed
  std::unordered_map<std::string, std::shared_ptr<SharedStaging>> staging_areas_ ABSL_GUARDED_BY(mu_);
  uint64_t next_staging_ ABSL_GUARDED_BY(mu_) = StagedTransfer::kArea + 1;
  std::unordered_map<std::string, std::shared_ptr<SessionKernel>> kernels_ ABSL_GUARDED_BY(mu_);
  std::map<const CompiledKernel*, std::shared_ptr<SessionKernel>> kernel_by_compiled_ ABSL_GUARDED_BY(mu_);
  mutable std::vector<uint64_t> unloads_ ABSL_GUARDED_BY(mu_);  // kernels the executor may forget
  uint64_t next_kernel_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t last_sequence_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, PendingLaunch> pending_ ABSL_GUARDED_BY(mu_);
  std::vector<WaitingSynchronize> synchronizes_ ABSL_GUARDED_BY(mu_);
  std::optional<LaunchResult> first_fault_ ABSL_GUARDED_BY(mu_);  // since the last Synchronize
  std::string printed_ ABSL_GUARDED_BY(mu_);
  mutable uint64_t restarts_ ABSL_GUARDED_BY(mu_) = 0;
  mutable int64_t executor_pid_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_SESSION_IMPL_H_
