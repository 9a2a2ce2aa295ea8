#include "server/executor/control/subprocess_executor_factory.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/subprocess/subprocess.h"

namespace trun {
namespace {

constexpr int kChildSocket = 3;  // kExecutorSocket of executor/runtime

class SubprocessHost final : public ExecutorHost {
 public:
  explicit SubprocessHost(std::unique_ptr<Subprocess> process) : process_(std::move(process)) {}
  int64_t pid() const override { return process_->pid(); }
  std::string End(bool gone) override {
    // A process that dies closes its descriptors a moment before it can be reaped with its exit status.
    absl::StatusOr<ExitStatus> exit = process_->Wait(gone ? absl::Milliseconds(100) : absl::ZeroDuration());
    if (!exit.ok()) {
      process_->Signal(9).IgnoreError();
      exit = process_->Wait(absl::Seconds(10));
    }
    return exit.ok() ? exit->ToString() : std::string(exit.status().message());
  }

 private:
  const std::unique_ptr<Subprocess> process_;
};

// What an executor may know of our environment: where libraries lie, and which GPUs the operator lets it see.
std::map<std::string, std::string> PassedEnvironment() {
  std::map<std::string, std::string> passed;
  for (const char* const name : {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}) {
    if (const char* const value = std::getenv(name)) passed[name] = value;
  }
  return passed;
}

}  // namespace

ExecutorCommand CudaExecutorCommand(absl::string_view executor_path, int index, absl::string_view libcuda) {
  ExecutorCommand command;
  command.device = absl::StrCat("cuda:", index);
  command.argv = {std::string(executor_path), absl::StrCat("--device=", command.device)};
  if (!libcuda.empty()) command.argv.push_back(absl::StrCat("--libcuda=", libcuda));
  command.environment = PassedEnvironment();
  return command;
}

ExecutorCommand EmulatorExecutorCommand(absl::string_view executor_path, int index, int arch, int threads,
                                        uint64_t memory_bytes) {
  ExecutorCommand command;
  command.device = absl::StrCat("emulator:", index);
  command.argv = {std::string(executor_path), absl::StrCat("--device=", command.device),
                  absl::StrCat("--arch=", arch), absl::StrCat("--threads=", threads),
                  absl::StrCat("--memory=", memory_bytes)};
  command.environment = PassedEnvironment();
  return command;
}

absl::StatusOr<std::unique_ptr<SubprocessExecutorFactory>> SubprocessExecutorFactory::Create(
    const SubprocessExecutorFactoryOptions& options) {
  if (options.devices.empty()) return InvalidArgument(Reason::kArgument, "no device is configured");
  std::map<std::string, int> seen;
  for (const ExecutorCommand& command : options.devices) {
    if (++seen[command.device] > 1) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("device '", command.device, "' is configured twice"));
    }
  }
  return std::unique_ptr<SubprocessExecutorFactory>(new SubprocessExecutorFactory(options));
}

SubprocessExecutorFactory::SubprocessExecutorFactory(const SubprocessExecutorFactoryOptions& options)
    : options_(options) {
  for (const ExecutorCommand& command : options.devices) slots_[command.device].command = command;
  refill_ = std::thread([this] { RefillLoop(); });
}

SubprocessExecutorFactory::~SubprocessExecutorFactory() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  refill_.join();
}

absl::StatusOr<std::unique_ptr<SocketExecutor>> SubprocessExecutorFactory::Spawn(
    const ExecutorCommand& command) const {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return FromErrno(errno, "making an executor's socket", Reason::kUnavailable);
  }
  UniqueFd ours(ends[0]);
  UniqueFd childs(ends[1]);
  SubprocessOptions start;
  start.argv = command.argv;
  start.env = command.environment;
  start.descriptors[kChildSocket] = childs.get();
  start.stderr_fd = options_.stderr_fd;
  absl::StatusOr<std::unique_ptr<Subprocess>> process = Subprocess::Start(start);
  if (!process.ok()) {
    return Unavailable(Reason::kUnavailable, absl::StrCat("no executor for ", command.device,
                                                          " could be started: ", process.status().message()));
  }
  childs.reset();  // or the end of a child that dies before its greeting would not be seen
  return std::make_unique<SocketExecutor>(
      std::move(ours), std::make_unique<SubprocessHost>(*std::move(process)), options_.executor);
}

absl::StatusOr<std::unique_ptr<SocketExecutor>> SubprocessExecutorFactory::Start(
    const ExecutorCommand& command, absl::string_view session) const {
  TRUN_ASSIGN_OR_RETURN(std::unique_ptr<SocketExecutor> executor, Spawn(command));
  const absl::Status hello = executor->Hello(command.device, session);
  if (!hello.ok()) {
    return Unavailable(Reason::kUnavailable, absl::StrCat("the executor for ", command.device,
                                                          " did not start: ", hello.message()));
  }
  return executor;
}

