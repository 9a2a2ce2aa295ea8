#include "server/toolchain/triton/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr absl::Duration kWarmUpDeadline = absl::Seconds(60);

std::chrono::steady_clock::time_point SteadyAfter(absl::Duration wait) {
  return std::chrono::steady_clock::now() +
         absl::ToChronoNanoseconds(std::clamp(wait, absl::ZeroDuration(), absl::Hours(24 * 365)));
}

// Lets a fresh worker compile something small, so that the first request finds code and tables in place.
bool WarmUp(WorkerProcess* worker) {
  const WorkerLimits limits{Clock::Real()->Now() + kWarmUpDeadline, 0};
  if (!worker->Send({{"op", "warm"}}, "", limits).ok()) return false;
  // An error is an answer: the next request will say what is wrong.
  return worker->Receive(limits).ok() && !worker->broken();
}

}  // namespace

WorkerPool::WorkerPool(WorkerPoolOptions options)
    : options_(std::move(options)),
      max_workers_(options_.max_workers > 0
                       ? options_.max_workers
                       : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {}

WorkerPool::~WorkerPool() {
  std::thread maintenance;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    upkeep_.SignalAll();
    maintenance = std::move(maintenance_);
  }
  if (maintenance.joinable()) maintenance.join();
}

absl::StatusOr<WorkerPool::Lease> WorkerPool::Acquire(absl::Duration timeout) {
  const absl::Time deadline = Clock::Real()->Now() + timeout;
  std::vector<std::unique_ptr<WorkerProcess>> dead;  // destroyed (killed, reaped) without the lock
  {
    MutexLock lock(&mu_);
    EnsureMaintenance();
    while (true) {
      while (!idle_.empty()) {
        std::unique_ptr<WorkerProcess> worker = std::move(idle_.back().worker);
        idle_.pop_back();
        if (worker->Alive()) {
          ++busy_;
          return Lease(this, std::move(worker));
        }
        dead.push_back(std::move(worker));
      }
      // One that is on its way for nobody in particular will be there sooner than one that begins now.
      if (Total() < max_workers_ && waiting_ >= background_) break;
      ++waiting_;
      const bool was_signalled = freed_.WaitUntil(&mu_, SteadyAfter(deadline - Clock::Real()->Now()));
      --waiting_;
      if (!was_signalled && Clock::Real()->Now() >= deadline && idle_.empty()) {
        return DeadlineExceeded(Reason::kCompileTimeout, absl::StrCat("no compile worker became free in ",
                                                                      absl::FormatDuration(timeout), " (",
                                                                      max_workers_, " are busy)"));
      }
    }
    ++starting_;
  }
  absl::StatusOr<std::unique_ptr<WorkerProcess>> worker = WorkerProcess::Start(options_.command);
  MutexLock lock(&mu_);
  --starting_;
  if (!worker.ok()) {
    freed_.Signal();
    return worker.status();
  }
  ++busy_;
  return Lease(this, *std::move(worker));
}

void WorkerPool::Prewarm(int count) {
  MutexLock lock(&mu_);
  EnsureMaintenance();
  wanted_ = std::max(wanted_, std::min(count, max_workers_));
  upkeep_.Signal();
}

WorkerPool::Load WorkerPool::load() const {
  MutexLock lock(&mu_);
  return {static_cast<int>(idle_.size()), busy_};
}

void WorkerPool::Return(std::unique_ptr<WorkerProcess> worker) {
  const bool keep = !worker->broken() && worker->MemoryBytes() <= options_.retire_above_bytes;
  MutexLock lock(&mu_);
  if (keep) {
    idle_.push_back({std::move(worker), Clock::Real()->Now()});
  } else {
    wanted_ = std::max(wanted_, std::min(Total(), max_workers_));  // as many as there were, this one included
  }
  --busy_;
  freed_.Signal();
  upkeep_.Signal();
  // A broken worker is destroyed after the lock is released: `worker` was declared before it.
}

void WorkerPool::EnsureMaintenance() {
  if (!maintenance_.joinable()) maintenance_ = std::thread([this] { Maintain(); });
}

void WorkerPool::Maintain() {
  while (true) {
    std::vector<Idle> retired;
    bool start = false;
    {
      MutexLock lock(&mu_);
      if (stopping_) return;
      const absl::Time now = Clock::Real()->Now();
      while (!idle_.empty() && now - idle_.front().since >= options_.idle_retirement) {
        retired.push_back(std::move(idle_.front()));
        idle_.pop_front();
      }
      if (Total() < wanted_) {
        start = true;
        ++starting_;
        ++background_;
      } else {
        wanted_ = 0;
        if (retired.empty()) {
          const absl::Duration wait =
              idle_.empty() ? absl::Hours(24) : idle_.front().since + options_.idle_retirement - now;
          upkeep_.WaitUntil(&mu_, SteadyAfter(wait));
        }
      }
    }
    if (!start) continue;
    absl::StatusOr<std::unique_ptr<WorkerProcess>> worker = WorkerProcess::Start(options_.command);
    const bool warm = worker.ok() && WarmUp(worker->get());
    MutexLock lock(&mu_);
    --starting_;
    --background_;
    if (warm) {
      idle_.push_front({*std::move(worker), Clock::Real()->Now()});
    } else {
      wanted_ = 0;  // the next request tries again, and tells its caller why
    }
    freed_.Signal();
  }
}

}  // namespace trun
