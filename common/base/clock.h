// Time as something that is handed in, so that tests of deadlines and leases need not wait.
#ifndef TRUN_COMMON_BASE_CLOCK_H_
#define TRUN_COMMON_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace trun {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic in the real implementation: an absl::Time on an arbitrary epoch, only for differences.
  virtual absl::Time Now() = 0;

  // The process-wide monotonic clock; never deleted.
  static Clock* Real();
};

}  // namespace trun

#endif  // TRUN_COMMON_BASE_CLOCK_H_
