// Executors that run nothing: for tests of what stands above the seam, faults included.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_FAKE_EXECUTOR_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_FAKE_EXECUTOR_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "server/executor/control/executor_control.h"

namespace trun {

// What the executors of one FakeExecutorFactory have in common; a test turns its knobs. Thread-safe.
class FakeExecutors {
 public:
  struct Range {
    uint64_t address = 0;
    uint64_t bytes = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };
  // What one launch does. It may look at the allocations it sees (launch_allocations) and at the memory
  // behind `launch`'s addresses (At).
  using Behaviour =
      std::function<ExecutorLaunchResult(const ExecutorLaunch& launch, FakeExecutors* executors)>;

  FakeExecutors();

  // A kernel whose image is `image`.
  void SetKernel(absl::string_view image, device::KernelAttributes attributes, Behaviour behaviour);
  void set_create_status(absl::Status status);  // of the next Creates
  // Executors from now on have memory that only they can touch, as a GPU's.
  void UseDeviceMemory();
  // Memory of another process that MapForeign finds by `handle`.
  void AddForeign(const std::string& handle, const UniqueFd& memory, uint64_t bytes);
  void RefuseToRegister(std::string why);  // of MapStaging
  int staging_areas() const;               // of the newest executor
  // While held, transfers move their bytes and are not answered.
  void HoldTransfers();
  void AwaitHeldTransfer();
  // With `status`, where it is an error, in place of their own.
  void ReleaseTransfers(const absl::Status& status = absl::OkStatus());
  // While held, launches queue up and none is done.
  void Hold();
  void Release();
  // For Behaviours that hang: blocks for `timeout`, or until the executor that runs this launch is destroyed,
  // which is true.
  bool AwaitEnd(absl::Duration timeout);
  // The newest executor dies: its queued launches fail as the contract says, its health is kExecutorLost.
  void Kill();

  // The host's address of a device address that a live executor maps; null outside the arenas.
  char* At(uint64_t address, uint64_t bytes);
  std::map<uint64_t, Range> allocations() const;  // of the newest executor, by id
  // Those there were when the launch that runs now was queued; for Behaviours.
  std::map<uint64_t, Range> launch_allocations() const;
  std::map<uint64_t, Range> arenas() const;
  std::vector<ExecutorLaunch> launches() const;  // all that ran, oldest first
  int created() const;
  int live() const;
  int loads() const;

 private:
  friend class FakeExecutor;
  friend class FakeExecutorFactory;
  struct State;
  std::shared_ptr<State> state_;
};

class FakeExecutorFactory final : public ExecutorFactory {
 public:
  explicit FakeExecutorFactory(FakeExecutors* executors) : executors_(executors) {}
  absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view device,
                                                          absl::string_view session) override;
  std::vector<DeviceDescription> Devices() const override;

 private:
  FakeExecutors* const executors_;
};

// "fake:0": sm_80, 48 KiB of shared memory, grids up to 1000 × 100 × 100.
device::DeviceInfo FakeExecutorDeviceInfo();

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_FAKE_EXECUTOR_H_
