// Warm compile workers of one toolchain.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_POOL_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_POOL_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "server/toolchain/triton/worker_process.h"

namespace trun {

struct WorkerPoolOptions {
  WorkerCommand command;
  int max_workers = 0;                                 // 0: as many as the machine has cores
  absl::Duration idle_retirement = absl::Minutes(10);  // an idle worker is ended after this long
  uint64_t retire_above_bytes = uint64_t{1} << 30;     // a worker that keeps more than this is not used again
};

// Thread-safe. Starts nothing until it is asked to. A worker that breaks is thrown away, and a fresh one
// takes its place in the background. The destructor ends all workers. REQUIRES then: no lease is out, no call
// is running.
class WorkerPool {
 public:
  // A worker for one request; gives it back (or throws it away when broken) when destroyed. Movable.
  class Lease {
   public:
    Lease(WorkerPool* pool, std::unique_ptr<WorkerProcess> worker)
        : pool_(pool), worker_(std::move(worker)) {}
    Lease(Lease&& other) = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (worker_ != nullptr) pool_->Return(std::move(worker_));
    }
    WorkerProcess* operator->() const { return worker_.get(); }

   private:
    WorkerPool* pool_;
    std::unique_ptr<WorkerProcess> worker_;
  };

  struct Load {
    int warm = 0;  // idle workers
    int busy = 0;  // leased ones
  };

  explicit WorkerPool(WorkerPoolOptions options);
  ~WorkerPool();

  // A warm worker, one that is being started in the background and that nobody else waits for, a new one, or
  // the first that is given back. DEADLINE_EXCEEDED kCompileTimeout: none became free. Otherwise the statuses
  // of WorkerProcess::Start.
  absl::StatusOr<Lease> Acquire(absl::Duration timeout);
  int max_workers() const { return max_workers_; }

  // Starts workers in the background until `count` are there (or max_workers are). Returns at once.
  void Prewarm(int count);
  Load load() const;

 private:
  struct Idle {
    std::unique_ptr<WorkerProcess> worker;
    absl::Time since;
  };

  void Return(std::unique_ptr<WorkerProcess> worker);
  void Maintain();
  void EnsureMaintenance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int Total() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return static_cast<int>(idle_.size()) + busy_ + starting_;
  }

  const WorkerPoolOptions options_;
  const int max_workers_;

  mutable Mutex mu_;
  CondVar freed_;                               // a worker was given back, or a place for one became free
  CondVar upkeep_;                              // the maintenance thread has something to do
  std::deque<Idle> idle_ ABSL_GUARDED_BY(mu_);  // the most recently used last
  int busy_ ABSL_GUARDED_BY(mu_) = 0;
  int starting_ ABSL_GUARDED_BY(mu_) = 0;
  int background_ ABSL_GUARDED_BY(mu_) =
      0;                                  // of those that start: by the maintenance thread, for whoever comes
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;  // requests without a worker
  int wanted_ ABSL_GUARDED_BY(mu_) = 0;   // workers that the maintenance thread still has to bring up to
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread maintenance_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_POOL_H_
