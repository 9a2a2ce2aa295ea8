#include "server/device/cuda/cuda_stream.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"
#include "server/device/launch_check.h"

namespace trun::device {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Fewer than the driver queues before a launch call blocks: it never does under our lock.
constexpr size_t kMaxInFlight = 256;
constexpr size_t kProgressBytes = 4096;
// Short kernels are waited for on the processor, longer ones with sleeps that grow to this.
constexpr std::chrono::microseconds kSpin(200);
constexpr std::chrono::microseconds kLongestSleep(200);
constexpr int kLooksBetweenQueries = 256;
// How long a launch that others may overlap waits for one before the GPU is told to say when it is done.
constexpr std::chrono::microseconds kLinger(50);

absl::Status LostBefore() {
  return MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                   "an earlier launch ended this device context; this launch did not run");
}

LaunchOutcome Failed(absl::Status status) {
  LaunchOutcome outcome;
  outcome.fault.message = std::string(status.message());
  outcome.status = std::move(status);
  return outcome;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::Create(const std::shared_ptr<CudaContext>& context) {
  std::unique_ptr<CudaStream> stream(new CudaStream(context));
  TRUN_RETURN_IF_ERROR(stream->Open());
  stream->thread_ = std::thread([raw = stream.get()] { raw->Loop(); });
  return stream;
}

absl::Status CudaStream::Open() {
  const Driver& driver = context_->driver();
  TRUN_RETURN_IF_ERROR(context_->Enter());
  TRUN_RETURN_IF_ERROR(
      context_->Check(driver.cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "making a stream"));
  void* page = nullptr;
  TRUN_RETURN_IF_ERROR(context_->Check(
      driver.cuMemHostAlloc(&page, kProgressBytes, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE),
      "sharing a page of the host with the GPU"));
  progress_ = static_cast<uint64_t*>(page);
  *progress_ = 0;
  return context_->Check(driver.cuMemHostGetDevicePointer(&progress_address_, page, 0),
                         "asking for the address of a shared page");
}

CudaStream::~CudaStream() {
  {
    MutexLock lock(&mu_);
    closing_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
  if (!context_->Enter().ok()) return;  // what is left goes with the process
  const Driver& driver = context_->driver();
  MutexLock lock(&mu_);
  for (const CUevent event : events_) driver.cuEventDestroy(event);
  if (progress_ != nullptr) driver.cuMemFreeHost(progress_);
  if (stream_ != nullptr) driver.cuStreamDestroy(stream_);
}

uint64_t CudaStream::Progress() const {
  return std::atomic_ref<uint64_t>(*progress_).load(std::memory_order_acquire);
}

void CudaStream::Launch(const LaunchRequest& request, Done done) {
  if (request.kernel == nullptr)
    return done(Failed(InvalidArgument(Reason::kArgument, "no kernel was given")));
  const auto& kernel = static_cast<const CudaKernel&>(*request.kernel);
  absl::Status status =
      CheckLaunch(context_->info(), kernel.attributes(), kernel.required_cluster(), request);
  if (!status.ok()) return done(Failed(std::move(status)));
  Entry entry;
  entry.kernel = &kernel;
  entry.dimensions = request.dimensions;
  entry.parameters.assign(request.parameters.begin(), request.parameters.end());
  entry.deadline = std::clamp(request.deadline, absl::ZeroDuration(), absl::Hours(24 * 365));
  entry.may_overlap =
      request.dimensions.programmatic_dependent_launch && !request.own_time && !kernel.prints();
  entry.done = std::move(done);
  MutexLock lock(&mu_);
  queue_.push_back(std::move(entry));
  ++launched_;
  SubmitWhatMay();
  changed_.SignalAll();
}

void CudaStream::Synchronize() {
  MutexLock lock(&mu_);
  const uint64_t until = launched_;
  while (finished_ < until) changed_.Wait(&mu_);
}

absl::Status CudaStream::Cancel() {
  return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnspecified,
                   "a GPU cannot stop a kernel: end the process");
}

// A launch that prints runs alone: it goes when it is the first, and nothing goes behind it.
void CudaStream::SubmitWhatMay() {
  while (in_flight_ < queue_.size() && in_flight_ < kMaxInFlight) {
    Entry& next = queue_[in_flight_];
    if (in_flight_ > 0 && (next.kernel->prints() || queue_[in_flight_ - 1].kernel->prints())) return;
    next.refused = Submit(&next);
    next.submitted = true;
    ++in_flight_;
  }
}

absl::Status CudaStream::TakeEvents(Entry* entry) {
  for (CUevent* const event : {&entry->begin, &entry->end}) {
    if (!events_.empty()) {
      *event = events_.back();
      events_.pop_back();
      continue;
    }
    TRUN_RETURN_IF_ERROR(
        context_->Check(context_->driver().cuEventCreate(event, CU_EVENT_DEFAULT), "making an event"));
  }
  return absl::OkStatus();
}

absl::Status CudaStream::Submit(Entry* entry) {
  const Driver& driver = context_->driver();
  if (!entry->may_overlap) Mark(in_flight_);
  absl::Status ready = context_->Enter().ok() ? TakeEvents(entry) : LostBefore();
  if (!ready.ok()) {
    Mark(in_flight_);  // those that are not told of lie side by side
    return ready;
  }
  CUresult result = CUDA_SUCCESS;
  entry->timed = unmarked_ == 0;
  if (entry->timed) result = driver.cuEventRecord(entry->begin, stream_);
  if (result == CUDA_SUCCESS) result = LaunchKernel(entry);
  if (result == CUDA_SUCCESS) {
    ++unmarked_;
    if (!entry->may_overlap) Mark(in_flight_ + 1);
    return entry->refused;
  }
  Mark(in_flight_);
  // The error of an earlier launch may come out here; that launch is named when its turn comes.
  if (EndsContext(result) && in_flight_ > 0) return LostBefore();
  return context_->Check(result, absl::StrCat("launching '", entry->kernel->attributes().name, "'"));
}

void CudaStream::Mark(size_t until) {
  if (unmarked_ == 0) return;
  const Driver& driver = context_->driver();
  const Entry& last = queue_[until - 1];
  const uint64_t number = ++last_number_;
  CUresult result = CUDA_SUCCESS;
  if (context_->Enter().ok()) {
    result = driver.cuEventRecord(last.end, stream_);
    if (result == CUDA_SUCCESS) {
      result = driver.cuStreamWriteValue64(stream_, progress_address_, number, CU_STREAM_WRITE_VALUE_DEFAULT);
    }
  }
  for (size_t i = until - unmarked_; i < until; ++i) {
    Entry& entry = queue_[i];
    entry.number = number;
    entry.finished = last.end;
    entry.overlapping = unmarked_;
    // It runs. An error that ends the context may be its own: that is found out when its turn comes.
    if (result != CUDA_SUCCESS && !EndsContext(result)) {
      entry.refused =
          context_->Check(result, absl::StrCat("launching '", entry.kernel->attributes().name, "'"));
    }
  }
  unmarked_ = 0;
}

void CudaStream::Linger() {
  const SteadyClock::time_point until = SteadyClock::now() + kLinger;
  while (unmarked_ == in_flight_ && !closing_ && SteadyClock::now() < until) changed_.WaitUntil(&mu_, until);
  if (unmarked_ == in_flight_) Mark(in_flight_);
}

CUresult CudaStream::LaunchKernel(Entry* entry) {
  const LaunchDimensions& d = entry->dimensions;
  std::array<CUlaunchAttribute, 4> attributes = {};
  unsigned count = 0;
  if (d.cluster[0] * d.cluster[1] * d.cluster[2] > 1) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count++].value.clusterDim = {d.cluster[0], d.cluster[1], d.cluster[2]};
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
    attributes[count++].value.clusterSchedulingPolicyPreference = CU_CLUSTER_SCHEDULING_POLICY_SPREAD;
  }
  if (d.cooperative) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attributes[count++].value.cooperative = 1;
  }
  if (d.programmatic_dependent_launch) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[count++].value.programmaticStreamSerializationAllowed = 1;
  }
  CUlaunchConfig config = {};
  config.gridDimX = d.grid[0];
  config.gridDimY = d.grid[1];
  config.gridDimZ = d.grid[2];
  config.blockDimX = d.block[0];
  config.blockDimY = d.block[1];
  config.blockDimZ = d.block[2];
  config.sharedMemBytes = d.dynamic_shared_bytes;
  config.hStream = stream_;
  config.attrs = attributes.data();
  config.numAttrs = count;
  size_t bytes = entry->parameters.size();
  std::array<void*, 5> packed = {CU_LAUNCH_PARAM_BUFFER_POINTER, entry->parameters.data(),
                                 CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  return context_->driver().cuLaunchKernelEx(&config, entry->kernel->function(), nullptr,
                                             bytes > 0 ? packed.data() : nullptr);
}

