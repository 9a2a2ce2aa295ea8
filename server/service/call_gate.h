// Counts the calls that run and, once the daemon drains, keeps new work out and says so to what it cuts.
#ifndef TRUN_SERVER_SERVICE_CALL_GATE_H_
#define TRUN_SERVER_SERVICE_CALL_GATE_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"

namespace trun {

// What becomes of a method's calls while the daemon drains.
enum class WhileDraining {
  kRefused,  // new work
  kServed,   // looking, reading results, closing
};

// A call whose client sends what it wants when it wants: it may hold the call open and send nothing.
class OpenCall {
 public:
  virtual ~OpenCall() = default;
  // Ends the call with `why` where nothing runs for it and its client, whose turn it is, has sent nothing for
  // `patience`. Thread-safe.
  virtual void EndIfIdle(absl::Duration patience, const absl::Status& why) = 0;
};

// Thread-safe.
class CallGate {
 public:
  // UNAVAILABLE kDraining for new work while draining. When OK: exactly one Leave follows.
  absl::Status Enter(WhileDraining kind);
  void Leave();

  void StartDraining();
  bool draining() const;
  // From now on EndIdleCalls asks `call` too, until Forget or its end. REQUIRES: not null.
  void Remember(const std::shared_ptr<OpenCall>& call);
  void Forget(const OpenCall* call);
  // Ends the remembered calls that wait for their clients alone (UNAVAILABLE kDraining). While draining,
  // again and again: a call is idle once its work is done.
  void EndIdleCalls(absl::Duration patience);
  // The time is over: calls that fail from now on because what they need is taken from them say why.
  void Cut();
  // What a call that ends with `status` tells its client.
  absl::Status Explain(const absl::Status& status) const;
  int in_flight() const;
  // Calls that were let in so far.
  uint64_t entered() const;
  // True when no call runs; false after `timeout`.
  bool WaitIdle(absl::Duration timeout);

 private:
  mutable Mutex mu_;
  CondVar changed_;
  int in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t entered_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool cut_ ABSL_GUARDED_BY(mu_) = false;
  std::map<const OpenCall*, std::weak_ptr<OpenCall>> open_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_CALL_GATE_H_
