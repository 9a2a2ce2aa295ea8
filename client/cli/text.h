// How trun-client writes numbers and tables for people. Pure functions.
#ifndef TRUN_CLIENT_CLI_TEXT_H_
#define TRUN_CLIENT_CLI_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace trun::cli {

// "812 ns", "3.1 us", "12.4 ms", "1.25 s", "3 min 5 s", "2 h 10 min", "4 d 3 h".
std::string DurationText(absl::Duration duration);
// "17 B", "1.5 KiB", "256 MiB".
std::string FormatBytes(uint64_t bytes);
// "4096", "12,345,678": digits in groups of three from five digits on.
std::string FormatCount(uint64_t count);
// The shortest of %.6g, "nan", "inf", "-inf".
std::string FormatNumber(double value);
// "512x256"; "scalar" for no dimensions.
std::string FormatShape(const std::vector<uint64_t>& shape);
// Bytes that a terminal would act on (control characters, escapes) made visible as \xNN; newlines and tabs
// kept.
std::string Printable(absl::string_view text);
// Columns of a terminal that UTF-8 text takes, every code point counted as one.
size_t DisplayWidth(absl::string_view text);

// A table: the header in capitals, columns two spaces apart, numbers to the right. Rows may be shorter than
// the header. Cells are made printable, with newlines as spaces.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string Render() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

// "name    value" lines with the values aligned, for one thing's facts.
std::string RenderFacts(const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_TEXT_H_
