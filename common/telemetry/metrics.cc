#include "common/telemetry/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"

namespace trun {
namespace {

constexpr int kCodes = 17;
// Upper bounds in seconds: from a call that only looks something up to a long compile.
constexpr std::array<double, 14> kBounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                            0.025,  0.1,     0.25,   1.0,   5.0,    30.0,  120.0};

// prometheus::Histogram takes a mutex for each observation; plain atomics do for what is asked here.
class AtomicRpcSeries final : public RpcSeries {
 public:
  void Record(absl::StatusCode code, absl::Duration time) override {
    const size_t index = static_cast<size_t>(code) < kCodes ? static_cast<size_t>(code) : 2;
    codes_[index].fetch_add(1, std::memory_order_relaxed);
    const double seconds = absl::ToDoubleSeconds(time);
    size_t bucket = 0;
    while (bucket < kBounds.size() && seconds > kBounds[bucket]) ++bucket;
    buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
    nanoseconds_.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(time)), std::memory_order_relaxed);
  }

  void Collect(const std::string& method, prometheus::MetricFamily& totals,
               prometheus::MetricFamily& times) const {
    for (size_t code = 0; code < kCodes; ++code) {
      const uint64_t count = codes_[code].load(std::memory_order_relaxed);
      if (count == 0) continue;
      prometheus::ClientMetric metric;
      metric.label = {{"method", method},
                      {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}};
      metric.counter.value = static_cast<double>(count);
      totals.metric.push_back(std::move(metric));
    }
    prometheus::ClientMetric metric;
    metric.label = {{"method", method}};
    uint64_t cumulative = 0;
    for (size_t bucket = 0; bucket <= kBounds.size(); ++bucket) {
      cumulative += buckets_[bucket].load(std::memory_order_relaxed);
      prometheus::ClientMetric::Bucket made;
      made.cumulative_count = cumulative;
      made.upper_bound = bucket < kBounds.size() ? kBounds[bucket] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back(made);
    }
    if (cumulative == 0) return;
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) * 1e-9;
    times.metric.push_back(std::move(metric));
  }

 private:
  std::array<std::atomic<uint64_t>, kCodes> codes_{};
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> buckets_{};
  std::atomic<uint64_t> nanoseconds_{0};
};

struct Value {
  Metrics::Kind kind;
  std::string name;
  std::string help;
  std::function<double()> read;
};

}  // namespace

struct Metrics::State {
  mutable Mutex mu;
  std::map<std::string, std::unique_ptr<AtomicRpcSeries>> rpcs ABSL_GUARDED_BY(mu);
  std::vector<Value> values ABSL_GUARDED_BY(mu);
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

RpcSeries* Metrics::Rpc(absl::string_view method) {
  MutexLock lock(&state_->mu);
  auto& series = state_->rpcs[std::string(method)];
  if (series == nullptr) series = std::make_unique<AtomicRpcSeries>();
  return series.get();
}

void Metrics::AddValue(Kind kind, const std::string& name, const std::string& help,
                       std::function<double()> read) {
  MutexLock lock(&state_->mu);
  state_->values.push_back({kind, name, help, std::move(read)});
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families(2);
  families[0].name = "trun_rpcs_total";
  families[0].help = "Finished calls by method and status code";
  families[0].type = prometheus::MetricType::Counter;
  families[1].name = "trun_rpc_seconds";
  families[1].help = "Time of finished calls in the daemon";
  families[1].type = prometheus::MetricType::Histogram;
  std::vector<Value> values;
  {
    MutexLock lock(&state_->mu);
    for (const auto& [method, series] : state_->rpcs) series->Collect(method, families[0], families[1]);
    values = state_->values;
  }
  for (const Value& value : values) {
    prometheus::MetricFamily family;
    family.name = value.name;
    family.help = value.help;
    family.type =
        value.kind == Kind::kCounter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    prometheus::ClientMetric metric;
    (value.kind == Kind::kCounter ? metric.counter.value : metric.gauge.value) = value.read();
    family.metric.push_back(std::move(metric));
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

absl::Status Metrics::WriteFile(const std::string& path) const {
  const std::string text = Text();
  const std::string temporary = absl::StrCat(path, ".new");
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return FromErrno(errno, absl::StrCat("writing ", temporary), Reason::kUnavailable);
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = write(fd.get(), text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FromErrno(errno, absl::StrCat("writing ", temporary), Reason::kUnavailable);
    done += static_cast<size_t>(written);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return FromErrno(errno, absl::StrCat("renaming ", temporary), Reason::kUnavailable);
  }
  return absl::OkStatus();
}

}  // namespace trun
