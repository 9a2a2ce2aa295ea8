#ifndef TRUN_COMMON_BASE_FAKE_CLOCK_H_
#define TRUN_COMMON_BASE_FAKE_CLOCK_H_

#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace trun {

// A clock that stands still until told. Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() override {
    MutexLock lock(&mu_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mu_);
    now_ += by;
  }

 private:
  Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch() + absl::Hours(1);
};

}  // namespace trun

#endif  // TRUN_COMMON_BASE_FAKE_CLOCK_H_
