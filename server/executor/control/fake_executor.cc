#include "server/executor/control/fake_executor.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"

namespace trun {
namespace {

struct FakeKernel {
  device::KernelAttributes attributes;
  FakeExecutors::Behaviour behaviour;
};

}  // namespace

class FakeExecutor;

namespace {
thread_local const FakeExecutor* running = nullptr;  // whose thread this is
}  // namespace

struct FakeExecutors::State {
  struct MappedArena {
    Range range;
    std::shared_ptr<device::MappedMemory> memory;
  };

  mutable Mutex mu;
  CondVar ended;  // an executor left `executors`
  std::map<std::string, FakeKernel> kernels ABSL_GUARDED_BY(mu);
  absl::Status create_status ABSL_GUARDED_BY(mu);
  bool held ABSL_GUARDED_BY(mu) = false;
  bool host_memory ABSL_GUARDED_BY(mu) = true;
  std::string unregistered ABSL_GUARDED_BY(mu);
  int staging_areas ABSL_GUARDED_BY(mu) = 0;
  bool transfers_held ABSL_GUARDED_BY(mu) = false;
  CondVar transfer_held;
  std::vector<std::function<void(const absl::Status&)>> held_transfers ABSL_GUARDED_BY(mu);
  FakeExecutor* newest ABSL_GUARDED_BY(mu) = nullptr;
  std::vector<FakeExecutor*> executors ABSL_GUARDED_BY(mu);
  std::map<uint64_t, Range> allocations ABSL_GUARDED_BY(mu);
  std::map<uint64_t, Range> launch_allocations ABSL_GUARDED_BY(mu);
  std::map<uint64_t, MappedArena> arenas ABSL_GUARDED_BY(mu);
  std::map<std::string, std::shared_ptr<device::MappedMemory>> foreign ABSL_GUARDED_BY(mu);
  std::vector<ExecutorLaunch> launches ABSL_GUARDED_BY(mu);
  int created ABSL_GUARDED_BY(mu) = 0;
  int loads ABSL_GUARDED_BY(mu) = 0;
};

class FakeExecutor final : public ExecutorControl {
  static device::DeviceInfo InfoOf(FakeExecutors::State& state) {
    device::DeviceInfo info = FakeExecutorDeviceInfo();
    MutexLock lock(&state.mu);
    info.host_memory = state.host_memory;
    return info;
  }

 public:
  FakeExecutor(FakeExecutors* owner, std::shared_ptr<FakeExecutors::State> state)
      : owner_(owner), state_(std::move(state)), info_(InfoOf(*state_)), thread_([this] { Loop(); }) {}

