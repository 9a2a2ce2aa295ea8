#include "server/executor/control/in_process_executor.h"

#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "common/base/status.h"
#include "server/executor/runtime/executor_loop.h"

namespace trun {
namespace {

constexpr uint64_t kScratchBytes = uint64_t{256} << 20;
constexpr uint64_t kScratchSlots = 4096;

class ThreadHost final : public ExecutorHost {
 public:
  ThreadHost(UniqueFd socket, int peer, const DeviceRegistry* devices, const ExecutorLoopOptions& options)
      : peer_(peer) {
    thread_ = std::thread([socket = std::move(socket), devices, options]() mutable {
      ExecutorLoop(std::move(socket), devices, options).Run().IgnoreError();  // the other end sees it close
    });
  }
  ~ThreadHost() override { End(true); }
  int64_t pid() const override { return 0; }
  std::string End(bool gone) override {
    shutdown(peer_, SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    return "its thread ended";
  }

 private:
  const int peer_;  // the socket executor's, which outlives this
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SocketExecutor>> InProcessExecutorFactory::Start(
    absl::string_view device, absl::string_view session) const {
  static std::atomic<uint64_t> next_slot{0};
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return FromErrno(errno, "socketpair");
  UniqueFd ours(ends[0]);
  ExecutorLoopOptions options;
  // Executors of one process share its address space: scratch of each lies in a slot of its own.
  options.scratch_limit = kScratchBytes;
  options.scratch_address = scratch_address_ + (next_slot++ % kScratchSlots) * kScratchBytes;
  auto host = std::make_unique<ThreadHost>(UniqueFd(ends[1]), ours.get(), devices_, options);
  auto executor = std::make_unique<SocketExecutor>(std::move(ours), std::move(host), options_);
  TRUN_RETURN_IF_ERROR(executor->Hello(device, session));
  return executor;
}

absl::StatusOr<std::unique_ptr<ExecutorControl>> InProcessExecutorFactory::Create(absl::string_view device,
                                                                                  absl::string_view session) {
  TRUN_ASSIGN_OR_RETURN(std::unique_ptr<ExecutorControl> executor, Start(device, session));
  return executor;
}

std::vector<ExecutorFactory::DeviceDescription> InProcessExecutorFactory::Devices() const {
  std::vector<DeviceDescription> devices;
  for (const std::string& name : names_) {
    auto executor = Start(name, "");
    DeviceDescription description;
    description.device = name;
    description.usable = executor.status();
    if (executor.ok()) description.info = (*executor)->device_info();
    devices.push_back(std::move(description));
  }
  return devices;
}

}  // namespace trun