absl::StatusOr<std::unique_ptr<ExecutorControl>> SubprocessExecutorFactory::Create(
    absl::string_view device, absl::string_view session) {
  ExecutorCommand command;
  std::unique_ptr<SocketExecutor> executor, expected;
  {
    MutexLock lock(&mu_);
    const auto it = slots_.find(device);
    if (it == slots_.end()) {
      std::string known;
      for (const auto& [name, slot] : slots_) absl::StrAppend(&known, known.empty() ? "" : ", ", name);
      return NotFound(Reason::kArgument, absl::StrCat("no device '", device, "'; there are: ", known));
    }
    command = it->second.command;
    executor = std::move(it->second.spare);
    expected = std::move(it->second.expected);
    it->second.wanted = true;
    changed_.SignalAll();
  }
  // A spare may have died while it waited: then a fresh one.
  if (executor != nullptr && executor->Hello(device, session).ok()) return executor;
  executor.reset();
  if (expected != nullptr && expected->Hello(device, session).ok()) return expected;
  expected.reset();
  TRUN_ASSIGN_OR_RETURN(executor, Start(command, session));
  return executor;
}

void SubprocessExecutorFactory::Expect(absl::string_view device) {
  ExecutorCommand command;
  {
    MutexLock lock(&mu_);
    const auto it = slots_.find(device);
    if (it == slots_.end() || it->second.spare != nullptr || it->second.expected != nullptr) return;
    command = it->second.command;
  }
  absl::StatusOr<std::unique_ptr<SocketExecutor>> spawned = Spawn(command);
  if (!spawned.ok()) return;  // who asks for the executor is told
  MutexLock lock(&mu_);
  std::unique_ptr<SocketExecutor>& expected = slots_.find(device)->second.expected;
  if (expected == nullptr) expected = *std::move(spawned);
}

std::vector<ExecutorFactory::DeviceDescription> SubprocessExecutorFactory::Devices() const {
  std::vector<DeviceDescription> devices;
  MutexLock lock(&mu_);
  for (const auto& [name, slot] : slots_) {
    while (!slot.tried && !stopping_) changed_.Wait(&mu_);
    devices.push_back({name, slot.info, slot.usable});
  }
  return devices;
}

bool SubprocessExecutorFactory::HasSpare(absl::string_view device) const {
  MutexLock lock(&mu_);
  const auto it = slots_.find(device);
  return it != slots_.end() && it->second.spare != nullptr;
}

void SubprocessExecutorFactory::CheckHealth() {
  if (options_.canary == nullptr) return;
  std::vector<std::pair<std::string, std::unique_ptr<SocketExecutor>>> spares;
  {
    MutexLock lock(&mu_);
    for (auto& [name, slot] : slots_) {
      if (slot.spare != nullptr) {
        spares.emplace_back(name, std::move(slot.spare));
      } else if (options_.warm_spares && slot.tried) {
        slot.wanted = true;
      }
    }
    changed_.SignalAll();
  }
  for (auto& [name, spare] : spares) {
    absl::Status healthy = options_.canary(spare.get());
    MutexLock lock(&mu_);
    Slot& slot = slots_.find(name)->second;
    slot.usable = std::move(healthy);
    if (slot.usable.ok() && slot.spare == nullptr) {
      slot.spare = std::move(spare);
    } else if (!slot.usable.ok()) {
      slot.wanted = true;
      changed_.SignalAll();
    }
  }
}

void SubprocessExecutorFactory::RefillLoop() {
  while (true) {
    ExecutorCommand command;
    {
      MutexLock lock(&mu_);
      while (command.device.empty()) {
        if (stopping_) return;
        for (const auto& [name, slot] : slots_) {
          if (slot.wanted && slot.spare == nullptr) command = slot.command;
        }
        if (command.device.empty()) changed_.Wait(&mu_);
      }
    }
    absl::StatusOr<std::unique_ptr<SocketExecutor>> spare = Start(command, "");
    const absl::Status healthy =
        spare.ok() && options_.canary != nullptr ? options_.canary(spare->get()) : spare.status();
    MutexLock lock(&mu_);
    Slot& slot = slots_.find(command.device)->second;
    slot.wanted = false;  // also after a failure: the next session that opens asks again
    slot.tried = true;
    slot.usable = healthy;
    if (spare.ok()) slot.info = (*spare)->device_info();
    if (healthy.ok() && options_.warm_spares) slot.spare = *std::move(spare);
    changed_.SignalAll();
  }
}

}  // namespace trun