  ~FakeExecutor() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      wake_.SignalAll();
    }
    {
      MutexLock lock(&state_->mu);
      std::erase(state_->executors, this);
      state_->ended.SignalAll();
      if (state_->newest == this) {
        state_->newest = nullptr;
        state_->allocations.clear();
        state_->arenas.clear();
      }
    }
    thread_.join();
  }

  const device::DeviceInfo& device_info() const override { return info_; }
  int64_t pid() const override { return 0; }
  absl::Status health() const override {
    MutexLock lock(&mu_);
    return health_;
  }
  void OnLost(std::function<void(absl::Status)> callback) override {
    MutexLock lock(&mu_);
    on_lost_ = std::move(callback);
    wake_.SignalAll();
  }

  absl::Status MapArena(uint64_t arena, const UniqueFd& fd, uint64_t bytes, uint64_t address) override {
    TRUN_RETURN_IF_ERROR(health());
    TRUN_ASSIGN_OR_RETURN(device::MappedMemory memory, device::MappedMemory::Map(fd, bytes));
    MutexLock lock(&state_->mu);
    for (const auto& [id, other] : state_->arenas) {
      if (id == arena ||
          (address < other.range.address + other.range.bytes && other.range.address < address + bytes)) {
        return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument, "something is mapped there");
      }
    }
    state_->arenas[arena] = {{address, bytes}, std::make_shared<device::MappedMemory>(std::move(memory))};
    return absl::OkStatus();
  }
  absl::Status UnmapArena(uint64_t arena) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    return state_->arenas.erase(arena) == 1 ? absl::OkStatus() : NotFound(Reason::kHandle, "no such arena");
  }
  // At an address that each executor has of its own.
  absl::StatusOr<uint64_t> MapForeign(uint64_t arena, absl::string_view handle, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    const auto it = state_->foreign.find(std::string(handle));
    if (it == state_->foreign.end() || bytes > it->second->bytes()) {
      return InvalidArgument(Reason::kArgument, "no such memory of another process");
    }
    const uint64_t address = 0x7000'0000'0000 + (static_cast<uint64_t>(state_->created) << 32);
    state_->arenas[arena] = {{address, bytes}, it->second};
    return address;
  }
  absl::StatusOr<UniqueFd> CreateArena(uint64_t arena, uint64_t bytes, uint64_t address) override {
    TRUN_ASSIGN_OR_RETURN(UniqueFd memory, device::CreateSealedMemory(bytes));
    TRUN_RETURN_IF_ERROR(MapArena(arena, memory, bytes, address));
    return memory;
  }
  void MapStaging(uint64_t area, const UniqueFd& fd, uint64_t bytes,
                  std::function<void(absl::StatusOr<std::string>)> done) override {
    absl::Status status = health();
    absl::StatusOr<device::MappedMemory> memory = device::MappedMemory::Map(fd, bytes);
    if (status.ok()) status = memory.status();
    if (!status.ok()) return done(std::move(status));
    staging_[area] = *std::move(memory);
    std::string unregistered;
    {
      MutexLock lock(&state_->mu);
      if (state_->newest == this) ++state_->staging_areas;
      unregistered = state_->unregistered;
    }
    done(std::move(unregistered));
  }
  void UnmapStaging(uint64_t area, std::function<void(absl::Status)> done) override {
    if (staging_.erase(area) == 0) return done(NotFound(Reason::kHandle, "no such staging area"));
    {
      MutexLock lock(&state_->mu);
      if (state_->newest == this) --state_->staging_areas;
    }
    done(absl::OkStatus());
  }
  void Transfer(const StagingRange& range, uint64_t address, bool to_device,
                std::function<void(absl::Status)> done) override {
    absl::Status status = health();
    char* const device = owner_->At(address, range.bytes);
    if (status.ok() && (device == nullptr || range.offset + range.bytes > staging_[range.area].bytes())) {
      status = MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument, "bytes outside every arena");
    }
    char* const host = staging_[range.area].data() + range.offset;
    if (status.ok() && to_device) std::memcpy(device, host, range.bytes);
    if (status.ok() && !to_device) std::memcpy(host, device, range.bytes);
    {
      MutexLock lock(&state_->mu);
      if (state_->transfers_held) {
        state_->held_transfers.push_back([status, done = std::move(done)](const absl::Status& instead) {
          done(instead.ok() ? status : instead);
        });
        state_->transfer_held.SignalAll();
        return;
      }
    }
    done(std::move(status));
  }
  absl::Status Fill(uint64_t address, uint64_t bytes, absl::string_view pattern) override {
    TRUN_RETURN_IF_ERROR(health());
    char* const to = owner_->At(address, bytes);
    if (to == nullptr) return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument, "no such memory");
    for (uint64_t i = 0; i < bytes; ++i) to[i] = pattern[i % pattern.size()];
    return absl::OkStatus();
  }
  absl::Status Copy(uint64_t to, uint64_t from, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(health());
    char* const target = owner_->At(to, bytes);
    const char* const source = owner_->At(from, bytes);
    if (target == nullptr || source == nullptr) {
      return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument, "no such memory");
    }
    std::memcpy(target, source, bytes);
    return absl::OkStatus();
  }
  absl::Status AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    for (const auto& [other, range] : state_->allocations) {
      if (other == id || (address < range.address + range.bytes && range.address < address + bytes)) {
        return InvalidArgument(Reason::kArgument, "an allocation that overlaps a live one");
      }
    }
    state_->allocations[id] = {address, bytes};
    return absl::OkStatus();
  }
  absl::Status RemoveAllocation(uint64_t id) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    return state_->allocations.erase(id) == 1 ? absl::OkStatus()
                                              : NotFound(Reason::kArgument, "no such allocation");
  }
  absl::StatusOr<device::KernelAttributes> LoadKernel(uint64_t kernel, absl::string_view image,
                                                      absl::string_view name) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    ++state_->loads;
    const auto it = state_->kernels.find(std::string(image));
    if (it == state_->kernels.end())
      return InvalidArgument(Reason::kInvalidIr, "the fake does not know this image");
    if (!name.empty() && it->second.attributes.name != name) {
      return NotFound(Reason::kArgument, absl::StrCat("no kernel '", name, "'"));
    }
    if (!loaded_.emplace(kernel, it->second).second) {
      return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument, "loaded already");
    }
    return it->second.attributes;
  }
  absl::Status UnloadKernel(uint64_t kernel) override {
    TRUN_RETURN_IF_ERROR(health());
    MutexLock lock(&state_->mu);
    return loaded_.erase(kernel) == 1 ? absl::OkStatus() : NotFound(Reason::kHandle, "no such kernel");
  }
  void Launch(ExecutorLaunch launch, std::function<void(ExecutorLaunchResult)> done) override {
    FakeExecutors::Behaviour behaviour;
    std::map<uint64_t, FakeExecutors::Range> allocations;
    {
      MutexLock lock(&state_->mu);
      const auto it = loaded_.find(launch.kernel);
      if (it != loaded_.end()) behaviour = it->second.behaviour;
      allocations = state_->allocations;
    }
    MutexLock lock(&mu_);
    queue_.push_back(
        {std::move(launch), std::move(done), nullptr, std::move(behaviour), std::move(allocations)});
    wake_.SignalAll();
  }
  void Synchronize(std::function<void(absl::Status)> done) override {
    MutexLock lock(&mu_);
    queue_.push_back({{}, nullptr, std::move(done), nullptr, {}});
    wake_.SignalAll();
  }

  void Lose(absl::Status status) {
    MutexLock lock(&mu_);
    if (health_.ok()) health_ = std::move(status);
    wake_.SignalAll();
  }
  void Nudge() {
    MutexLock lock(&mu_);
    wake_.SignalAll();
  }

 private:
  struct Item {
    ExecutorLaunch launch;
    std::function<void(ExecutorLaunchResult)> done;
    std::function<void(absl::Status)> synchronized;
    FakeExecutors::Behaviour behaviour;  // as the kernel was when the launch was queued
    std::map<uint64_t, FakeExecutors::Range> allocations;
  };

  bool Held() {
    MutexLock lock(&state_->mu);
    return state_->held;
  }

  void Loop() {
    running = this;
    bool told = false;
    uint64_t lost_by = 0;
    while (true) {
      Item item;
      absl::Status health;
      std::function<void(absl::Status)> on_lost;
      bool stopping = false;
      {
        MutexLock lock(&mu_);
        while (!stopping_ && (told || health_.ok() || !on_lost_) &&
               (queue_.empty() || (health_.ok() && Held()))) {
          wake_.Wait(&mu_);
        }
        stopping = stopping_;
        health = health_;
        if (!health.ok() && !told && on_lost_) {
          told = true;
          on_lost = std::move(on_lost_);
        }
        if (queue_.empty() && stopping) return;
        if (!queue_.empty() && (stopping || !health.ok() || !Held())) {
          item = std::move(queue_.front());
          queue_.pop_front();
        }
      }
      if (on_lost) on_lost(health);
      absl::Status refused = health;
      if (stopping)
        refused = MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the session ended");
      if (item.synchronized) item.synchronized(refused);
      if (!item.done) continue;
      ExecutorLaunchResult result;
      if (!refused.ok()) {
        result.status = refused;
        if (!stopping && lost_by != 0) {
          result.status = MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                                    absl::StrCat("launch ", lost_by, " ended this executor"),
                                    {{"sequence", absl::StrCat(lost_by)}});
        }
        if (lost_by == 0) lost_by = item.launch.sequence;
      } else {
        result = Run(&item);
        const Reason reason = GetReason(result.status);
        if (reason == Reason::kHungKernel || reason == Reason::kContextLost) {
          lost_by = item.launch.sequence;
          Lose(MakeError(absl::StatusCode::kAborted, Reason::kContextLost, "a launch ended the context"));
        }
      }
      item.done(std::move(result));
    }
  }

  ExecutorLaunchResult Run(Item* item) {
    {
      MutexLock lock(&state_->mu);
      state_->launches.push_back(item->launch);
      state_->launch_allocations = std::move(item->allocations);
    }
    ExecutorLaunchResult result;
    if (!item->behaviour) {
      result.status = NotFound(Reason::kHandle, "no such kernel is loaded");
      return result;
    }
    result = item->behaviour(item->launch, owner_);
    if (result.status.ok() && result.device_times.empty()) {
      result.device_times.assign(std::max<uint32_t>(item->launch.repetitions, 1), absl::Microseconds(1));
    }
    return result;
  }

  FakeExecutors* const owner_;
  const std::shared_ptr<FakeExecutors::State> state_;
  const device::DeviceInfo info_;
  std::map<uint64_t, FakeKernel> loaded_;             // under state_->mu
  std::map<uint64_t, device::MappedMemory> staging_;  // of the caller of MapStaging and Transfer
  mutable Mutex mu_;
  CondVar wake_;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::function<void(absl::Status)> on_lost_ ABSL_GUARDED_BY(mu_);
  std::deque<Item> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

