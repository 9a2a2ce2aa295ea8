#include "server/session/session_registry.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/session/handle.h"
#include "server/session/session_impl.h"

namespace trun {
namespace {

absl::Status NotOpen(absl::string_view session) {
  return NotFound(Reason::kSessionExpired,
                  absl::StrCat("session '", session,
                               "' is not open: it was closed, its lease ran out, or it is not "
                               "yours; open a new one"));
}

absl::Status TooMany(absl::string_view whose, uint32_t limit) {
  return ResourceExhausted(Reason::kQuota,
                           absl::StrCat(whose, " has ", limit, " sessions open, the limit: close some first"),
                           {{"limit", absl::StrCat(limit)}});
}

uint64_t HostMemory() {
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

class Registry final : public SessionRegistry {
 public:
  Registry(const SessionRegistryOptions& options, ExecutorFactory* executors, Clock* clock)
      : options_(options),
        tenant_memory_(options.tenant_memory_bytes != 0 ? options.tenant_memory_bytes : HostMemory() / 2),
        executors_(executors),
        clock_(clock) {
    if (options_.run_reaper) reaper_ = std::thread([this] { ReapLoop(); });
  }

  ~Registry() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      changed_.SignalAll();
    }
    if (reaper_.joinable()) reaper_.join();
    CloseAll();
  }

