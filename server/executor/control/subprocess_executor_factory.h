// Executors as child processes, with a warm spare for each device.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_SUBPROCESS_EXECUTOR_FACTORY_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_SUBPROCESS_EXECUTOR_FACTORY_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "server/executor/control/executor_control.h"
#include "server/executor/control/socket_executor.h"

namespace trun {

// How the executors of one device are started.
struct ExecutorCommand {
  std::string device;                                   // "emulator:0"
  std::vector<std::string> argv;                        // argv[0]: the path of the binary
  std::map<std::string, std::string> environment = {};  // all of it
};

// The command for emulator number `index` ("emulator:INDEX"). `threads` 0: one per core; `memory_bytes` 0:
// the emulator's default.
ExecutorCommand EmulatorExecutorCommand(absl::string_view executor_path, int index, int arch, int threads,
                                        uint64_t memory_bytes);

// The command for GPU number `index` of the driver ("cuda:INDEX"). `libcuda` empty: the system's driver
// library.
ExecutorCommand CudaExecutorCommand(absl::string_view executor_path, int index, absl::string_view libcuda);

struct SubprocessExecutorFactoryOptions {
  std::vector<ExecutorCommand> devices;
  SocketExecutorOptions executor;
  bool warm_spares = true;  // one per device
  int stderr_fd = -1;       // of the executors; -1: /dev/null
  // Run on each spare before it is offered, and by CheckHealth: a device is usable when this is OK. Null:
  // none.
  std::function<absl::Status(ExecutorControl*)> canary;
};

// Thread-safe. The destructor ends the spares; executors that were handed out are their owners'.
class SubprocessExecutorFactory final : public ExecutorFactory {
 public:
  // Starts the first spares in the background and returns at once. INVALID_ARGUMENT: no device, or one named
  // twice.
  static absl::StatusOr<std::unique_ptr<SubprocessExecutorFactory>> Create(
      const SubprocessExecutorFactoryOptions& options);
  ~SubprocessExecutorFactory() override;

  absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view device,
                                                          absl::string_view session) override;
  void Expect(absl::string_view device) override;
  // Waits for the first spare of each device, or for the reason why it could not be started.
  std::vector<DeviceDescription> Devices() const override;
  // Runs the canary on the spare of each device, and starts a spare where there is none; a device whose
  // canary fails is unusable until a later one does not. Waits for the canaries.
  void CheckHealth();
  // Whether a session on the device would get a warm executor now.
  bool HasSpare(absl::string_view device) const;

 private:
  struct Slot {
    ExecutorCommand command;
    std::unique_ptr<SocketExecutor> spare;
    std::unique_ptr<SocketExecutor> expected;  // a process that runs and was not greeted
    bool tried = false;                        // `usable` and `info` say how the last start went
    bool wanted = true;                        // a spare should be made
    absl::Status usable;
    device::DeviceInfo info;
  };

  explicit SubprocessExecutorFactory(const SubprocessExecutorFactoryOptions& options);
  absl::StatusOr<std::unique_ptr<SocketExecutor>> Spawn(const ExecutorCommand& command) const;
  absl::StatusOr<std::unique_ptr<SocketExecutor>> Start(const ExecutorCommand& command,
                                                        absl::string_view session) const;
  void RefillLoop();

  const SubprocessExecutorFactoryOptions options_;
  mutable Mutex mu_;
  mutable CondVar changed_;
  std::map<std::string, Slot, std::less<>> slots_ ABSL_GUARDED_BY(mu_);  // the keys never change
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread refill_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_SUBPROCESS_EXECUTOR_FACTORY_H_
