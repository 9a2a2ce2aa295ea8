#include "server/device/fake_device.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/device/memory_check.h"
#include "server/device/shared_memory.h"

namespace trun::device {
namespace {

struct Range {
  uint64_t address = 0;
  uint64_t bytes = 0;
};
using Ranges = std::map<uint64_t, Range>;  // by id

class FakeKernel final : public Kernel {
 public:
  const KernelAttributes& attributes() const override { return attributes_; }
  KernelAttributes attributes_;
  std::string operation;
};

class FakeModule final : public Module {
 public:
  absl::StatusOr<const Kernel*> GetKernel(absl::string_view name) const override {
    if (name.empty() && kernels.size() != 1)
      return InvalidArgument(Reason::kArgument, "not exactly one kernel");
    for (const FakeKernel& kernel : kernels) {
      if (name.empty() || kernel.attributes_.name == name) return &kernel;
    }
    return NotFound(Reason::kArgument, absl::StrCat("no kernel '", name, "'"));
  }
  std::deque<FakeKernel> kernels;
};

class FakeArena final : public Arena {
 public:
  FakeArena(uint64_t address, uint64_t bytes) : address_(address), bytes_(bytes) {}
  ~FakeArena() override { munmap(reinterpret_cast<void*>(address_), bytes_); }
  uint64_t address() const override { return address_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  const uint64_t address_;
  const uint64_t bytes_;
};

uint64_t LoadWord(const std::vector<std::byte>& bytes, const ParameterLayout& layout) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + layout.offset, std::min<size_t>(layout.bytes, 8));
  return value;
}

class FakeStream final : public Stream {
 public:
  explicit FakeStream(std::function<Ranges()> ranges)
      : ranges_(std::move(ranges)), thread_([this] { Loop(); }) {}
  ~FakeStream() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      wake_.SignalAll();
    }
    thread_.join();
  }

  void Launch(const LaunchRequest& request, Done done) override {
    LaunchOutcome refused;
    if (request.parameters.size() != request.kernel->attributes().parameter_bytes) {
      refused.status = InvalidArgument(Reason::kArgument, "parameters of the wrong size");
    } else if (request.dimensions.grid[0] == 0) {
      refused.status = InvalidArgument(Reason::kLaunchShape, "a grid of zero");
    }
    if (!refused.status.ok()) return done(std::move(refused));
    MutexLock lock(&mu_);
    queue_.push_back({static_cast<const FakeKernel*>(request.kernel),
                      request.dimensions,
                      request.deadline,
                      {request.parameters.begin(), request.parameters.end()},
                      ranges_(),
                      std::move(done)});
    wake_.SignalAll();
  }
  void Synchronize() override {
    MutexLock lock(&mu_);
    while (!queue_.empty() || running_) wake_.Wait(&mu_);
  }
  absl::Status Cancel() override {
    MutexLock lock(&mu_);
    for (Job& job : queue_) job.cancelled = true;
    if (running_) cancel_running_ = true;
    wake_.SignalAll();
    return absl::OkStatus();
  }

 private:
  struct Job {
    const FakeKernel* kernel;
    LaunchDimensions dimensions;
    absl::Duration deadline;
    std::vector<std::byte> parameters;
    Ranges ranges;
    Done done;
    bool cancelled = false;
  };

  void Loop() {
    while (true) {
      Job job;
      {
        MutexLock lock(&mu_);
        while (queue_.empty() && !stopping_) wake_.Wait(&mu_);
        if (queue_.empty()) return;
        job = std::move(queue_.front());
        queue_.pop_front();
        running_ = true;
        cancel_running_ = job.cancelled;
      }
      LaunchOutcome outcome = Run(job);
      job.done(std::move(outcome));
      MutexLock lock(&mu_);
      running_ = false;
      wake_.SignalAll();
    }
  }

  bool WaitForCancel(absl::Duration deadline) {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    MutexLock lock(&mu_);
    while (!cancel_running_ && std::chrono::steady_clock::now() < until) wake_.WaitUntil(&mu_, until);
    return cancel_running_;
  }

  // Null outside the allocations, with the fault filled in.
  char* At(const Job& job, uint64_t address, uint32_t bytes, LaunchOutcome* outcome) {
    for (const auto& [id, range] : job.ranges) {
      if (address >= range.address && address + bytes <= range.address + range.bytes) {
        return reinterpret_cast<char*>(address);
      }
      if (address >= range.address) {
        outcome->fault.nearest_allocation = id;
        outcome->fault.nearest_allocation_offset = static_cast<int64_t>(address - range.address);
        outcome->fault.nearest_allocation_bytes = range.bytes;
      }
    }
    outcome->status = FailedPrecondition(Reason::kIllegalAddress, absl::StrCat("no allocation at ", address));
    outcome->fault.instruction = "store";
    outcome->fault.address = address;
    outcome->fault.access_bytes = bytes;
    return nullptr;
  }

  LaunchOutcome Run(const Job& job) {
    LaunchOutcome outcome;
    outcome.statistics = {absl::Microseconds(1), 7};
    if (job.cancelled) {
      outcome.status = MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "cancelled before it ran");
      return outcome;
    }
    const std::string& operation = job.kernel->operation;
    const auto& layouts = job.kernel->attributes().parameters;
    if (operation == "abort") std::abort();
    if (operation == "print")
      outcome.printed = absl::StrCat("hello from ", job.kernel->attributes().name, "\n");
    if (operation == "lose") {
      outcome.status = FailedPrecondition(Reason::kIllegalAddress, "the context is gone");
      outcome.context_lost = true;
    } else if (operation == "hang") {
      outcome.status =
          WaitForCancel(job.deadline)
              ? MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "cancelled while it ran")
              : DeadlineExceeded(Reason::kHungKernel, "the kernel hangs");
    } else if (operation == "store") {
      const uint64_t base = LoadWord(job.parameters, layouts[0]);
      const uint32_t value = static_cast<uint32_t>(LoadWord(job.parameters, layouts[1]));
      for (uint32_t i = 0; i < job.dimensions.grid[0]; ++i) {
        char* const to = At(job, base + 4 * i, 4, &outcome);
        if (to == nullptr) {
          outcome.fault.program = {i, 0, 0};
          break;
        }
        std::memcpy(to, &value, 4);
      }
    } else if (operation == "zero") {
      char* const scratch = At(job, LoadWord(job.parameters, layouts.back()), 64, &outcome);
      if (scratch != nullptr && std::count(scratch, scratch + 64, '\0') != 64) {
        outcome.status = FailedPrecondition(Reason::kDeviceAssert, "scratch is not zero");
      }
      if (scratch != nullptr) std::memset(scratch, 1, 64);
    }
    return outcome;
  }

  const std::function<Ranges()> ranges_;
  Mutex mu_;
  CondVar wake_;
  std::deque<Job> queue_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  bool cancel_running_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

