#include "server/session/retired_executors.h"

#include <utility>

namespace trun {

RetiredExecutors::~RetiredExecutors() { Wait(); }

void RetiredExecutors::JoinDone() {
  endings_.remove_if([](Ending& ending) {
    if (ending.done) ending.thread.join();  // it has nothing left to do
    return ending.done;
  });
}

void RetiredExecutors::Add(std::unique_ptr<ExecutorControl> executor) {
  MutexLock lock(&mu_);
  JoinDone();
  Ending& ending = endings_.emplace_back();
  ending.thread = std::thread([this, &ending, executor = std::move(executor)]() mutable {
    executor.reset();
    MutexLock lock(&mu_);
    ending.done = true;
    changed_.SignalAll();
  });
}

void RetiredExecutors::Wait() {
  MutexLock lock(&mu_);
  while (true) {
    JoinDone();
    if (endings_.empty()) return;
    changed_.Wait(&mu_);
  }
}

}  // namespace trun
