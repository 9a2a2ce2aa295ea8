#include "server/service/call_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

CallPool::CallPool(std::string name, size_t max_threads, size_t max_queued)
    : name_(std::move(name)), max_threads_(max_threads), max_queued_(max_queued) {}

CallPool::~CallPool() { Shutdown(); }

absl::Status CallPool::Submit(std::function<void()> task) {
  MutexLock lock(&mu_);
  if (ending_) return Unavailable(Reason::kDraining, "the daemon is ending");
  if (queue_.size() >= max_queued_) {
    return ResourceExhausted(
        Reason::kQuota, absl::StrCat(max_queued_, " ", name_, " wait already: try again when some are done"),
        {{"limit", absl::StrCat(max_queued_)}});
  }
  queue_.push_back(std::move(task));
  if (idle_ >= queue_.size()) {
    wake_.Signal();
  } else if (threads_.size() < max_threads_) {
    threads_.emplace_back([this] { Work(); });
  }
  return absl::OkStatus();
}

size_t CallPool::unfinished() const {
  MutexLock lock(&mu_);
  return queue_.size() + running_;
}

void CallPool::Shutdown() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    ending_ = true;
    threads.swap(threads_);
    wake_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void CallPool::Work() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(&mu_);
      ++idle_;
      while (queue_.empty() && !ending_) wake_.Wait(&mu_);
      --idle_;
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
    }
    task();
    task = nullptr;  // what it holds goes before it counts as finished
    MutexLock lock(&mu_);
    --running_;
  }
}

}  // namespace trun