class FakeDevice final : public Device {
 public:
  FakeDevice() {
    info_.name = "fake device";
    info_.target.arch = 80;
    info_.memory_bytes = uint64_t{1} << 30;
    info_.multiprocessors = 1;
    info_.max_shared_bytes = 100 << 10;
  }
  const DeviceInfo& info() const override { return info_; }

  absl::StatusOr<std::unique_ptr<Module>> LoadModule(absl::string_view image) override {
    auto module = std::make_unique<FakeModule>();
    uint32_t line_number = 0;
    for (absl::string_view line : absl::StrSplit(image, '\n')) {
      ++line_number;
      std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.empty()) continue;
      if (words[0] == "unsupported") {
        return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedInstruction,
                         "an unknown instruction",
                         {{"line", absl::StrCat(line_number)}, {"instruction", "unsupported"}});
      }
      if (words.size() < 2) {
        return InvalidArgument(Reason::kInvalidIr, "a kernel needs an operation",
                               {{"line", absl::StrCat(line_number)}, {"column", "1"}});
      }
      FakeKernel& kernel = module->kernels.emplace_back();
      kernel.attributes_.name = words[0];
      kernel.operation = words[1];
      for (size_t i = 2; i < words.size(); ++i) {
        uint32_t bytes = 0;
        if (!absl::SimpleAtoi(words[i], &bytes) || bytes == 0 || bytes > 64) {
          return InvalidArgument(Reason::kInvalidIr, "a parameter of no size",
                                 {{"line", absl::StrCat(line_number)}});
        }
        const uint32_t align = std::min<uint32_t>(bytes, 8);
        const uint32_t offset = (kernel.attributes_.parameter_bytes + align - 1) / align * align;
        kernel.attributes_.parameters.push_back({offset, bytes, align});
        kernel.attributes_.parameter_bytes = offset + bytes;
      }
    }
    return std::unique_ptr<Module>(std::move(module));
  }

  absl::StatusOr<UniqueFd> CreateMemory(uint64_t bytes) override { return CreateSealedMemory(bytes); }

  absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd& fd, uint64_t bytes,
                                                  uint64_t address) override {
    struct stat facts{};
    if (fstat(fd.get(), &facts) != 0 || static_cast<uint64_t>(facts.st_size) < bytes ||
        (fcntl(fd.get(), F_GET_SEALS) & F_SEAL_SHRINK) == 0) {
      return InvalidArgument(Reason::kArgument, "an arena's descriptor is too short or not sealed");
    }
    void* const at = mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED_NOREPLACE, fd.get(), 0);
    if (at == MAP_FAILED && errno == EEXIST) {
      return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument, "something is mapped there");
    }
    if (at == MAP_FAILED) return FromErrno(errno, "mapping an arena", Reason::kOutOfMemory);
    {
      MutexLock lock(&mu_);
      arenas_[address] = bytes;
    }
    return std::unique_ptr<Arena>(std::make_unique<FakeArena>(address, bytes));
  }

  absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) override {
    MutexLock lock(&mu_);
    for (const auto& [other, range] : ranges_) {
      if (other == id || (address < range.address + range.bytes && range.address < address + bytes)) {
        return InvalidArgument(Reason::kArgument, "an allocation that overlaps a live one");
      }
    }
    ranges_[id] = {address, bytes};
    return absl::OkStatus();
  }
  absl::Status RemoveAllocation(uint64_t id) override {
    MutexLock lock(&mu_);
    return ranges_.erase(id) == 1 ? absl::OkStatus() : NotFound(Reason::kArgument, "no such allocation");
  }

  // Memory is mapped where its address says: the arenas are all that may be touched.
  absl::Status WriteMemory(uint64_t address, absl::Span<const char> from) override {
    TRUN_RETURN_IF_ERROR(CheckArena(address, from.size()));
    std::memcpy(reinterpret_cast<char*>(address), from.data(), from.size());
    return absl::OkStatus();
  }
  absl::Status ReadMemory(uint64_t address, absl::Span<char> to) override {
    TRUN_RETURN_IF_ERROR(CheckArena(address, to.size()));
    std::memcpy(to.data(), reinterpret_cast<const char*>(address), to.size());
    return absl::OkStatus();
  }
  absl::Status FillMemory(uint64_t address, uint64_t bytes, absl::string_view pattern) override {
    TRUN_RETURN_IF_ERROR(CheckPattern(pattern, bytes));
    TRUN_RETURN_IF_ERROR(CheckArena(address, bytes));
    for (uint64_t i = 0; i < bytes; i += pattern.size())
      std::memcpy(reinterpret_cast<char*>(address + i), pattern.data(), pattern.size());
    return absl::OkStatus();
  }
  absl::Status CopyMemory(uint64_t to, uint64_t from, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(CheckDisjoint(to, from, bytes));
    TRUN_RETURN_IF_ERROR(CheckArena(to, bytes));
    TRUN_RETURN_IF_ERROR(CheckArena(from, bytes));
    std::memcpy(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from), bytes);
    return absl::OkStatus();
  }
  absl::Status PinMemory(absl::Span<char> memory) override { return absl::OkStatus(); }
  void UnpinMemory(absl::Span<char> memory) override {}
  absl::StatusOr<TensorMapBytes> EncodeTensorMap(const TensorMapFields& fields) const override {
    TensorMapBytes bytes = {};
    std::memcpy(bytes.data(), &fields.address, sizeof(fields.address));
    return bytes;
  }

  absl::StatusOr<std::unique_ptr<Stream>> CreateStream() override {
    return std::unique_ptr<Stream>(std::make_unique<FakeStream>([this] {
      MutexLock lock(&mu_);
      return ranges_;
    }));
  }
  absl::Status SetChecks(const CheckOptions& checks) override {
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnspecified, "the fake has no such checks");
  }

 private:
  // Arenas stay known when they are unmapped: no test touches one then.
  absl::Status CheckArena(uint64_t address, uint64_t bytes) {
    MutexLock lock(&mu_);
    const auto next = arenas_.upper_bound(address);
    if (next == arenas_.begin()) return NotInAnArena(address, bytes);
    const auto& [begin, size] = *std::prev(next);
    return address - begin <= size && bytes <= size - (address - begin) ? absl::OkStatus()
                                                                        : NotInAnArena(address, bytes);
  }

  DeviceInfo info_;
  Mutex mu_;
  std::map<uint64_t, uint64_t> arenas_ ABSL_GUARDED_BY(mu_);
  Ranges ranges_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<Device> CreateFakeDevice() { return std::make_unique<FakeDevice>(); }

}  // namespace trun::device
