#include "client/cli/run_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/element.h"
#include "client/cli/kernel_input.h"
#include "client/cli/text.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

struct Spread {
  absl::Duration min, median, mean, max;
};

Spread SpreadOf(std::vector<absl::Duration> times) {
  if (times.empty()) return {};
  std::sort(times.begin(), times.end());
  absl::Duration sum;
  for (const absl::Duration time : times) sum += time;
  return {times.front(), times[times.size() / 2], sum / static_cast<int64_t>(times.size()), times.back()};
}

std::string DescribeValues(const ShownTensor& shown, const Summary& summary) {
  const uint64_t count =
      ScalarTypeBytes(shown.dtype) == 0 ? 0 : shown.bytes.size() / ScalarTypeBytes(shown.dtype);
  const std::string first = absl::StrJoin(
      summary.first, ", ", [](std::string* out, double value) { absl::StrAppend(out, FormatNumber(value)); });
  std::string text = absl::StrCat(ScalarTypeName(shown.dtype), "[", absl::StrJoin(shown.shape, ", "),
                                  "]  min ", FormatNumber(summary.min), "  max ", FormatNumber(summary.max),
                                  "  mean ", FormatNumber(summary.mean));
  if (summary.not_finite > 0) absl::StrAppend(&text, "  not finite ", FormatCount(summary.not_finite));
  absl::StrAppend(&text, "\n[", first, count > summary.first.size() ? ", ...]" : "]");
  return text;
}

std::string DescribeCheck(const ShownTensor& shown, const CheckedOutput& check) {
  const Comparison& found = check.comparison;
  const std::string tolerance = absl::StrCat("rtol ", FormatNumber(check.tolerance.relative), ", atol ",
                                             FormatNumber(check.tolerance.absolute));
  if (found.mismatches == 0) {
    return absl::StrCat("ok, largest error ", FormatNumber(found.largest_error), " (", tolerance, ")");
  }
  return absl::StrCat("MISMATCH in ", FormatCount(found.mismatches), " of ", FormatCount(found.elements),
                      " elements (", tolerance, "); worst at ", FormatIndex(found.worst_index, shown.shape),
                      ": got ", FormatNumber(found.worst_got), ", expected ",
                      FormatNumber(found.worst_expected));
}

// A fact whose value has several lines: the later ones under the first.
void AddLines(Facts& facts, const std::string& name, const std::string& value) {
  size_t start = 0;
  std::string label = name;
  while (start <= value.size()) {
    const size_t end = std::min(value.find('\n', start), value.size());
    facts.emplace_back(std::exchange(label, ""), value.substr(start, end - start));
    start = end + 1;
  }
}

}  // namespace

bool RunReport::Matches() const {
  return std::all_of(tensors.begin(), tensors.end(), [](const ShownTensor& tensor) {
    return !tensor.check || tensor.check->comparison.mismatches == 0;
  });
}

std::string RenderRunReport(const RunReport& report) {
  Facts facts;
  facts.emplace_back("device", absl::StrCat(report.device, "  ", report.device_name, "  ", report.target));
  facts.emplace_back("toolchain", absl::StrCat(report.kernel.toolchain,
                                               report.kernel.toolchain_reason.empty()
                                                   ? ""
                                                   : absl::StrCat("  ", report.kernel.toolchain_reason)));
  facts.emplace_back("kernel", absl::StrCat(report.kernel.name, "  grid ", report.grid.x, "x", report.grid.y,
                                            "x", report.grid.z, "  warps ", report.kernel.num_warps,
                                            "  shared ", FormatBytes(report.kernel.shared_bytes)));
  facts.emplace_back("cache", absl::StrCat(report.kernel.cached ? "hit" : "miss", "  ",
                                           report.kernel.cache_key.substr(0, 12)));
  std::string compile = DurationText(report.compile_time);
  if (!report.kernel.stages.empty())
    absl::StrAppend(&compile, "  (", DescribeStages(report.kernel.stages), ")");
  facts.emplace_back("compile", compile);
  if (!report.kernel.log.empty()) AddLines(facts, "log", report.kernel.log);
  facts.emplace_back(
      "upload", absl::StrCat(DurationText(report.upload_time), "  ", FormatBytes(report.uploaded_bytes)));
  std::string launch = absl::StrCat(DurationText(report.launch_time), "  on the device ",
                                    DurationText(report.launch.device_time));
  if (report.launch.warp_instructions > 0) {
    absl::StrAppend(&launch, ", ", FormatCount(report.launch.warp_instructions), " warp instructions");
  }
  facts.emplace_back("launch", launch);
  if (report.benchmark) {
    const Spread spread = SpreadOf(report.benchmark->device_times);
    facts.emplace_back(
        "benchmark", absl::StrCat(report.benchmark->device_times.size(), " launches: min ",
                                  DurationText(spread.min), "  median ", DurationText(spread.median),
                                  "  mean ", DurationText(spread.mean), "  max ", DurationText(spread.max)));
  }
  for (const ShownTensor& shown : report.tensors) {
    AddLines(facts, shown.name, DescribeValues(shown, Summarize({shown.dtype, shown.shape, shown.bytes})));
    if (!shown.saved_to.empty()) facts.emplace_back("", absl::StrCat("saved to ", shown.saved_to));
    if (shown.check)
      facts.emplace_back("check", absl::StrCat(shown.name, ": ", DescribeCheck(shown, *shown.check)));
  }
  facts.emplace_back("total", DurationText(report.total_time));
  std::string text = RenderFacts(facts);
  if (!report.launch.printed.empty()) {
    absl::StrAppend(&text, "printed by the kernel:\n", Printable(report.launch.printed),
                    report.launch.printed.back() == '\n' ? "" : "\n");
  }
  if (!report.launch.trace.empty())
    absl::StrAppend(&text, "trace of one thread:\n", Printable(report.launch.trace));
  return text;
}

