// The sessions of the daemon: opening, finding, leases, quotas of tenants, the end of all.
#ifndef TRUN_SERVER_SESSION_SESSION_REGISTRY_H_
#define TRUN_SERVER_SESSION_SESSION_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "server/executor/control/executor_control.h"
#include "server/session/session.h"

namespace trun {

struct SessionRegistryOptions {
  uint32_t max_sessions = 256;  // of the daemon
  uint32_t max_sessions_per_tenant = 64;
  uint64_t tenant_memory_bytes = 0;  // 0: half of the host's memory
  uint32_t max_kernels_per_session = 4096;
  uint32_t max_queued_launches = 16384;  // of one session
  absl::Duration default_lease = absl::Seconds(30);
  absl::Duration min_lease = absl::Seconds(1);
  absl::Duration max_lease = absl::Hours(1);
  std::string default_device = "emulator:0";
  bool run_reaper = true;  // false: only ReapExpired ends expired sessions (tests)
};

struct OpenSessionOptions {
  std::string tenant;                           // "uid:1000"
  std::string client_name;                      // for people
  std::string device;                           // empty: the default device
  absl::Duration lease = absl::ZeroDuration();  // zero: the default
  uint64_t memory_limit_bytes = 0;              // 0: the tenant's limit
};

// Thread-safe. Everything handed in must outlive it; the destructor closes every session.
class SessionRegistry {
 public:
  static std::unique_ptr<SessionRegistry> Create(const SessionRegistryOptions& options,
                                                 ExecutorFactory* executors, Clock* clock);
  virtual ~SessionRegistry() = default;

  // The pointers that Open and Find return keep the lease from running out while they are held and renew it
  // when they are dropped: hold one for the length of an RPC (of a stream), not longer.

  // NOT_FOUND: no such device. INVALID_ARGUMENT kArgument: lease outside the limits. RESOURCE_EXHAUSTED
  // kQuota. UNAVAILABLE kDraining, kUnavailable (no executor could be started).
  virtual absl::StatusOr<std::shared_ptr<Session>> Open(const OpenSessionOptions& options) = 0;
  // NOT_FOUND kSessionExpired: closed, expired, never minted or another tenant's (one message for all).
  virtual absl::StatusOr<std::shared_ptr<Session>> Find(absl::string_view session,
                                                        absl::string_view tenant) = 0;
  // Ends it now, whoever holds it: its launches are CANCELLED, its memory is returned. NOT_FOUND
  // kSessionExpired.
  virtual absl::Status Close(absl::string_view session, absl::string_view tenant) = 0;
  // Those of `tenant`; of every tenant when empty. Oldest first.
  virtual std::vector<SessionStatistics> List(absl::string_view tenant) const = 0;

  struct DeviceUsage {
    uint32_t sessions = 0;
    uint64_t used_bytes = 0;
  };
  virtual DeviceUsage UsageOf(absl::string_view device) const = 0;
  // The device that an empty name means.
  virtual const std::string& default_device() const = 0;

  // Closes sessions whose lease ran out; returns how many. The reaper calls it when the next one is due.
  virtual int ReapExpired() = 0;
  // From now on Open and Launch are UNAVAILABLE kDraining.
  virtual void StartDraining() = 0;
  // True when no session has a launch that runs or is queued; false after `timeout`.
  virtual bool WaitForLaunches(absl::Duration timeout) = 0;
  // Starts draining, waits for the launches, `timeout` at most, and closes every session: launches that are
  // not done by then are cut. May be called again.
  virtual void Drain(absl::Duration timeout) = 0;
  // Sessions open now (an idle daemon ends itself).
  virtual uint32_t open_sessions() const = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_SESSION_REGISTRY_H_