void CudaStream::Loop() {
  mu_.Lock();
  while (true) {
    while (queue_.empty() && !closing_) changed_.Wait(&mu_);
    if (queue_.empty()) break;
    SubmitWhatMay();
    if (unmarked_ > 0 && unmarked_ == in_flight_) Linger();
    Entry& head = queue_.front();  // stays where it is: others are only added behind it
    mu_.Unlock();
    LaunchOutcome outcome = Await(head);
    mu_.Lock();
    for (const CUevent event : {head.begin, head.end}) {
      if (event != nullptr) events_.push_back(event);
    }
    const Done done = std::move(head.done);
    queue_.pop_front();
    --in_flight_;
    SubmitWhatMay();
    mu_.Unlock();
    done(std::move(outcome));
    mu_.Lock();
    ++finished_;
    changed_.SignalAll();
  }
  mu_.Unlock();
}

LaunchOutcome CudaStream::Await(const Entry& entry) {
  if (lost_told_) return Failed(LostBefore());
  if (!entry.refused.ok()) {
    LaunchOutcome outcome = Failed(entry.refused);
    // Nothing before it ended the context, as far as is known, and yet it is gone.
    if (context_->lost()) outcome.context_lost = lost_told_ = true;
    return outcome;
  }
  const Driver& driver = context_->driver();
  const SteadyClock::time_point begin = SteadyClock::now();
  const SteadyClock::time_point until = begin + absl::ToChronoNanoseconds(entry.deadline);
  std::chrono::microseconds sleep(5);
  while (Progress() < entry.number) {
    CUresult result = CUDA_ERROR_NOT_READY;
    for (int look = 0; look < kLooksBetweenQueries && Progress() < entry.number; ++look) {
    }
    if (Progress() >= entry.number) break;
    // Only the driver tells of a fault; it may have told another call already.
    if (context_->Enter().ok()) result = driver.cuEventQuery(entry.finished);
    if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY) result = context_->loss();
    if (result != CUDA_SUCCESS || context_->lost()) {
      if (Progress() >= entry.number) break;  // done before the context was lost to a later launch
      if (result == CUDA_SUCCESS) return Lost(entry, LostBefore());
      return Lost(entry,
                  context_->Check(result, absl::StrCat("kernel '", entry.kernel->attributes().name, "'")));
    }
    const SteadyClock::time_point now = SteadyClock::now();
    if (now >= until) {
      context_->MarkLost();
      return Lost(entry, DeadlineExceeded(Reason::kHungKernel,
                                          absl::StrCat("kernel '", entry.kernel->attributes().name,
                                                       "' did not end within its deadline of ",
                                                       absl::FormatDuration(entry.deadline))));
    }
    if (now - begin > kSpin) {
      std::this_thread::sleep_for(std::min<SteadyClock::duration>(sleep, until - now));
      sleep = std::min(2 * sleep, kLongestSleep);
    }
  }
  LaunchOutcome outcome;
  float milliseconds = 0;
  if (entry.timed && context_->Enter().ok() &&
      driver.cuEventElapsedTime(&milliseconds, entry.begin, entry.finished) == CUDA_SUCCESS) {
    outcome.statistics.device_time = absl::Milliseconds(milliseconds);
  }
  if (entry.kernel->prints() && context_->capture() != nullptr && context_->Enter().ok()) {
    driver.cuStreamSynchronize(stream_);  // the driver prints when it is waited for
    outcome.printed = context_->capture()->Take();
  }
  return outcome;
}

LaunchOutcome CudaStream::Lost(const Entry& entry, absl::Status status) {
  std::string printed;
  if (context_->capture() != nullptr) {
    // An assert is told on standard error once the context is waited for, which a fault has made quick; a
    // context with a kernel that hangs would be waited for in vain.
    if (GetReason(status) != Reason::kHungKernel) context_->driver().cuCtxSynchronize();
    printed = context_->capture()->Take();
  }
  lost_told_ = true;
  context_->MarkLost();
  if (entry.overlapping > 1) {
    status = Annotate(status, absl::StrCat("in this launch or in one of the ", entry.overlapping - 1,
                                           " that may overlap it (launch_pdl)"));
  }
  if (GetReason(status) == Reason::kDeviceAssert && !printed.empty()) {
    const absl::string_view said = absl::StripTrailingAsciiWhitespace(printed);
    status = Annotate(status, absl::StrCat("the kernel said: ", said.substr(0, 1024)));
  }
  LaunchOutcome outcome = Failed(std::move(status));
  outcome.context_lost = true;
  outcome.printed = std::move(printed);
  return outcome;
}

}  // namespace trun::device
