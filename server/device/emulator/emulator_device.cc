#include "server/device/emulator/emulator_device.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/debug/launch_watch.h"
#include "server/device/emulator/emulator_module.h"
#include "server/device/emulator/exec/launch_runner.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/memory/unwritten_memory.h"
#include "server/device/launch_check.h"
#include "server/device/memory_check.h"
#include "server/device/shared_memory.h"

namespace trun::device {
namespace {

struct Capability {
  int arch;
  uint32_t max_shared_bytes;  // CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"
};
constexpr Capability kCapabilities[] = {{75, 65536},  {80, 166912}, {86, 101376},
                                        {89, 101376}, {90, 232448}, {120, 101376}};

// What all parts of a device hold on to.
struct DeviceState {
  explicit DeviceState(int threads) : pool(threads), memory(std::make_shared<AllocationTable>()) {}
  DeviceInfo info;
  WorkerPool pool;
  std::shared_ptr<AllocationTable> memory;
  UnwrittenMemory unwritten;
  std::atomic<uint64_t> next_launch{1};
  Mutex mu;
  CheckOptions checks ABSL_GUARDED_BY(mu);
};

class EmulatorArena final : public Arena {
 public:
  EmulatorArena(std::shared_ptr<DeviceState> device, uint64_t address, uint64_t bytes)
      : device_(std::move(device)), address_(address), bytes_(bytes) {}
  ~EmulatorArena() override { device_->memory->RemoveMapping(address_); }
  uint64_t address() const override { return address_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<DeviceState> device_;
  const uint64_t address_;
  const uint64_t bytes_;
};

class EmulatorStream final : public Stream {
 public:
  explicit EmulatorStream(std::shared_ptr<DeviceState> device) : device_(std::move(device)) {
    thread_ = std::thread([this] { Loop(); });
  }

  ~EmulatorStream() override {
    {
      MutexLock lock(&mu_);
      closing_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }

  void Launch(const LaunchRequest& request, Done done) override {
    const auto refuse = [&done](absl::Status status) {
      LaunchOutcome outcome;
      outcome.fault.message = std::string(status.message());
      outcome.status = std::move(status);
      done(std::move(outcome));
    };
    if (request.kernel == nullptr) return refuse(InvalidArgument(Reason::kArgument, "no kernel was given"));
    const auto& kernel = static_cast<const EmulatorKernel&>(*request.kernel);
    absl::Status status =
        CheckLaunch(device_->info, kernel.program()->attributes, kernel.program()->required_cluster, request);
    if (!status.ok()) return refuse(std::move(status));
    CheckOptions checks = request.checks;
    {
      MutexLock lock(&device_->mu);
      checks.uninitialized |= device_->checks.uninitialized;
      checks.races |= device_->checks.races;
      checks.late_async |= device_->checks.late_async;
    }
    Queued queued;
    const bool watched = LaunchWatch::Wanted(checks, request.trace, request.observer.get());
    queued.program = watched ? kernel.instrumented() : kernel.program();
    queued.text = kernel.text();
    queued.launch = std::make_unique<device::Launch>();
    queued.launch->program = queued.program.get();
    queued.launch->checks = checks;
    queued.unwritten.assign(request.unwritten.begin(), request.unwritten.end());
    if (watched) {
      queued.watch = std::make_unique<LaunchWatch>(*queued.program, checks, request.trace, request.observer,
                                                   &device_->unwritten);
      queued.launch->instrument = queued.watch->instrument();
    }
    queued.launch->dimensions = request.dimensions;
    const auto* bytes = reinterpret_cast<const uint8_t*>(request.parameters.data());
    queued.launch->parameters.assign(bytes, bytes + request.parameters.size());
    queued.launch->memory = device_->memory->Snapshot();
    queued.launch->id = device_->next_launch.fetch_add(1);
    queued.deadline = std::clamp(request.deadline, absl::ZeroDuration(), absl::Hours(24 * 365));
    queued.done = std::move(done);
    MutexLock lock(&mu_);
    queued.number = ++launched_;
    queue_.push_back(std::move(queued));
    changed_.SignalAll();
  }

  void Synchronize() override {
    MutexLock lock(&mu_);
    const uint64_t until = launched_;
    while (finished_ < until) changed_.Wait(&mu_);
  }

  absl::Status Cancel() override {
    MutexLock lock(&mu_);
    cancelled_.store(launched_ + 1);
    return absl::OkStatus();
  }

 private:
  struct Queued {
    std::shared_ptr<const Program> program;
    std::shared_ptr<const std::string> text;
    std::unique_ptr<LaunchWatch> watch;  // null: nothing looks on
    std::unique_ptr<device::Launch> launch;
    std::vector<uint64_t> unwritten;  // allocations
    absl::Duration deadline;
    Done done;
    uint64_t number = 0;
  };

  void Loop() {
    mu_.Lock();
    for (;;) {
      while (queue_.empty() && !closing_) changed_.Wait(&mu_);
      if (queue_.empty()) break;
      Queued queued = std::move(queue_.front());
      queue_.pop_front();
      mu_.Unlock();
      LaunchOutcome outcome;
      if (cancelled_.load() > queued.number) {
        outcome.status =
            MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the launch was cancelled");
        outcome.fault.message = "the launch was cancelled";
      } else {
        LaunchLimits limits;
        limits.deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(queued.deadline);
        limits.cancelled = &cancelled_;
        limits.cancel_after = queued.number;
        if (queued.launch->checks.uninitialized) device_->unwritten.Vouch(queued.unwritten);
        outcome = RunLaunch(queued.launch.get(), limits, &device_->pool);
        if (queued.watch != nullptr) outcome.trace = queued.watch->TakeTrace();
        // What nobody looked on at may have written anything.
        if (!queued.launch->checks.uninitialized) device_->unwritten.MarkAllWritten();
      }
      queued.launch.reset();
      queued.watch.reset();
      queued.done(std::move(outcome));
      mu_.Lock();
      finished_ = queued.number;
      changed_.SignalAll();
    }
    mu_.Unlock();
  }

  const std::shared_ptr<DeviceState> device_;
  std::atomic<uint64_t> cancelled_{0};  // launches with a lower number end
  Mutex mu_;
  CondVar changed_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mu_);
  uint64_t launched_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t finished_ ABSL_GUARDED_BY(mu_) = 0;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

class EmulatorDevice final : public Device {
 public:
  explicit EmulatorDevice(std::shared_ptr<DeviceState> state) : state_(std::move(state)) {}

