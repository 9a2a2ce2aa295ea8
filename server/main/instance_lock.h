// At most one daemon on a socket.
#ifndef TRUN_SERVER_MAIN_INSTANCE_LOCK_H_
#define TRUN_SERVER_MAIN_INSTANCE_LOCK_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/base/unique_fd.h"

namespace trun {

// A lock file that holds the process id; the kernel gives the lock back whatever ends the process.
// Thread-compatible.
class InstanceLock {
 public:
  // UNAVAILABLE kUnavailable, with the other's process id, when another daemon has it.
  static absl::StatusOr<InstanceLock> Take(const std::string& path);
  InstanceLock(InstanceLock&&) = default;
  InstanceLock& operator=(InstanceLock&&) = default;
  // Empties the file, and leaves it: removing it would let a third daemon lock another file of the same name.
  ~InstanceLock();

 private:
  explicit InstanceLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_INSTANCE_LOCK_H_
