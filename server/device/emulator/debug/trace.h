// A trace of one thread: the source lines it comes to, the registers it writes.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_DEBUG_TRACE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_DEBUG_TRACE_H_

#include <cstdint>
#include <string>

#include "server/device/device.h"
#include "server/device/emulator/exec/instrument.h"

namespace trun::device {

// A register's value of one lane as text: "0x0000002a (42)", a predicate "true".
std::string RegisterText(const Warp& warp, const RegisterInfo& info, uint32_t lane);

// Thread-compatible; one launch. A line a step:
//
//   softmax.py:12
//     PTX 31  add.s32               %r5 = 0x0000002a (42)
class Tracer final : public Watcher {
 public:
  explicit Tracer(const TraceOptions& options) : options_(options) {}

  bool Before(const WatchedStep& step) override;
  bool After(const WatchedStep& step) override;
  // At most kMaxTraceBytes; its last line says when some is missing.
  std::string Take();

 private:
  // The lane of the traced thread; -1: it is not in this warp.
  int LaneOf(const Warp& warp) const;
  void Append(const std::string& line);

  const TraceOptions options_;
  std::string text_;
  bool full_ = false;
  uint32_t file_ = 0;
  uint32_t line_ = 0;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_DEBUG_TRACE_H_
