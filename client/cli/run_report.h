// What `trun-client run` says at its end.
#ifndef TRUN_CLIENT_CLI_RUN_REPORT_H_
#define TRUN_CLIENT_CLI_RUN_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/compare.h"
#include "nlohmann/json_fwd.hpp"
#include "trun/client.h"

namespace trun::cli {

struct CheckedOutput {
  std::string expected_file;
  Tolerance tolerance;
  Comparison comparison;
};

struct ShownTensor {
  std::string name;
  size_t position = 0;
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<uint64_t> shape;
  std::string bytes;
  std::string saved_to;
  std::optional<CheckedOutput> check;
};

struct RunReport {
  std::string device, device_name, target;
  KernelInfo kernel;
  Grid grid;
  LaunchResult launch;
  std::optional<BenchmarkResult> benchmark;
  std::vector<ShownTensor> tensors;
  // As the client saw them.
  absl::Duration open_time, compile_time, upload_time, launch_time, read_time, total_time;
  uint64_t uploaded_bytes = 0;

  bool Matches() const;
};

std::string RenderRunReport(const RunReport& report);
nlohmann::ordered_json RunReportJson(const RunReport& report);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_RUN_REPORT_H_
