// Staging memory of an executor, and the bytes that go through it: on threads of its own, so that neither the
// registration of memory with the driver nor a long copy holds up a launch.
#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_TRANSFER_QUEUE_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_TRANSFER_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "server/device/device.h"
#include "server/device/shared_memory.h"

namespace trun {

// Whoever else maps an area may write it at any time: its bytes are copied and never looked at.
//
// Map, Unmap and Transfer come from one thread; callbacks are called exactly once, from a thread of the queue
// or from its destructor, and must not block.
class TransferQueue {
 public:
  static constexpr size_t kMaxAreas = 256;

  // `device` outlives it.
  explicit TransferQueue(device::Device* device);
  // What has not begun is CANCELLED kCancelled; what runs is waited for.
  ~TransferQueue();
  TransferQueue(const TransferQueue&) = delete;
  TransferQueue& operator=(const TransferQueue&) = delete;

  // Maps a sealed memfd of at least `bytes` and registers it with the driver; `done` gets why the driver
  // refused, empty where it did not: transfers work either way. INVALID_ARGUMENT kArgument: the number is
  // taken, the descriptor is shorter than said or could shrink; RESOURCE_EXHAUSTED: the number of areas,
  // memory. `done` is not called then.
  absl::Status Map(uint64_t area, const UniqueFd& fd, uint64_t bytes, std::function<void(std::string)> done);
  // Once the transfers before it are done. NOT_FOUND kHandle.
  absl::Status Unmap(uint64_t area, std::function<void(absl::Status)> done);
  struct Range {
    uint64_t area = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t address = 0;  // on the device
    bool to_device = true;
  };
  // `done` gets the device's status. Transfers under way have no order. NOT_FOUND kHandle: no such area;
  // OUT_OF_RANGE kArgument: past its end.
  absl::Status Transfer(const Range& range, std::function<void(absl::Status)> done);

 private:
  struct Area {
    device::MappedMemory memory;
    bool ready = false;    // the driver was asked
    bool pinned = false;   // and took it
    uint32_t running = 0;  // transfers
  };
  struct Task {
    enum class Kind { kMap, kTransfer, kUnmap };
    Kind kind = Kind::kTransfer;
    std::shared_ptr<Area> area;
    Range range;
    std::function<void(std::string)> mapped;
    std::function<void(absl::Status)> done;
  };

  void Work();
  // The oldest task that may run now.
  bool TakeTask(Task* task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run(Task& task);
  void Add(Task task);

  device::Device* const device_;
  std::map<uint64_t, std::shared_ptr<Area>> areas_;  // the caller's thread's; Area's flags are mu_'s
  Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // started with the first area
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_TRANSFER_QUEUE_H_
