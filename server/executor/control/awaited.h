// For tests: the one call that a callback gets, waited for.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_AWAITED_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_AWAITED_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "common/base/mutex.h"

namespace trun {

// Thread-safe.
template <typename T>
class Awaited {
 public:
  std::function<void(T)> callback() {
    return [state = state_](T value) {
      MutexLock lock(&state->mu);
      state->value = std::make_unique<T>(std::move(value));
      ++state->calls;
      state->changed.SignalAll();
    };
  }
  // REQUIRES: called once.
  T Wait() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    MutexLock lock(&state_->mu);
    while (state_->calls == 0 && std::chrono::steady_clock::now() < until)
      state_->changed.WaitUntil(&state_->mu, until);
    EXPECT_EQ(state_->calls, 1) << "no callback within a minute";
    return state_->calls == 0 ? T() : std::move(*state_->value);
  }
  int calls() const {
    MutexLock lock(&state_->mu);
    return state_->calls;
  }

 private:
  struct State {
    Mutex mu;
    CondVar changed;
    int calls = 0;
    std::unique_ptr<T> value;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_CONTROL_AWAITED_H_
