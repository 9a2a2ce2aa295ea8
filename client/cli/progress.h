#ifndef TRUN_CLIENT_CLI_PROGRESS_H_
#define TRUN_CLIENT_CLI_PROGRESS_H_

#include <chrono>
#include <string>
#include <thread>

#include "absl/strings/string_view.h"
#include "client/cli/console.h"
#include "common/base/mutex.h"

namespace trun::cli {

// A bar on standard error for what takes longer than a second; nothing at all for what is faster, or where
// standard error is no terminal. The destructor wipes it away. Thread-safe.
class Progress {
 public:
  Progress(const Console& console, std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `fraction` below 0: unknown, time alone is shown.
  void Update(absl::string_view step, double fraction);

  // One line of at most `columns`: "installing  [#####.....]  50%  12 s  downloading".
  static std::string RenderLine(absl::string_view what, absl::string_view step, double fraction,
                                std::chrono::seconds elapsed, size_t columns);

 private:
  void Loop();

  const std::string what_;
  const std::chrono::steady_clock::time_point start_;
  Mutex mu_;
  CondVar wake_;
  std::string step_ ABSL_GUARDED_BY(mu_);
  double fraction_ ABSL_GUARDED_BY(mu_) = -1;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // only on a terminal
};

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_PROGRESS_H_