  const DeviceInfo& info() const override { return state_->info; }

  absl::StatusOr<std::unique_ptr<Module>> LoadModule(absl::string_view image) override {
    return LoadEmulatorModule(image, state_->info.target.arch, state_->memory);
  }

  absl::StatusOr<UniqueFd> CreateMemory(uint64_t bytes) override { return CreateSealedMemory(bytes); }

  absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd& fd, uint64_t bytes,
                                                  uint64_t address) override {
    if (bytes == 0 || address + bytes < address || address + bytes > kModuleBase) {
      return InvalidArgument(Reason::kArgument,
                             "an arena has to be of some bytes below the emulator's own windows");
    }
    struct stat info;
    if (!fd.valid() || fstat(fd.get(), &info) != 0)
      return FromErrno(errno, "the arena's descriptor", Reason::kArgument);
    if (static_cast<uint64_t>(info.st_size) < bytes) {
      return InvalidArgument(Reason::kArgument, absl::StrCat("the arena's descriptor has ", info.st_size,
                                                             " bytes, ", bytes, " are to be mapped"));
    }
    const int seals = fcntl(fd.get(), F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
      return InvalidArgument(Reason::kArgument, "the arena's descriptor is not sealed against shrinking");
    }
    void* host = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (host == MAP_FAILED) {
      return ResourceExhausted(Reason::kOutOfMemory,
                               absl::StrCat("an arena of ", bytes, " bytes could not be mapped"));
    }
    auto mapping = std::make_shared<HostMapping>(address, bytes, static_cast<uint8_t*>(host), true);
    TRUN_RETURN_IF_ERROR(state_->memory->AddMapping(std::move(mapping)));
    return std::unique_ptr<Arena>(new EmulatorArena(state_, address, bytes));
  }

  absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(state_->memory->Add(id, address, bytes));
    state_->unwritten.Add(id, address, bytes);
    return absl::OkStatus();
  }
  absl::Status RemoveAllocation(uint64_t id) override {
    state_->unwritten.Remove(id);
    return state_->memory->Remove(id);
  }

