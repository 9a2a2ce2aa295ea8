// Bytes to and from memory that only the device can touch: through staging memory shared with the executor,
// in pieces of which one is copied by the device while the next is copied here.
#ifndef TRUN_SERVER_SESSION_STAGED_TRANSFER_H_
#define TRUN_SERVER_SESSION_STAGED_TRANSFER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/base/unique_fd.h"
#include "server/device/shared_memory.h"
#include "server/executor/control/executor_control.h"

namespace trun {

// Thread-compatible. The staging memory is made with the first transfer and given to each executor once.
class StagedTransfer {
 public:
  // Little in all: registering memory with a driver takes a millisecond for each 2 MiB of it.
  static constexpr uint64_t kPieceBytes = uint64_t{256} << 10;
  static constexpr uint64_t kPieces = 8;
  static constexpr uint64_t kArea = 0;  // its number; those of clients follow

  // The executor of the following transfers has this number, which no other one has.
  void SetExecutor(uint64_t number) { current_ = number; }
  // The executor's errors; UNAVAILABLE kExecutorLost. Some of the bytes may have been written then.
  absl::Status Write(ExecutorControl* executor, uint64_t address, absl::Span<const char> from);
  absl::Status Read(ExecutorControl* executor, uint64_t address, absl::Span<char> to);

 private:
  absl::Status Attach(ExecutorControl* executor);

  UniqueFd memory_;
  device::MappedMemory mapping_;
  uint64_t current_ = 1;
  uint64_t attached_to_ = 0;  // the number of the executor that has it
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_STAGED_TRANSFER_H_
