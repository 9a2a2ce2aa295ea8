// Launches on a CUDA device. Private to this room.
#ifndef TRUN_SERVER_DEVICE_CUDA_CUDA_STREAM_H_
#define TRUN_SERVER_DEVICE_CUDA_CUDA_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "server/device/cuda/context.h"
#include "server/device/cuda/cuda_module.h"
#include "server/device/device.h"

namespace trun::device {

// Launches go to the device as they come; a thread of the stream waits for them in their order, times them by
// events, and calls them done. After each launch the GPU writes its number into a page of the host: the last
// number there tells, even when the context is gone, which launch it was that ended it. A launch that passes
// its deadline, counted from when it could begin, is reported as hung and its context as lost: the process
// has to end.
//
// Launches with programmatic dependent launch that follow each other closely go to the GPU with nothing
// between them, so that they overlap as they ask to; they are done together, the first has the time of all,
// and a fault is the first's, which says so.
class CudaStream final : public Stream {
 public:
  // The driver's errors.
  static absl::StatusOr<std::unique_ptr<CudaStream>> Create(const std::shared_ptr<CudaContext>& context);
  ~CudaStream() override;

  void Launch(const LaunchRequest& request, Done done) override;
  void Synchronize() override;
  absl::Status Cancel() override;

 private:
  struct Entry {
    const CudaKernel* kernel = nullptr;
    LaunchDimensions dimensions;
    std::vector<std::byte> parameters;
    absl::Duration deadline;
    Done done;
    bool may_overlap = false;  // the launch before it, or the one behind it
    bool submitted = false;
    absl::Status refused;  // by the driver, when it was submitted
    // Launches that may overlap (programmatic dependent launch) end together: nothing lies between them on
    // the stream, so they have one number and one event, those of the last. 0: not known yet.
    uint64_t number = 0;         // that the GPU writes when it is done
    CUevent finished = nullptr;  // recorded then
    uint64_t overlapping = 1;    // launches that end together
    bool timed = false;          // `begin` was recorded: the first of them
    CUevent begin = nullptr;
    CUevent end = nullptr;
  };

  explicit CudaStream(const std::shared_ptr<CudaContext>& context) : context_(context) {}
  absl::Status Open();
  void Loop();
  void SubmitWhatMay() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Submit(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Has the GPU tell when the launches before queue_[until] that it does not tell of yet are done.
  void Mark(size_t until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives a launch that may overlap the first one a moment to come.
  void Linger() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  CUresult LaunchKernel(Entry* entry);
  absl::Status TakeEvents(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  LaunchOutcome Await(const Entry& entry);
  // The outcome of a launch that ended the context.
  LaunchOutcome Lost(const Entry& entry, absl::Status status);
  uint64_t Progress() const;

  const std::shared_ptr<CudaContext> context_;
  CUstream stream_ = nullptr;
  uint64_t* progress_ = nullptr;  // the number of the last launch that is done; the GPU writes it
  CUdeviceptr progress_address_ = 0;
  bool lost_told_ = false;  // the thread's: the launch that ended the context was named

  Mutex mu_;
  CondVar changed_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mu_);  // the first is the thread's while it waits for it
  size_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;     // entries at the front that were submitted
  size_t unmarked_ ABSL_GUARDED_BY(mu_) = 0;      // the last of those that were submitted
  uint64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t launched_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t finished_ ABSL_GUARDED_BY(mu_) = 0;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<CUevent> events_ ABSL_GUARDED_BY(mu_);  // free ones
  std::thread thread_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_CUDA_STREAM_H_