  absl::Status WriteMemory(uint64_t address, absl::Span<const char> from) override {
    TRUN_ASSIGN_OR_RETURN(const HostRange to, Find(address, from.size()));
    if (!from.empty()) std::memcpy(to.host, from.data(), from.size());
    state_->unwritten.MarkWritten(address, from.size());
    return absl::OkStatus();
  }
  absl::Status ReadMemory(uint64_t address, absl::Span<char> to) override {
    TRUN_ASSIGN_OR_RETURN(const HostRange from, Find(address, to.size()));
    if (!to.empty()) std::memcpy(to.data(), from.host, to.size());
    return absl::OkStatus();
  }
  absl::Status FillMemory(uint64_t address, uint64_t bytes, absl::string_view pattern) override {
    TRUN_RETURN_IF_ERROR(CheckPattern(pattern, bytes));
    TRUN_ASSIGN_OR_RETURN(const HostRange to, Find(address, bytes));
    for (uint64_t i = 0; i < bytes; i += pattern.size())
      std::memcpy(to.host + i, pattern.data(), pattern.size());
    state_->unwritten.MarkWritten(address, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyMemory(uint64_t to, uint64_t from, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(CheckDisjoint(to, from, bytes));
    TRUN_ASSIGN_OR_RETURN(const HostRange target, Find(to, bytes));
    TRUN_ASSIGN_OR_RETURN(const HostRange source, Find(from, bytes));
    if (bytes > 0) std::memcpy(target.host, source.host, bytes);
    state_->unwritten.MarkWritten(to, bytes);
    return absl::OkStatus();
  }
  absl::Status PinMemory(absl::Span<char> memory) override { return absl::OkStatus(); }
  void UnpinMemory(absl::Span<char> memory) override {}

  absl::StatusOr<TensorMapBytes> EncodeTensorMap(const TensorMapFields& fields) const override {
    if (state_->info.target.arch < 90) {
      return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                       absl::StrCat("tensor maps need sm_90; this is sm_", state_->info.target.arch));
    }
    TRUN_ASSIGN_OR_RETURN(const TensorMap map, TensorMapOf(fields));
    TensorMapBytes bytes;
    map.Encode(reinterpret_cast<uint8_t*>(bytes.data()));
    return bytes;
  }

  absl::StatusOr<std::unique_ptr<Stream>> CreateStream() override {
    return std::unique_ptr<Stream>(new EmulatorStream(state_));
  }

  absl::Status SetChecks(const CheckOptions& checks) override {
    MutexLock lock(&state_->mu);
    state_->checks = checks;
    return absl::OkStatus();
  }

 private:
  struct HostRange {
    uint8_t* host = nullptr;
    std::shared_ptr<const HostMapping> mapping;  // kept while the bytes move
  };
  absl::StatusOr<HostRange> Find(uint64_t address, uint64_t bytes) const {
    std::shared_ptr<const HostMapping> mapping = state_->memory->FindMapping(address, bytes);
    if (mapping == nullptr) return NotInAnArena(address, bytes);
    uint8_t* const host = mapping->host + (address - mapping->address);
    return HostRange{host, std::move(mapping)};
  }

  const std::shared_ptr<DeviceState> state_;
};

int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateEmulatorDevice(const EmulatorOptions& options) {
  const Capability* capability = nullptr;
  for (const Capability& row : kCapabilities) {
    if (row.arch == options.arch) capability = &row;
  }
  if (capability == nullptr) {
    return InvalidArgument(
        Reason::kUnsupportedTarget,
        absl::StrCat("the emulator has sm_75, 80, 86, 89, 90 and 120, not sm_", options.arch));
  }
  const int threads = std::clamp(options.threads > 0 ? options.threads : UsableCores(), 1, 256);
  auto state = std::make_shared<DeviceState>(threads);
  DeviceInfo& info = state->info;
  info.kind = DeviceKind::kEmulator;
  info.name = absl::StrCat("trun PTX emulator (sm_", options.arch, ")");
  info.target.arch = options.arch;
  info.memory_bytes = options.memory_bytes;
  if (info.memory_bytes == 0) {
    info.memory_bytes =
        static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE)) / 2;
  }
  info.multiprocessors = static_cast<uint32_t>(threads);
  info.max_shared_bytes = capability->max_shared_bytes;
  info.module_level = Level::kPtx;
  return std::unique_ptr<Device>(new EmulatorDevice(std::move(state)));
}

}  // namespace trun::device