  absl::StatusOr<std::shared_ptr<Session>> Open(const OpenSessionOptions& open) override {
    SessionImplOptions options;
    options.lease = open.lease == absl::ZeroDuration() ? options_.default_lease : open.lease;
    if (options.lease < options_.min_lease || options.lease > options_.max_lease) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("a lease of ", absl::FormatDuration(open.lease),
                                          "; it must be between ", absl::FormatDuration(options_.min_lease),
                                          " and ", absl::FormatDuration(options_.max_lease)));
    }
    options.id = MintHandle('s');
    options.tenant = open.tenant;
    options.client_name = open.client_name.substr(0, 256);
    options.device = open.device.empty() ? options_.default_device : open.device;
    options.memory_limit =
        open.memory_limit_bytes == 0 ? tenant_memory_ : std::min(open.memory_limit_bytes, tenant_memory_);
    options.max_kernels = options_.max_kernels_per_session;
    options.max_queued_launches = options_.max_queued_launches;
    options.addresses = AddressSpace::Process();
    options.executors = executors_;
    options.retired = &retired_;
    options.clock = clock_;
    {
      MutexLock lock(&mu_);
      TRUN_RETURN_IF_ERROR(Reserve(open.tenant));
      options.tenant_memory = tenants_[open.tenant].memory;
    }
    // Starting an executor takes milliseconds: not under the lock.
    absl::StatusOr<std::shared_ptr<SessionImpl>> session = SessionImpl::Create(options);
    MutexLock lock(&mu_);
    if (session.ok() && draining_) session = Draining();
    if (!session.ok()) {
      GiveBack(open.tenant);
      return session.status();
    }
    sessions_.emplace(options.id, *session);
    changed_.SignalAll();
    return Hold(*std::move(session));
  }

  absl::StatusOr<std::shared_ptr<Session>> Find(absl::string_view session,
                                                absl::string_view tenant) override {
    MutexLock lock(&mu_);
    const auto it = sessions_.find(std::string(session));
    if (it == sessions_.end() || it->second->tenant() != tenant) return NotOpen(session);
    // Its time may be over though the reaper has not come by yet.
    if (it->second->expiry() <= clock_->Now()) return NotOpen(session);
    return Hold(it->second);
  }

  absl::Status Close(absl::string_view session, absl::string_view tenant) override {
    std::shared_ptr<SessionImpl> closing;
    {
      MutexLock lock(&mu_);
      const auto it = sessions_.find(std::string(session));
      if (it == sessions_.end() || it->second->tenant() != tenant) return NotOpen(session);
      closing = Remove(it);
    }
    closing->Close();
    return absl::OkStatus();
  }

  std::vector<SessionStatistics> List(absl::string_view tenant) const override {
    std::vector<SessionStatistics> list;
    for (const std::shared_ptr<SessionImpl>& session : Sessions()) {
      if (tenant.empty() || session->tenant() == tenant) list.push_back(session->statistics());
    }
    std::sort(list.begin(), list.end(),
              [](const SessionStatistics& a, const SessionStatistics& b) { return a.age > b.age; });
    return list;
  }

  DeviceUsage UsageOf(absl::string_view device) const override {
    DeviceUsage usage;
    for (const std::shared_ptr<SessionImpl>& session : Sessions()) {
      if (session->device() != device) continue;
      ++usage.sessions;
      usage.used_bytes += session->statistics().tensor_bytes;
    }
    return usage;
  }

  const std::string& default_device() const override { return options_.default_device; }

  int ReapExpired() override {
    std::vector<std::shared_ptr<SessionImpl>> expired;
    {
      MutexLock lock(&mu_);
      const absl::Time now = clock_->Now();
      for (auto it = sessions_.begin(); it != sessions_.end();) {
        auto next = std::next(it);
        if (it->second->expiry() <= now) expired.push_back(Remove(it));
        it = next;
      }
    }
    for (const std::shared_ptr<SessionImpl>& session : expired) session->Close();
    return static_cast<int>(expired.size());
  }

  void StartDraining() override {
    {
      MutexLock lock(&mu_);
      draining_ = true;
    }
    for (const std::shared_ptr<SessionImpl>& session : Sessions()) session->Drain();
  }

  bool WaitForLaunches(absl::Duration timeout) override {
    const absl::Time until = Clock::Real()->Now() + timeout;
    bool done = true;
    for (const std::shared_ptr<SessionImpl>& session : Sessions()) {
      const absl::Duration left = std::max(until - Clock::Real()->Now(), absl::ZeroDuration());
      // Anything else says that it was closed: it has none any more.
      if (absl::IsDeadlineExceeded(session->WaitForLaunches(left))) done = false;
    }
    return done;
  }

  void Drain(absl::Duration timeout) override {
    StartDraining();
    WaitForLaunches(timeout);
    CloseAll();
  }

  uint32_t open_sessions() const override {
    MutexLock lock(&mu_);
    return static_cast<uint32_t>(sessions_.size());
  }

 private:
  struct Tenant {
    std::shared_ptr<MemoryAccount> memory;
    uint32_t sessions = 0;
  };
  using Map = std::unordered_map<std::string, std::shared_ptr<SessionImpl>>;

  static absl::Status Draining() {
    return Unavailable(Reason::kDraining,
                       "the daemon is ending and opens no sessions: retry against the next one");
  }

  absl::Status Reserve(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (draining_) return Draining();
    if (reserved_ >= options_.max_sessions) return TooMany("the daemon", options_.max_sessions);
    Tenant& account = tenants_[tenant];
    if (account.memory == nullptr) account.memory = std::make_shared<MemoryAccount>(tenant_memory_);
    if (account.sessions >= options_.max_sessions_per_tenant) {
      return TooMany(absl::StrCat("'", tenant, "'"), options_.max_sessions_per_tenant);
    }
    ++account.sessions;
    ++reserved_;
    return absl::OkStatus();
  }

  void GiveBack(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    --reserved_;
    const auto it = tenants_.find(tenant);
    // Memory of a session that is being closed is still charged to the account it holds.
    if (--it->second.sessions == 0 && it->second.memory->used() == 0) tenants_.erase(it);
  }

  std::shared_ptr<SessionImpl> Remove(Map::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    std::shared_ptr<SessionImpl> session = std::move(it->second);
    sessions_.erase(it);
    GiveBack(session->tenant());
    return session;
  }

  static std::shared_ptr<Session> Hold(std::shared_ptr<SessionImpl> session) {
    session->BeginUse();
    SessionImpl* const pointer = session.get();
    return std::shared_ptr<Session>(pointer, [session = std::move(session)](Session*) { session->EndUse(); });
  }

  std::vector<std::shared_ptr<SessionImpl>> Sessions() const {
    MutexLock lock(&mu_);
    std::vector<std::shared_ptr<SessionImpl>> sessions;
    sessions.reserve(sessions_.size());
    for (const auto& [id, session] : sessions_) sessions.push_back(session);
    return sessions;
  }

  void CloseAll() {
    std::vector<std::shared_ptr<SessionImpl>> closing;
    {
      MutexLock lock(&mu_);
      while (!sessions_.empty()) closing.push_back(Remove(sessions_.begin()));
    }
    for (const std::shared_ptr<SessionImpl>& session : closing) session->Close();
  }

  // Sleeps until the earliest lease may end. A lease that is renewed ends later, so nothing has to wake it
  // for that; one in use is looked at again after the shortest lease there is.
  void ReapLoop() {
    while (true) {
      {
        MutexLock lock(&mu_);
        if (stopping_) return;
        const absl::Time now = clock_->Now();
        absl::Duration wait = options_.default_lease;
        for (const auto& [id, session] : sessions_) {
          wait = std::min(wait, std::max(session->expiry() - now, absl::ZeroDuration()));
          wait = std::min(wait, session->lease());
        }
        if (wait > absl::ZeroDuration()) {
          changed_.WaitUntil(&mu_, std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(wait));
        }
        if (stopping_) return;
      }
      ReapExpired();
    }
  }

  const SessionRegistryOptions options_;
  const uint64_t tenant_memory_;
  ExecutorFactory* const executors_;
  RetiredExecutors retired_;  // waited for when all sessions are gone
  Clock* const clock_;
  mutable Mutex mu_;
  CondVar changed_;
  Map sessions_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mu_);
  uint32_t reserved_ ABSL_GUARDED_BY(mu_) = 0;  // open ones and ones that are being opened
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread reaper_;
};

}  // namespace

std::unique_ptr<SessionRegistry> SessionRegistry::Create(const SessionRegistryOptions& options,
                                                         ExecutorFactory* executors, Clock* clock) {
  return std::make_unique<Registry>(options, executors, clock);
}

}  // namespace trun
