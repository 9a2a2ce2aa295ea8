#include "common/base/clock.h"

#include <ctime>

namespace trun {
namespace {

class MonotonicClock final : public Clock {
 public:
  absl::Time Now() override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return absl::TimeFromTimespec(now);
  }
};

}  // namespace

Clock* Clock::Real() {
  static MonotonicClock* const clock = new MonotonicClock;
  return clock;
}

}  // namespace trun