FakeExecutors::FakeExecutors() : state_(std::make_shared<State>()) {}

void FakeExecutors::SetKernel(absl::string_view image, device::KernelAttributes attributes,
                              Behaviour behaviour) {
  MutexLock lock(&state_->mu);
  state_->kernels[std::string(image)] = {std::move(attributes), std::move(behaviour)};
}
void FakeExecutors::set_create_status(absl::Status status) {
  MutexLock lock(&state_->mu);
  state_->create_status = std::move(status);
}
void FakeExecutors::AddForeign(const std::string& handle, const UniqueFd& memory, uint64_t bytes) {
  absl::StatusOr<device::MappedMemory> mapped = device::MappedMemory::Map(memory, bytes);
  MutexLock lock(&state_->mu);
  if (mapped.ok()) state_->foreign[handle] = std::make_shared<device::MappedMemory>(*std::move(mapped));
}

void FakeExecutors::UseDeviceMemory() {
  MutexLock lock(&state_->mu);
  state_->host_memory = false;
}
void FakeExecutors::RefuseToRegister(std::string why) {
  MutexLock lock(&state_->mu);
  state_->unregistered = std::move(why);
}
int FakeExecutors::staging_areas() const {
  MutexLock lock(&state_->mu);
  return state_->staging_areas;
}
void FakeExecutors::HoldTransfers() {
  MutexLock lock(&state_->mu);
  state_->transfers_held = true;
}
void FakeExecutors::AwaitHeldTransfer() {
  MutexLock lock(&state_->mu);
  while (state_->held_transfers.empty()) state_->transfer_held.Wait(&state_->mu);
}
void FakeExecutors::ReleaseTransfers(const absl::Status& status) {
  std::vector<std::function<void(const absl::Status&)>> held;
  {
    MutexLock lock(&state_->mu);
    state_->transfers_held = false;
    held.swap(state_->held_transfers);
  }
  for (const auto& answer : held) answer(status);
}
void FakeExecutors::Hold() {
  MutexLock lock(&state_->mu);
  state_->held = true;
}
void FakeExecutors::Release() {
  std::vector<FakeExecutor*> executors;
  {
    MutexLock lock(&state_->mu);
    state_->held = false;
    executors = state_->executors;
  }
  for (FakeExecutor* executor : executors) executor->Nudge();
}
bool FakeExecutors::AwaitEnd(absl::Duration timeout) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&state_->mu);
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    return std::find(state_->executors.begin(), state_->executors.end(), running) == state_->executors.end();
  };
  while (!ended()) {
    if (!state_->ended.WaitUntil(&state_->mu, deadline)) return ended();
  }
  return true;
}
void FakeExecutors::Kill() {
  FakeExecutor* newest = nullptr;
  {
    MutexLock lock(&state_->mu);
    newest = state_->newest;
  }
  if (newest != nullptr) newest->Lose(Unavailable(Reason::kExecutorLost, "the fake executor was killed"));
}
char* FakeExecutors::At(uint64_t address, uint64_t bytes) {
  MutexLock lock(&state_->mu);
  for (const auto& [id, arena] : state_->arenas) {
    if (address >= arena.range.address && address + bytes <= arena.range.address + arena.range.bytes) {
      return arena.memory->data() + (address - arena.range.address);
    }
  }
  return nullptr;
}
std::map<uint64_t, FakeExecutors::Range> FakeExecutors::allocations() const {
  MutexLock lock(&state_->mu);
  return state_->allocations;
}
std::map<uint64_t, FakeExecutors::Range> FakeExecutors::launch_allocations() const {
  MutexLock lock(&state_->mu);
  return state_->launch_allocations;
}
std::map<uint64_t, FakeExecutors::Range> FakeExecutors::arenas() const {
  MutexLock lock(&state_->mu);
  std::map<uint64_t, Range> ranges;
  for (const auto& [id, arena] : state_->arenas) ranges[id] = arena.range;
  return ranges;
}
std::vector<ExecutorLaunch> FakeExecutors::launches() const {
  MutexLock lock(&state_->mu);
  return state_->launches;
}
int FakeExecutors::created() const {
  MutexLock lock(&state_->mu);
  return state_->created;
}
int FakeExecutors::live() const {
  MutexLock lock(&state_->mu);
  return static_cast<int>(state_->executors.size());
}
int FakeExecutors::loads() const {
  MutexLock lock(&state_->mu);
  return state_->loads;
}