nlohmann::ordered_json RunReportJson(const RunReport& report) {
  nlohmann::ordered_json json;
  json["device"] = {{"device", report.device}, {"name", report.device_name}, {"target", report.target}};
  json["kernel"] = KernelJson(report.kernel);
  json["grid"] = {report.grid.x, report.grid.y, report.grid.z};
  json["launch"] = {{"sequence", report.launch.sequence},
                    {"device_us", absl::ToDoubleMicroseconds(report.launch.device_time)},
                    {"warp_instructions", report.launch.warp_instructions},
                    {"printed", report.launch.printed}};
  if (!report.launch.trace.empty()) json["launch"]["trace"] = report.launch.trace;
  if (report.benchmark) {
    const Spread spread = SpreadOf(report.benchmark->device_times);
    nlohmann::ordered_json times = nlohmann::ordered_json::array();
    for (const absl::Duration time : report.benchmark->device_times)
      times.push_back(absl::ToDoubleMicroseconds(time));
    json["benchmark"] = {{"launches", report.benchmark->device_times.size()},
                         {"min_us", absl::ToDoubleMicroseconds(spread.min)},
                         {"median_us", absl::ToDoubleMicroseconds(spread.median)},
                         {"mean_us", absl::ToDoubleMicroseconds(spread.mean)},
                         {"max_us", absl::ToDoubleMicroseconds(spread.max)},
                         {"warp_instructions", report.benchmark->warp_instructions},
                         {"times_us", times}};
  }
  json["tensors"] = nlohmann::ordered_json::array();
  for (const ShownTensor& shown : report.tensors) {
    const Summary summary = Summarize({shown.dtype, shown.shape, shown.bytes});
    nlohmann::ordered_json one;
    one["name"] = shown.name;
    one["position"] = shown.position;
    one["dtype"] = std::string(ScalarTypeName(shown.dtype));
    one["shape"] = shown.shape;
    one["min"] = summary.min;
    one["max"] = summary.max;
    one["mean"] = summary.mean;
    one["not_finite"] = summary.not_finite;
    one["first"] = summary.first;
    if (!shown.saved_to.empty()) one["saved_to"] = shown.saved_to;
    if (shown.check) {
      const Comparison& found = shown.check->comparison;
      std::vector<uint64_t> index;
      uint64_t rest = found.worst_index;
      for (size_t d = shown.shape.size(); d-- > 0; rest /= std::max<uint64_t>(1, shown.shape[d])) {
        index.insert(index.begin(), rest % std::max<uint64_t>(1, shown.shape[d]));
      }
      one["check"] = {{"ok", found.mismatches == 0},
                      {"expected", shown.check->expected_file},
                      {"rtol", shown.check->tolerance.relative},
                      {"atol", shown.check->tolerance.absolute},
                      {"mismatches", found.mismatches},
                      {"elements", found.elements},
                      {"largest_error", found.largest_error},
                      {"worst_index", index},
                      {"worst_got", found.worst_got},
                      {"worst_expected", found.worst_expected}};
    }
    json["tensors"].push_back(one);
  }
  json["times_us"] = {{"open", absl::ToDoubleMicroseconds(report.open_time)},
                      {"compile", absl::ToDoubleMicroseconds(report.compile_time)},
                      {"upload", absl::ToDoubleMicroseconds(report.upload_time)},
                      {"launch", absl::ToDoubleMicroseconds(report.launch_time)},
                      {"read", absl::ToDoubleMicroseconds(report.read_time)},
                      {"total", absl::ToDoubleMicroseconds(report.total_time)}};
  json["uploaded_bytes"] = report.uploaded_bytes;
  return json;
}

}  // namespace trun::cli
