// The debugger's view of a launch: where it stops, and what can be seen there.
//
// A Debugger is given to a launch (LaunchRequest::observer). Where a breakpoint or a watchpoint fits, or a
// step ends, its callback runs on the launch's thread; the launch stands still until the callback says how to
// go on, which takes from its deadline. Nothing of this is in the way of a launch without one.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_DEBUG_DEBUGGER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_DEBUG_DEBUGGER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/device.h"

namespace trun::device {

class Watcher;

// Which threads a stop is for; unset: all.
struct ThreadFilter {
  std::optional<std::array<uint32_t, 3>> program;
  std::optional<std::array<uint32_t, 3>> thread;
};

// Before an instruction of this line. One of the two is set.
struct Breakpoint {
  uint32_t ptx_line = 0;
  std::string source_file;  // as .file has it, or its last part; empty: any
  uint32_t source_line = 0;
  ThreadFilter threads;
};

// After an instruction that wrote it. One of the two is set.
struct Watchpoint {
  std::string reg;       // as in PTX: "%r12"
  uint64_t address = 0;  // of global memory
  uint64_t bytes = 0;
  ThreadFilter threads;
};

enum class StopReason : uint8_t { kBreakpoint, kWatchpoint, kStep };

enum class DebugAction : uint8_t {
  kContinue,
  kStepInstruction,  // to this thread's next instruction
  kStepLine,         // to this thread's next source line
  kEnd,              // the launch ends as CANCELLED kCancelled
};

// Where the launch stands. Valid only during the callback.
class Stop {
 public:
  virtual ~Stop() = default;

  StopReason reason = StopReason::kBreakpoint;
  int number = 0;  // of the breakpoint or watchpoint
  std::array<uint32_t, 3> program = {};
  std::array<uint32_t, 3> thread = {};
  std::string instruction;
  uint32_t ptx_line = 0;
  std::string source_file;
  uint32_t source_line = 0;

  // The bits of a register of the stopped thread, by its name in the text. NOT_FOUND: no such register, the
  // message lists some. FAILED_PRECONDITION: the thread does not need its value any more, or has not written
  // it yet: the place may hold another register's.
  virtual absl::StatusOr<uint64_t> ReadRegister(absl::string_view name) const = 0;
  // The registers that can be read here.
  virtual std::vector<std::string> Registers() const = 0;
  // Bytes at a generic address as they stand; `space` "global", "shared", "local", "param" for an address in
  // that space. OUT_OF_RANGE kIllegalAddress.
  virtual absl::StatusOr<std::string> ReadMemory(absl::string_view space, uint64_t address,
                                                 uint64_t bytes) const = 0;
};

// For one launch at a time. Thread-compatible: set up before the launch, or in the callback.
class Debugger final : public LaunchObserver {
 public:
  using OnStop = std::function<DebugAction(const Stop&)>;

  explicit Debugger(OnStop on_stop);
  ~Debugger() override;

  // The number that Stop names. INVALID_ARGUMENT when neither or both places are set.
  absl::StatusOr<int> Add(const Breakpoint& breakpoint);
  absl::StatusOr<int> Add(const Watchpoint& watchpoint);
  // NOT_FOUND.
  absl::Status Remove(int number);

  Watcher* watcher();  // for the launch

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_DEBUG_DEBUGGER_H_