absl::StatusOr<std::unique_ptr<ExecutorControl>> FakeExecutorFactory::Create(absl::string_view device,
                                                                             absl::string_view session) {
  if (device != "fake:0")
    return NotFound(Reason::kArgument, absl::StrCat("no device '", device, "'; there are: fake:0"));
  const std::shared_ptr<FakeExecutors::State> state = executors_->state_;
  {
    MutexLock lock(&state->mu);
    if (!state->create_status.ok()) return state->create_status;
  }
  auto executor = std::make_unique<FakeExecutor>(executors_, state);
  MutexLock lock(&state->mu);
  state->staging_areas = 0;
  ++state->created;
  state->executors.push_back(executor.get());
  state->newest = executor.get();
  state->allocations.clear();
  state->arenas.clear();
  return executor;
}

std::vector<ExecutorFactory::DeviceDescription> FakeExecutorFactory::Devices() const {
  return {{"fake:0", FakeExecutorDeviceInfo(), absl::OkStatus()}};
}

device::DeviceInfo FakeExecutorDeviceInfo() {
  device::DeviceInfo info;
  info.name = "fake executor";
  info.target.arch = 80;
  info.memory_bytes = uint64_t{1} << 30;
  info.multiprocessors = 1;
  info.max_shared_bytes = 48 << 10;
  info.max_grid = {1000, 100, 100};
  return info;
}

}  // namespace trun
