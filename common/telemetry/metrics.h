// Counters for an operator, in the Prometheus text format.
#ifndef TRUN_COMMON_TELEMETRY_METRICS_H_
#define TRUN_COMMON_TELEMETRY_METRICS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace trun {

// What is counted of one RPC method. Thread-safe; cheap enough for every call. Owned by Metrics.
class RpcSeries {
 public:
  virtual ~RpcSeries() = default;
  virtual void Record(absl::StatusCode code, absl::Duration time) = 0;
};

// Thread-safe. Names: trun_rpcs_total{method,code}, trun_rpc_seconds{method}, and what is added.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The same object for the same method; lives as long as this.
  RpcSeries* Rpc(absl::string_view method);

  // A value read whenever the text is made; `read` must not block. REQUIRES: a name not used before.
  enum class Kind { kCounter, kGauge };
  void AddValue(Kind kind, const std::string& name, const std::string& help, std::function<double()> read);

  std::string Text() const;
  // Text() to a file that a reader never sees half-written (mode 0600).
  absl::Status WriteFile(const std::string& path) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trun

#endif  // TRUN_COMMON_TELEMETRY_METRICS_H_
